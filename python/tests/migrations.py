"""Owns the steps of the evolve tests and of docs/zodb.md: what stands between two marks there is what is run here."""

from __future__ import annotations

from typing import Any

import cms  # noqa: F401  (the release whose versions count)

from zeolite import evolve


@evolve.step("cms.Doc", to=2)
def lower(doc: Any, tx: evolve.Tx) -> None:
    doc.title_lower = doc.title.lower()


@evolve.step("cms.Doc")
def index(doc: Any, tx: evolve.Tx) -> None:
    tx.root()["catalog"].add(doc)


@index.take_back
def unindex(doc: Any, tx: evolve.Tx) -> None:
    tx.root()["catalog"].remove(doc)
