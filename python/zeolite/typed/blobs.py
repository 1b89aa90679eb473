"""Owns the blob as programs have it: bytes of any length beside the objects (files, pictures), named by whatever refers to them.

    class Photo(zeolite.Object, cls="shop.Photo"):
        image: zeolite.Blob

    tx.root["photo"] = Photo(image=tx.upload(path))        on the server's disk before the commit that names it
    photo.image.read(0, 100)                               a range of it; nothing more is asked for

In a record it is its id, 32 hexadecimal digits as Rust's ``BlobId`` is written, and its header names it: so it is kept as long as a revision
does. An upload that no commit names goes a while later.
"""

from __future__ import annotations

import os
from typing import Any


class Blob:
    """Bytes of the database; ``tx.upload`` makes one."""

    def __init__(self, space: Any, id: bytes):
        self._z_space = space
        self.id = id

    @property
    def length(self) -> int:
        """How many bytes it has."""
        length: int = self._z_space.of_blobs(lambda blobs: blobs.length(self.id))
        return length

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """A range of its bytes, in memory."""
        end = (1 << 63) - 1 if stop is None else stop
        data: bytes = self._z_space.of_blobs(lambda blobs: blobs.read(self.id, start, max(start, end)))
        return data

    def save(self, path: str | os.PathLike[str]) -> int:
        """Writes it into a file that is not there yet, piece by piece; its length."""
        there = os.fspath(path)
        length: int = self._z_space.of_blobs(lambda blobs: blobs.download(self.id, there))
        return length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Blob {self.id.hex()}>"
