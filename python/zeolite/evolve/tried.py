"""Owns what a dry run has found, as people read it: numbers, errors, and the states of some objects before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Of one value's text.
CHARS_MAX = 200


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


def differing(oid: int | None, before: dict[str, Any], after: dict[str, Any]) -> Sample:
    """A sample of an object's parts, before and after."""
    old, new = ({str(name): repr(value)[:CHARS_MAX] for name, value in parts.items()} for parts in (before, after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return Sample(oid, {name: (old.get(name), new.get(name)) for name in names})
