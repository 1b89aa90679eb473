"""Owns the command line: ``python -m zeolite.evolve plan|run|undo|try MODULE:STEP URI NAME``; a class may stand in the place of a step.

A job that nobody has planned is run with ``--plan`` alone: a name that is mistyped is none of another job. Looking at jobs and steering
them is the business of the program ``zeolite evolve``.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import traceback

from zeolite.errors import ZeoliteError
from zeolite.typed.objects import Object

from . import jobs
from .steps import Step

DESCRIPTION = "Migrations beside the live site: of the objects of a class of Python's own (docs/python.md), or of ZODB's (docs/zodb.md)."
EXAMPLES = """examples:
  python -m zeolite.evolve try app:Topic zeolite://127.0.0.1:7878/ topics-2          a class: its upgrades, all of them
  python -m zeolite.evolve run app:Topic zeolite://127.0.0.1:7878/ topics-2 --plan   plans the job if there is none, and works on it
  python -m zeolite.evolve run app:index zeolite://127.0.0.1:7878/ addresses         what evolve.step has made; the job is planned already
"""
#: Objects of the quarantine that are told.
TOLD_MAX = 3


def main(arguments: list[str] | None = None) -> int:
    """0: what was asked for is done; 130: interrupted."""
    asked = _arguments(arguments)
    sys.path.insert(0, "")
    step = named(asked.step)
    try:
        return _done(asked, step)
    except KeyboardInterrupt:
        # After its chunk.
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (ZeoliteError, LookupError, ValueError, TypeError) as error:
        raise SystemExit(f"zeolite.evolve: {error}") from error


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "zeolite.evolve", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["plan", "run", "undo", "try"], help="try: a dry run, with samples")
    parser.add_argument("step", help="MODULE:NAME of a class of objects, or of what evolve.step has made")
    parser.add_argument("uri", help="zeolite://host:port/DATABASE")
    parser.add_argument("name", help="the job's")
    parser.add_argument("--plan", action="store_true", help="with run: plan the job, unless there is one of that name")
    parser.add_argument("--tasks", type=int, help="of a run: parts of the plan that this worker works on at once (1)")
    parser.add_argument("--gate", action="store_true", help="of a plan: refuse older versions when it is done")
    parser.add_argument("--limit", type=int, help="of a dry run: objects that it steps (1000)")
    parser.add_argument("--set", action="append", default=[], type=_setting, metavar="KEY=VALUE", help="of a plan: a setting of the job")
    asked = parser.parse_args(arguments)
    plans = asked.what == "plan" or (asked.what == "run" and asked.plan)
    for option, is_given, is_of, told in (
        ("--plan", asked.plan, plans, "run"),
        ("--set", asked.set, plans, "plan, and run with --plan"),
        ("--gate", asked.gate, plans, "plan, and run with --plan"),
        ("--tasks", asked.tasks is not None, asked.what == "run", "run"),
        ("--limit", asked.limit is not None, asked.what == "try", "try"),
    ):
        if is_given and not is_of:
            parser.error(f"{option} is for {told}; {asked.what} does nothing with it")
    asked.tasks, asked.limit = 1 if asked.tasks is None else asked.tasks, 1000 if asked.limit is None else asked.limit
    if asked.tasks < 1 or asked.limit < 1:
        parser.error("--tasks and --limit are 1 at least")
    return asked


def _setting(text: str) -> tuple[str, str]:
    name, is_one, value = text.partition("=")
    if not is_one:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, value


def _done(asked: argparse.Namespace, step: jobs.What) -> int:
    settings = dict(asked.set)
    if asked.what == "try":
        print(jobs.dry_run(asked.uri, step, limit=asked.limit))
        return 0
    if asked.what == "plan":
        with jobs.plan(asked.uri, asked.name, step, gate=asked.gate, **settings) as job:
            print(job.show()["state"])
        return 0
    found = jobs.Job.find_or_none(asked.uri, asked.name, step)
    if found is None and not (asked.plan and asked.what == "run"):
        plans = "; --plan plans it, `zeolite evolve list` has those that there are" if asked.what == "run" else ""
        raise LookupError(f"there is no evolve {asked.name!r} at {asked.uri}{plans}")
    if found and (asked.set or asked.gate):
        print("it was planned before: --set and --gate are of a plan, and change nothing now", file=sys.stderr)
    with found or jobs.plan(asked.uri, asked.name, step, gate=asked.gate, **settings) as job:
        report = job.undo() if asked.what == "undo" else job.run(step, tasks=asked.tasks)
        print(", ".join(f"{name} {value}" for name, value in report.items()))
        if report["phase"] in ("done", "undone") and not report["bad"]:
            return 0
        _tell(job, asked.name, is_undone=report["phase"] == "undone")
    return 1


def _tell(job: jobs.Job, name: str, *, is_undone: bool) -> None:
    """Why it is not done, and what to do."""
    shown, bad, job_name = job.show(), job.quarantine(), shlex.quote(name)
    print(f"the evolve is {shown['state']}", file=sys.stderr)
    if is_undone:
        for left in job.not_undone()[:TOLD_MAX]:
            print(f"  {left}", file=sys.stderr)
        told = "what was left stays in the new shape: step it back (docs/evolve.md, Rolling a release back)"
        print(f"`zeolite evolve show {job_name} --quarantine 0` lists it; {told}", file=sys.stderr)
        return
    for oid, class_name, version, error in bad[:TOLD_MAX]:
        first = (error.splitlines() or [""])[0]
        print(f"  {class_name}, version {version}, {'an entry' if oid is None else f'{oid:x}'}: {first}", file=sys.stderr)
    if bad:
        told = f"mend the step, let it be tried again by `zeolite evolve resume {job_name}`, and run this again"
        print(f"{shown['bad']} in the quarantine; `zeolite evolve show {job_name}` has their tracebacks: {told}", file=sys.stderr)
    else:
        print(f"`zeolite evolve show {job_name}` says more; `zeolite evolve resume {job_name}` and run this again", file=sys.stderr)


def named(path: str) -> jobs.What:
    """The step, or the class, of that name."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name or "step", None)
    except Exception as error:
        is_there = not isinstance(error, ModuleNotFoundError) or error.name is None or not module.startswith(error.name)
        if is_there:  # where in it, its author wants to know
            traceback.print_exc()
        told = "it failed" if is_there else "there is none where Python looks: run this beside it, or set PYTHONPATH"
        raise SystemExit(f"the module {module!r} cannot be imported: {told} ({type(error).__name__}: {error})") from None
    if isinstance(found, Step) or (isinstance(found, type) and issubclass(found, Object)):
        return found
    raise SystemExit(f"{path} is no step; name what evolve.step has decorated, or a class of objects, as MODULE:NAME")


if __name__ == "__main__":
    raise SystemExit(main())
