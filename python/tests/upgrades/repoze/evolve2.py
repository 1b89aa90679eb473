"""Titles in small letters, and a catalog."""

from scripts import evolve_repoze as evolve

__all__ = ["evolve"]
