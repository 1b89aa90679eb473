"""Owns jobs as a program has them: planned, run by as many processes as one likes, taken back. docs/evolve.md says what they are.

What the objects of a job are is its *side*'s: ZODB's (``pickled``), for who names the database by a URI; Python's own classes
(``objects``), for who has a ``zeolite.Database``, or a step for such a class.
"""

from __future__ import annotations

from typing import Any

from zeolite import _zeolite
from zeolite.database import Database
from zeolite.typed.objects import Object

from .objects import ObjectSide, ObjectStep
from .steps import Side, Step, texts
from .tried import DryRun

#: A database, or its URI.
Where = str | Database
#: A step, or a class whose objects its upgrades bring to its version.
What = Step | type[Object]


def _step(what: What) -> Step:
    step = what if isinstance(what, Step) else ObjectStep.upgrading(what)
    step.check()
    return step


def _side(where: Where, step: Step | None = None) -> Side:
    if isinstance(where, Database) or isinstance(step, ObjectStep):
        if step is not None and not isinstance(step, ObjectStep):
            raise TypeError(f"the step {step.name} is for ZODB's objects: name the database by its URI, zeolite://host:port/")
        return ObjectSide(where)
    from .pickled import PickledSide

    return PickledSide(where)


class Job:
    """A job on a database; close it, or use it in a ``with``."""

    def __init__(self, side: Side, native: _zeolite.Job):
        self._side = side
        self._native = native

    @classmethod
    def find(cls, where: Where, name: str) -> Job:
        """The job of a name."""
        job = cls.find_or_none(where, name)
        if job is None:
            raise LookupError(f"there is no evolve {name!r} at {where}; plan it")
        return job

    @classmethod
    def find_or_none(cls, where: Where, name: str, what: What | None = None) -> Job | None:
        """The same; None: there is none."""
        side = _side(where, None if what is None else _step(what))
        try:
            native = _zeolite.Job.find(side.database, name, side.is_typed)
            if native is not None:
                return cls(side, native)
        except BaseException:
            side.close()
            raise
        side.close()
        return None

    def run(self, step: What, *, tasks: int = 1, step_changed: bool = False) -> dict[str, Any]:
        """Works on it until it ends, and says what this worker did. Ctrl-C ends it after its chunk; another worker goes on there."""
        step = _step(step)
        with self._side.stepping(step, remembers=not self.show()["atomic"]) as stepping:
            return self._native.run(step.name, stepping, tasks, step_changed)

    def undo(self) -> dict[str, Any]:
        """Takes the job back, beside the live site."""
        return self._native.undo()

    def resume(self) -> None:
        """Lets what is in the quarantine be tried again, by the next worker."""
        self._native.resume()

    def show(self) -> dict[str, Any]:
        """How far it is."""
        return self._native.show()

    def quarantine(self) -> list[tuple[int | None, str, int, str]]:
        """The objects on which the step has failed: oid, class, version, the end of the traceback."""
        return self._native.quarantine()

    def not_undone(self) -> list[str]:
        """What could not be taken back, and why."""
        return self._native.not_undone()

    def close(self) -> None:
        """Ends the connection, if nobody else in this process has it. Nothing is kept from pack any more."""
        self._side.close()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def plan(where: Where, name: str, what: What, *, gate: bool = False, **settings: object) -> Job:
    """Writes a job down: what the step is for, counted; with a gate the class refuses older versions when it is done. The keywords are
    settings of a job."""
    step = _step(what)
    side = _side(where, step)
    try:
        native = _zeolite.Job.plan(side.database, name, step.class_name, step.to, gate, texts(settings), side.is_typed)
        return Job(side, native)
    except BaseException:
        side.close()
        raise


def run(where: Where, name: str, what: What, *, tasks: int = 1, gate: bool = False, **settings: object) -> dict[str, Any]:
    """Plans a job, unless there is one of that name, and works on it until it ends."""
    with Job.find_or_none(where, name, what) or plan(where, name, what, gate=gate, **settings) as job:
        return job.run(what, tasks=tasks)


def dry_run(where: Where, what: What, *, limit: int = 1000, samples: int = 5) -> DryRun:
    """Steps up to so many objects at a snapshot, and writes nothing. What the step does outside of the database, it does."""
    step = _step(what)
    side = _side(where, step)
    try:
        with side.stepping(step, tried=True) as stepping:
            tried = _zeolite.Job.dry_run(side.database, step.class_name, step.to, stepping, limit, samples, side.is_typed)
    finally:
        side.close()
    numbers, errors, changed = tried
    return DryRun(**numbers, errors=errors, samples=[side.sample(*one) for one in changed])


def undo(where: Where, name: str) -> dict[str, Any]:
    """Takes a job back."""
    with Job.find(where, name) as job:
        return job.undo()
