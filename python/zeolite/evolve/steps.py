"""Owns the step: what an application makes of one object, of which class, and up to which version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zeolite.zodb.versions import version_of

Function = Callable[[Any, Any], Any]


class Step:
    """A function on one object, made by ``step``. Calling it calls the function."""

    def __init__(self, function: Function, class_name: str, to: int, name: str):
        self.function = function
        self.class_name = class_name
        self.to = to
        self.name = name
        self.taking_back: Function | None = None

    def __call__(self, obj: Any, tx: Any) -> Any:
        return self.function(obj, tx)

    def take_back(self, function: Function) -> Function:
        """Decorates what takes away what the step has made elsewhere. It is called with the object as the step had left it, when
        a live transaction has gone over the object since, just before it is stepped anew. Without one the step itself has to
        replace what it made before."""
        self.taking_back = function
        return function

    def check(self) -> None:
        """Refuses a step that cannot come to its end here."""
        declared = version_of(self.class_name)
        if self.to and declared < self.to:
            raise ValueError(
                f"the step {self.name} is to bring {self.class_name} to version {self.to}, but the class that is imported here "
                f"declares _zeolite_version_ = {declared}; import the new code, and let it declare {self.to}"
            )


def step(class_name: str, *, to: int = 0, name: str = "") -> Callable[[Function], Step]:
    """Decorates a step for the objects of a class: all below version ``to``; without it every one once."""

    def decorate(function: Function) -> Step:
        return Step(function, class_name, to, name or getattr(function, "__name__", "step"))

    return decorate


def texts(settings: dict[str, object]) -> dict[str, str]:
    """Settings of a job as it takes them."""
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in settings.items()}
