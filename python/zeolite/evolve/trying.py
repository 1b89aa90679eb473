"""Owns what a dry run has found, as people read it: numbers, errors, and the states of some objects before and after."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any

from ZODB.blob import rename_or_copy_blob
from zodbpickle.slowpickle import Unpickler

from zeolite.zodb.blobfiles import Files

#: Of one value's text.
CHARS_MAX = 200


class TriedFiles(Files):
    """Of blobs that steps make and nobody commits: they stay in the directory, under ids of no blob."""

    def take(self, path: str) -> tuple[bytes, str]:
        taken = self._fresh()
        rename_or_copy_blob(path, taken)
        return os.urandom(16), taken


@dataclass
class Sample:
    """An object before and after: attributes that are different, as text; None: it is not there."""

    oid: int | None
    changes: dict[str, tuple[str | None, str | None]]


@dataclass
class DryRun:
    """What would become of the plan. ``other_writes``: objects that are written beside those that are stepped."""

    total: int
    stepped: int
    changed: int
    kept: int
    bad: int
    other_writes: int
    errors: list[tuple[str, int]]
    samples: list[Sample]

    def __str__(self) -> str:
        lines = [
            f"stepped       {self.stepped} of {self.total} objects, nothing is written",
            f"would change  {self.changed}, and {self.other_writes} others beside them",
            f"would fail    {self.bad}",
        ]
        lines += [f"  {objects} times  {error.splitlines()[0]}" for error, objects in self.errors]
        for sample in self.samples:
            lines.append(f"{sample.oid:#x}" if sample.oid is not None else "an object")
            lines += [f"  {name}: {old} -> {new}" for name, (old, new) in sample.changes.items()]
        return "\n".join(lines)


class _Reference:
    def __init__(self, told: Any):
        self.told = told

    def __repr__(self) -> str:
        oid = self.told[0] if isinstance(self.told, tuple) else self.told
        return f"<object {int.from_bytes(oid, 'big'):#x}>" if isinstance(oid, bytes) else "<object>"


def _texts(data: bytes | None) -> dict[str, str]:
    if data is None:
        return {}
    unpickler = Unpickler(io.BytesIO(data))
    unpickler.persistent_load = _Reference
    unpickler.load()
    state = unpickler.load()
    parts = state if isinstance(state, dict) else {"state": state}
    return {str(name): repr(value)[:CHARS_MAX] for name, value in parts.items()}


def sample(oid: int | None, old: bytes, new: bytes | None) -> Sample:
    """What is different."""
    before, after = _texts(old), _texts(new)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return Sample(oid, {name: (before.get(name), after.get(name)) for name in names})
