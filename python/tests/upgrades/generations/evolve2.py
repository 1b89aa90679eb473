"""Titles in small letters."""

from scripts import evolve_generation as evolve

__all__ = ["evolve"]
