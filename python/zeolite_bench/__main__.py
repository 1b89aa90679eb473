"""Owns the comparison: the same ZODB programs on Zeolite, ZEO and RelStorage, on one machine in one run, the rounds of all in turns.

Every round has a server of its own on an empty directory, which is deleted afterwards. What is told is the median of the rounds, as a
ratio to ZEO's. The programs check what they did: counters, trees, indexes against documents.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from . import pain, shootout, speeds
from .sides import SIDES, Missing, Zeo, Zeolite

#: What is measured: its name, its unit, whether more is better, and the ratio to ZEO that it should have.
SPEEDS = [
    ("one", "commit of 1 object, p50", "ms", False, 0.6),
    ("eight", f"commits of 1 object, {speeds.CLIENTS} processes", "/s", True, 10),
    ("large", f"commit of {speeds.MANY:,} objects, p50", "ms", False, 0.3),
    ("cold", "cold loads, one by one", "/s", True, 2.5),
    ("prefetched", "cold loads, prefetched", "/s", True, 5),
    ("warm", "loads from the client's cache", "/s", True, 1),
    ("again", "loads after a restart of the client", "/s", True, 1),
    ("hot", f"one counter and one tree, {speeds.HOT} processes", "/s", True, 3),
    ("hot conflicts", "conflicts of these, per 1,000 commits", "", False, None),
    ("import", "import of a Data.fs", "MB/s", True, 1),
    ("memory", f"memory of a process, its cache of {speeds.FILLED >> 20} MiB full, in a file", "MB", False, 1),
    ("in memory", "the same, in memory (ZEO's is in a file)", "MB", False, None),
]
PAIN = [
    ("edits", "edits beside the evolve", ""),
    ("conflicts", "conflict errors at the site", ""),
    ("of live", "of these on one document that two live clients have written", ""),
    ("of evolve", "of these on one document, against the evolve", ""),
    ("of trees", "of these in trees alone", ""),
    ("quiet edits", "edits while it is quiet", ""),
    ("quiet conflicts", "conflict errors while it is quiet", ""),
    ("quiet of trees", "of these in trees alone", ""),
    ("p50", "live p50 beside the evolve", "ms"),
    ("quiet p50", "live p50 while it is quiet", "ms"),
    ("p99", "live p99 beside the evolve", "ms"),
    ("quiet p99", "live p99 while it is quiet", "ms"),
    ("p99 to quiet", "p99 beside / quiet; aim 1.2", ""),
    ("evolve", "the evolve beside the site", "s"),
    ("alone", "the evolve alone", "s"),
    ("evolve to alone", "beside / alone; aim 2", ""),
    ("retries", "chunks done again, or objects stepped again", ""),
]
#: What changes ZODB's rules, and is asked for.
ASKED = ["zodb.replay_splits=true", "zodb.merge_same_changes=true", "zodb.merge_mappings=true"]
#: Who is evolved in the pain: the server, its settings, whether by ``zeolite.evolve``.
PAINED: dict[str, tuple[Any, list[str], bool]] = {
    "zeolite": (Zeolite, [], False),
    "asked": (Zeolite, ASKED, False),
    "own": (Zeolite, [], True),
    "own-asked": (Zeolite, ASKED, True),
    "zeo": (Zeo, [], False),
}

#: Of zodbshootout: few values, since its defaults take an hour.
SHOOT = "--fast --quiet --processes 1 --values 2 --warmups 0 --loops 1 --concurrency 2 --object-counts 100"

Results = dict[str, dict[str, list[float]]]


def main() -> None:
    """Runs what was asked for."""
    # ZEO tells of each lock, in the client and in its server, which inherits this.
    logging.disable(logging.CRITICAL)
    # Who ends it ends its servers as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="zeolite bench zodb", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["speeds", "pain", "shootout", []], help="what to measure [default: the first two]")
    parser.add_argument("--sides", nargs="*", choices=SIDES, help="of the speeds [those that are installed]")
    parser.add_argument("--rounds", type=int, default=3, help="of the speeds [3]")
    parser.add_argument("--seconds", type=float, default=2, help="how long each measurement of commits takes [2]")
    parser.add_argument("--megabytes", type=int, default=20, help="of the Data.fs that is imported [20]")
    parser.add_argument("--pained", nargs="*", choices=PAINED, default=list(PAINED), help="evolved beside a site [all]")
    parser.add_argument("--documents", type=int, default=4_000, help="of the site; 20000 is a real one [4000]")
    parser.add_argument("--clients", type=int, nargs="*", default=[2, 8], help="that edit [2 8]")
    parser.add_argument("--edits", type=float, default=10, help="of each client in a second, if it can [10]")
    parser.add_argument("--quiet", type=float, default=5, help="seconds of the site without the evolve [5]")
    parser.add_argument("--shoot", default=SHOOT, help="options of zodbshootout, in quotation marks, and behind -- its benchmarks [%(default)s, all]")
    parser.add_argument("--data", help="where to put the data; it matters which disk that is [the system's]")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of Zeolite's server")
    args = parser.parse_args()
    parts = args.parts or ["speeds", "pain"]
    painted = {PAINED[name][0] for name in args.pained} if "pain" in parts else set()
    try:
        sides = [SIDES[name] for name in args.sides] if args.sides else installed()
        for side in {*sides, *painted}:
            side.check()
        if "shootout" in parts:
            shootout.check()
    except Missing as error:
        raise SystemExit(str(error)) from None
    if "speeds" in parts:
        table(SPEEDS, sides, rounds(args, sides, _speeds))
    if "shootout" in parts and (code := shootout.run(sides, args.data, shlex.split(args.shoot))):
        raise SystemExit(code)
    for clients in args.clients if "pain" in parts else []:
        _pain(args, clients)


def installed() -> list[Any]:
    """Zeolite, and what there is to compare it with."""
    found = [Zeolite]
    for side in SIDES.values():
        if side is not Zeolite:
            try:
                side.check()
                found.append(side)
            except Missing as error:
                print(error, file=sys.stderr)
    return found


def _speeds(side: Any, args: Any) -> dict[str, float]:
    told = on_a_server(side, args, lambda served, at: speeds.measure(served, at, args.seconds))
    empty = on_a_server(side, args, lambda served, at: speeds.measure_copies(served, at, args.megabytes))
    return {**told, **empty}


def _pain(args: Any, clients: int) -> None:
    columns = {}
    for name in args.pained:
        side, settings, own = PAINED[name]
        print(f"{clients} clients: {name}", file=sys.stderr, flush=True)
        columns[name] = on_a_server(
            side,
            args,
            lambda served, _, own=own: pain.measure(
                served, own, args.documents, clients, 1 / args.edits, args.quiet
            ),
            settings,
        )
    print(f"\n## An evolve of {args.documents:,} documents beside {clients} live clients\n")
    print(f"| measured | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, what, unit in PAIN:
        print(f"| {what} | {' | '.join(number(numbers[name], unit) for numbers, _ in columns.values())} |")
    for when, at in (("while it was quiet", 0), ("beside the evolve", 1)):
        print(f"\n| conflict errors {when} | against | in | why |\n|---|---|---|---|")
        for name, (_, told) in columns.items():
            for (who, where, why), count in told[at].most_common():
                print(f"| {name}: {count} | {who} | {where} | {why} |", flush=True)


def on_a_server(side: Any, args: Any, measure: Any, settings: Sequence[str] = ()) -> Any:
    """On one of its own."""
    directory = tempfile.mkdtemp(prefix="zeolite-bench-", dir=args.data)
    try:
        server = side(directory, [*settings, *args.set])
        try:
            return measure((side.name, server.address), directory)
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


def rounds(args: Any, sides: list[Any], measure: Any) -> Results:
    """In turns: who was first is last in the next round."""
    results: Results = {side.name: defaultdict(list) for side in sides}
    for number in range(args.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            print(f"round {number + 1} of {args.rounds}: {side.name}", file=sys.stderr, flush=True)
            for name, value in measure(side, args).items():
                results[side.name][name].append(value)
    return results


def table(rows: list[Any], sides: list[Any], results: Results) -> None:
    """As the other benchmarks tell it; the aims are ratios to ZEO."""
    others = [side.name for side in sides if side is not Zeolite]
    columns = ["measured", *results, *(f"Zeolite / {name}" for name in others), "aim", ""]
    print(f"\n## ZODB on {', '.join(results)}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, what, unit, more_is_better, aim in rows:
        medians = {side: statistics.median(values[name]) for side, values in results.items()}
        ours = medians.get(Zeolite.name, float("nan"))
        ratios = [f"{ours / medians[other]:.2f}" if medians[other] else "" for other in others]
        theirs = medians.get(Zeo.name)
        reached = ""
        if aim is not None and theirs is not None:
            reached = "yes" if (ours >= aim * theirs if more_is_better else ours <= aim * theirs) else "**no**"
        aimed = "" if aim is None else f"{'≥' if more_is_better else '≤'} {aim:g}"
        told = [what, *(number(value, unit) for value in medians.values()), *ratios, aimed, reached]
        print(f"| {' | '.join(told)} |", flush=True)


def number(value: float, unit: str) -> str:
    """As many digits as mean something."""
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()


if __name__ == "__main__":
    main()
