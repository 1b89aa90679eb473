"""Owns the packages in which repoze.evolution and zope.generations look for the scripts of a version: two, of which the second loops."""
