"""Zeolite for Python. ``zeolite.zodb`` has the storage for ZODB; ``zeolite.errors`` the exceptions of everything in this package."""

from ._zeolite import __version__

__all__ = ["__version__"]
