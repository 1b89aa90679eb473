"""A generation that writes, and leaves it to zope.generations to commit."""

from typing import Any


def evolve(context: Any) -> None:
    context.connection.root()["generation 1"] = True
