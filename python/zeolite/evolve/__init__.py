"""Evolve: migrations beside the live site. docs/evolve.md says what a job is, docs/python.md and docs/zodb.md have the recipes.

    evolve.run(db, "pages-2", Page)                    objects of Python's own: the upgrades of a class, all of them

    @evolve.step("cms.Doc", to=2)                      ZODB's
    def titles(doc, tx):
        doc.title_lower = doc.title.lower()

    evolve.run("zeolite://127.0.0.1:7878/", "titles", titles)

For the loop of a script for ZODB that there is already: ``evolve.each(docs, step)``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zeolite.typed.objects import Object

from .jobs import Job, dry_run, plan, run, undo
from .objects import ObjectStep
from .steps import Function, Step
from .tried import DryRun

if TYPE_CHECKING:
    from .chunk import Tx
    from .looping import Report, Unfinished, each

__all__ = ["DryRun", "Job", "Report", "Step", "Tx", "Unfinished", "dry_run", "each", "plan", "run", "step", "undo"]

#: What is there with ZODB alone, and where.
_OF_ZODB = {"Tx": "chunk", "Report": "looping", "Unfinished": "looping", "each": "looping"}


def __getattr__(name: str) -> Any:
    if name not in _OF_ZODB:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_OF_ZODB[name]}"), name)


def step(of: str | type[Object], *, to: int | None = None, name: str = "") -> Callable[[Function], Step]:
    """Decorates a step for the objects of a class: all below version ``to``, or every one once where that is 0. A class of Python's own is
    given as it is, and ``to`` is then its version unless it is said; one of ZODB's is given by its name, and ``to`` is then 0."""

    def decorate(function: Function) -> Step:
        called = name or getattr(function, "__name__", "step")
        if isinstance(of, str):
            return Step(function, of, to or 0, called)
        return ObjectStep(function, of, to, called)

    return decorate
