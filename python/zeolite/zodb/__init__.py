"""The storage for ZODB: ``Storage(["host:port"])``, ``<zeolite>`` in a configuration file, ``zeolite://host:port/`` as a URI."""

from .storage import Storage

__all__ = ["Storage"]
