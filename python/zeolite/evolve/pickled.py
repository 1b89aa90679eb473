"""Owns the side of ZODB: a database by its URI, chunks in connections of ZODB (``chunk``), blobs in the directory that the URI says."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from ZODB.blob import rename_or_copy_blob
from zodbpickle.slowpickle import Unpickler

from zeolite.zodb.blobfiles import Files
from zeolite.zodb.uri import connected

from .chunk import Stepping
from .steps import ROLE, Step
from .tried import Sample, differing

#: Of a directory that is there for one job alone, how much it may have.
BYTES_MAX = 1 << 30


class TriedFiles(Files):
    """Of blobs that steps make and nobody commits: they stay in the directory, under ids of no blob."""

    def take(self, path: str) -> tuple[bytes, str]:
        taken = self._fresh()
        rename_or_copy_blob(path, taken)
        return os.urandom(16), taken


class _Reference:
    def __init__(self, told: Any):
        self.told = told

    def __repr__(self) -> str:
        oid = self.told[0] if isinstance(self.told, tuple) else self.told
        return f"<object {int.from_bytes(oid, 'big'):#x}>" if isinstance(oid, bytes) else "<object>"


def _parts(data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {}
    unpickler = Unpickler(io.BytesIO(data))
    unpickler.persistent_load = _Reference
    unpickler.load()
    state = unpickler.load()
    return state if isinstance(state, dict) else {"state": state}


class PickledSide:
    """Objects of ZODB's."""

    is_typed = False

    def __init__(self, uri: str):
        self.database, self._keywords = connected(uri, ROLE)

    @contextmanager
    def stepping(self, step: Step, *, tried: bool = False, remembers: bool = True) -> Iterator[Any]:
        """What steps the chunks."""
        with self._blobs(TriedFiles if tried else Files) as files:
            with closing(Stepping(self.database, step, files, remembers)) as stepping:
                yield stepping

    @contextmanager
    def _blobs(self, kind: type[Files]) -> Iterator[Files]:
        """Where the blobs are that steps meet: the directory that the URI says, or one for this time."""
        limit = self._keywords.get("blob_cache_size", 0)
        if "blob_dir" in self._keywords:
            yield kind(self._keywords["blob_dir"], limit, self.database)
            return
        with tempfile.TemporaryDirectory(prefix="zeolite-evolve-") as directory:
            yield kind(directory, limit or BYTES_MAX, self.database)

    def sample(self, oid: int | None, old: bytes, new: bytes | None) -> Sample:
        """What is different."""
        return differing(oid, _parts(old), _parts(new))

    def close(self) -> None:
        """Lets go of the connection."""
        self.database.close()
