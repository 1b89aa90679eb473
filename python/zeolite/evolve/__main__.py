"""Owns the command line: ``python -m zeolite.evolve plan|run|undo|try MODULE:STEP URI NAME``; a class may stand in the place of a step.

Looking at jobs and steering them is the business of the program ``zeolite evolve``.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from . import jobs
from zeolite.typed.objects import Object

from .steps import Step


def main(arguments: list[str] | None = None) -> int:
    """0: what was asked for is done."""
    parser = argparse.ArgumentParser("zeolite.evolve", description="Migrates ZODB's objects beside the live site.")
    parser.add_argument("what", choices=["plan", "run", "undo", "try"], help="try: a dry run, with samples")
    parser.add_argument("step", help="MODULE:NAME of what evolve.step has made")
    parser.add_argument("uri", help="zeolite://host:port/")
    parser.add_argument("name", help="the job's")
    parser.add_argument("--tasks", type=int, default=1, help="parts of the plan that this worker works on at once")
    parser.add_argument("--gate", action="store_true", help="refuse older versions when it is done")
    parser.add_argument("--limit", type=int, default=1000, help="objects that a dry run steps")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the job")
    asked = parser.parse_args(arguments)
    sys.path.insert(0, "")
    step = named(asked.step)
    settings = dict(setting.split("=", 1) for setting in asked.set)
    if asked.what == "try":
        print(jobs.dry_run(asked.uri, step, limit=asked.limit))
        return 0
    if asked.what == "plan":
        with jobs.plan(asked.uri, asked.name, step, gate=asked.gate, **settings) as job:
            print(job.show()["state"])
        return 0
    if asked.what == "undo":
        report = jobs.undo(asked.uri, asked.name)
    else:
        report = jobs.run(asked.uri, asked.name, step, tasks=asked.tasks, gate=asked.gate, **settings)
    print(", ".join(f"{name} {value}" for name, value in report.items()))
    return 0 if report["phase"] in ("done", "undone") and not report["bad"] else 1


def named(path: str) -> jobs.What:
    """The step, or the class, of that name."""
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name or "step", None)
    if isinstance(found, Step) or (isinstance(found, type) and issubclass(found, Object)):
        return found
    raise SystemExit(f"{path} is no step; name what evolve.step has decorated, or a class of objects, as MODULE:NAME")


if __name__ == "__main__":
    raise SystemExit(main())
