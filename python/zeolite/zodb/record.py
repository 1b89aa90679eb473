"""Owns what belongs into the header of a record: the class, its schema version, and the objects that it refers to.

The class is the dotted name in the record's first pickle, found without importing it. The version is what the class declares as
``_zeolite_version_`` (0 if it declares none); a class that is stored by this process is imported here, so it is looked up among the
modules that are there, and never imported for it. The references are those that ZODB's own garbage collection follows: weak ones and
those into other databases are not among them.
"""

from __future__ import annotations

import pickletools
import sys
from typing import Any

from ZODB.serialize import referencesf

from .errors import UnscannableRecord

Header = tuple[str, int, list[bytes]]

_GLOBALS = frozenset({"GLOBAL", "INST"})
_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "UNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING", "STRING"})


def header(data: bytes, oid: bytes = b"") -> Header:
    """The class, version and references of a record."""
    try:
        name = _class_name(data)
        return name, _version(name), referencesf(data)
    except Exception as error:
        where = f"object {oid.hex()}: " if oid else ""
        raise UnscannableRecord(
            f"{where}its references cannot be found ({type(error).__name__}: {error}); "
            "a storage that compresses or encrypts has to wrap this one from below"
        ) from error


def _class_name(data: bytes) -> str:
    """``module.name`` of the class: the first one that the first pickle names."""
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _GLOBALS:
            return ".".join(str(argument).split(" "))
        if opcode.name in _STRINGS:
            strings.append(argument.decode("latin-1") if isinstance(argument, bytes) else argument)
        elif opcode.name == "STACK_GLOBAL":
            return ".".join(strings[-2:])
        elif opcode.name in ("TUPLE2", "TUPLE") and len(strings) == 2:
            # An old record: ((module, name), arguments).
            return ".".join(strings)
        elif opcode.name == "STOP":
            break
    raise ValueError("its first pickle names no class")


def _version(name: str) -> int:
    module, _, class_name = name.rpartition(".")
    found: Any = getattr(sys.modules.get(module), class_name, None)
    version = getattr(found, "_zeolite_version_", 0)
    if not isinstance(version, int) or not 0 <= version < 1 << 32:
        raise ValueError(f"_zeolite_version_ of {name} is {version!r}, and has to be a number from 0 to 2**32 - 1")
    return version
