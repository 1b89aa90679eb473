"""Owns the wiki of the tests: the class that `wiki_peer`, the program in Rust beside it, has as well, and that program."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from serving import PROGRAM

import zeolite

PEER = Path(PROGRAM).parent / "examples" / "wiki_peer"


@dataclass
class Place:
    shelf: str
    row: zeolite.U16


class Page(zeolite.Object, cls="wiki.Page", version=2):
    title: str
    body: str
    parent: Page | None = None
    written: datetime
    rating: float = 0.0
    is_public: bool = False
    tags: list[str] = []
    sizes: dict[str, int] = {}
    place: Place = Place("poems", 3)
    hits: zeolite.Counter
    remarks: zeolite.List[str]


class Peer:
    """The program in Rust, on the same database."""

    def __init__(self, address: str):
        self._process = subprocess.Popen([PEER, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words: object) -> Any:
        """One transaction there."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """It ends with its input."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()
