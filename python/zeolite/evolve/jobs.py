"""Owns jobs as a program has them: planned, run by as many processes as one likes, taken back. docs/evolve.md says what they are."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from zeolite import _zeolite

from .chunk import Stepping
from .steps import Step, texts
from .trying import DryRun, sample


class Job:
    """A job on a database; close it, or use it in a ``with``."""

    def __init__(self, database: _zeolite.Database, native: _zeolite.Job):
        self._database = database
        self._native = native

    @classmethod
    def find(cls, uri: str, name: str) -> Job:
        """The job of a name."""
        job = cls.find_or_none(uri, name)
        if job is None:
            raise LookupError(f"there is no evolve {name!r} at {uri}; plan it")
        return job

    @classmethod
    def find_or_none(cls, uri: str, name: str) -> Job | None:
        """The same; None: there is none."""
        database = _open(uri)
        try:
            native = _zeolite.Job.find(database, name)
            if native is not None:
                return cls(database, native)
        except BaseException:
            database.close()
            raise
        database.close()
        return None

    def run(self, step: Step, *, tasks: int = 1, step_changed: bool = False) -> dict[str, Any]:
        """Works on it until it ends, and says what this worker did. Ctrl-C ends it after its chunk; another worker goes on there."""
        step.check()
        return self._native.run(step.name, Stepping(self._database, step), tasks, step_changed)

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
        self._database.close()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def plan(uri: str, name: str, step: Step, *, gate: bool = False, **settings: object) -> Job:
    """Writes a job down: what the step is for, counted; with a gate the class refuses older versions when it is done. The keywords are
    settings of a job."""
    step.check()
    database = _open(uri)
    try:
        return Job(database, _zeolite.Job.plan(database, name, step.class_name, step.to, gate, texts(settings)))
    except BaseException:
        database.close()
        raise


def run(uri: str, name: str, step: Step, *, tasks: int = 1, gate: bool = False, **settings: object) -> dict[str, Any]:
    """Plans a job, unless there is one of that name, and works on it until it ends."""
    with Job.find_or_none(uri, name) or plan(uri, name, step, gate=gate, **settings) as job:
        return job.run(step, tasks=tasks)


def dry_run(uri: str, step: Step, *, limit: int = 1000, samples: int = 5) -> DryRun:
    """Steps up to so many objects at a snapshot, and writes nothing. What the step does outside of the database, it does."""
    step.check()
    database = _open(uri)
    try:
        stepping = Stepping(database, step)
        numbers, errors, changed = _zeolite.Job.dry_run(database, step.class_name, step.to, stepping, limit, samples)
    finally:
        database.close()
    return DryRun(**numbers, errors=errors, samples=[sample(*one) for one in changed])


def undo(uri: str, name: str) -> dict[str, Any]:
    """Takes a job back."""
    with Job.find(uri, name) as job:
        return job.undo()


def _open(uri: str) -> _zeolite.Database:
    parts = urlsplit(uri)
    servers = [address for address in parts.netloc.split(",") if address]
    if parts.scheme != "zeolite" or not servers:
        raise ValueError(f"{uri!r} names no server; write zeolite://host:port/")
    said = dict(parse_qsl(parts.query))
    credentials: dict[str, Any] = {name: said[name] for name in ("token_file", "ca", "cert", "key") if name in said}
    return _zeolite.Database(servers, database=unquote(parts.path.strip("/")), role="evolve", **credentials)
