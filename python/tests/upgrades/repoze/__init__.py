"""For repoze.evolution."""
