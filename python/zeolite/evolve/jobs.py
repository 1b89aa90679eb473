"""Owns jobs as a program has them: planned, run by as many processes as one likes, taken back. docs/evolve.md says what they are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from zeolite import _zeolite
from zeolite.zodb.blobfiles import Files
from zeolite.zodb.uri import connected

from .chunk import Stepping
from .steps import Step, texts
from .trying import DryRun, TriedFiles, sample

#: Who evolves, unless the URI says otherwise.
ROLE = "evolve"
#: Of a directory that is there for one job alone, how much it may have.
BYTES_MAX = 1 << 30


class Job:
    """A job on a database; close it, or use it in a ``with``."""

    def __init__(self, database: _zeolite.Database, native: _zeolite.Job, keywords: dict[str, Any]):
        self._database = database
        self._native = native
        self._keywords = keywords

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
        database, keywords = connected(uri, ROLE)
        try:
            native = _zeolite.Job.find(database, name)
            if native is not None:
                return cls(database, native, keywords)
        except BaseException:
            database.close()
            raise
        database.close()
        return None

    def run(self, step: Step, *, tasks: int = 1, step_changed: bool = False) -> dict[str, Any]:
        """Works on it until it ends, and says what this worker did. Ctrl-C ends it after its chunk; another worker goes on there."""
        step.check()
        with _blobs(Files, self._database, self._keywords) as files:
            with closing(Stepping(self._database, step, files, not self.show()["atomic"])) as stepping:
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
        self._database.close()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def plan(uri: str, name: str, step: Step, *, gate: bool = False, **settings: object) -> Job:
    """Writes a job down: what the step is for, counted; with a gate the class refuses older versions when it is done. The keywords are
    settings of a job."""
    step.check()
    database, keywords = connected(uri, ROLE)
    try:
        native = _zeolite.Job.plan(database, name, step.class_name, step.to, gate, texts(settings))
        return Job(database, native, keywords)
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
    database, keywords = connected(uri, ROLE)
    try:
        with _blobs(TriedFiles, database, keywords) as files:
            with closing(Stepping(database, step, files)) as stepping:
                tried = _zeolite.Job.dry_run(database, step.class_name, step.to, stepping, limit, samples)
    finally:
        database.close()
    numbers, errors, changed = tried
    return DryRun(**numbers, errors=errors, samples=[sample(*one) for one in changed])


def undo(uri: str, name: str) -> dict[str, Any]:
    """Takes a job back."""
    with Job.find(uri, name) as job:
        return job.undo()


@contextmanager
def _blobs(kind: type[Files], database: _zeolite.Database, keywords: dict[str, Any]) -> Iterator[Files]:
    """Where the blobs are that steps meet: the directory that the URI says, or one for this time."""
    limit = keywords.get("blob_cache_size", 0)
    if "blob_dir" in keywords:
        yield kind(keywords["blob_dir"], limit, database)
        return
    with tempfile.TemporaryDirectory(prefix="zeolite-evolve-") as directory:
        yield kind(directory, limit or BYTES_MAX, database)
