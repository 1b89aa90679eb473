"""Owns the schema versions of classes: what a class declares as ``_zeolite_version_``, a number; 0 where it declares none.

A class whose objects are stored by this process is imported here. So it is looked up among the modules that are there, and nothing is
imported for it.
"""

from __future__ import annotations

import sys
from typing import Any

VERSION_MAX = (1 << 32) - 1


def version_of(name: str) -> int:
    """The version of the class with that dotted name."""
    module, _, class_name = name.rpartition(".")
    found: Any = getattr(sys.modules.get(module), class_name, None)
    version = getattr(found, "_zeolite_version_", 0)
    if not isinstance(version, int) or not 0 <= version <= VERSION_MAX:
        raise ValueError(f"_zeolite_version_ of {name} is {version!r}, and has to be a number from 0 to {VERSION_MAX}")
    return version
