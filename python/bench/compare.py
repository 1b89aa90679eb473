"""Owns the comparison: the same ZODB programs on Zeolite and on ZEO, on one machine in one run, the rounds of both in turns.

Every round has a server of its own on an empty directory, which is deleted afterwards. What is told is the median of the rounds, as a
ratio to ZEO's. The programs check what they did: counters, trees, indexes against documents.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pain
import speeds
from sides import SIDES, Zeo, Zeolite

#: What is measured: its name, its unit, whether more is better, and the ratio to ZEO that it should have.
SPEEDS = [
    ("one", "commit of 1 object, p50", "ms", False, 1.0),
    ("eight", f"commits of 1 object, {speeds.CLIENTS} processes", "/s", True, 1.5),
    ("large", f"commit of {speeds.MANY:,} objects, p50", "ms", False, 0.5),
    ("cold", "cold loads, one by one", "/s", True, 1.0),
    ("prefetched", "cold loads, prefetched", "/s", True, 2.0),
    ("warm", "loads from the client's cache", "/s", True, 0.8),
    ("hot", f"one counter and one tree, {speeds.HOT} processes", "/s", True, 1.0),
    ("hot conflicts", "conflicts of these, per 1,000 commits", "", False, None),
    ("import", "import of a Data.fs", "MB/s", True, 1.0),
]
PAIN = [
    ("edits", "edits beside the evolve", ""),
    ("conflicts", "conflict errors at the site", ""),
    ("of documents", "of these on one document that both have written", ""),
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

Results = dict[str, dict[str, list[float]]]


def main() -> None:
    """Runs what was asked for."""
    # ZEO tells of each lock, in the client and in its server, which inherits this.
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(prog="python/bench/run", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["speeds", "pain", []], help="what to measure [default: both]")
    parser.add_argument("--rounds", type=int, default=3, help="of the speeds [3]")
    parser.add_argument("--seconds", type=float, default=2, help="how long each measurement of commits takes [2]")
    parser.add_argument("--megabytes", type=int, default=20, help="of the Data.fs that is imported [20]")
    parser.add_argument("--pained", nargs="*", choices=PAINED, default=list(PAINED), help="evolved beside a site [all]")
    parser.add_argument("--documents", type=int, default=4_000, help="of the site; 20000 is a real one [4000]")
    parser.add_argument("--clients", type=int, nargs="*", default=[2, 8], help="that edit [2 8]")
    parser.add_argument("--edits", type=float, default=10, help="of each client in a second, if it can [10]")
    parser.add_argument("--quiet", type=float, default=5, help="seconds of the site without the evolve [5]")
    parser.add_argument("--data", help="where to put the data; it matters which disk that is [the system's]")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of Zeolite's server")
    args = parser.parse_args()
    parts = args.parts or ["speeds", "pain"]
    if "speeds" in parts:
        table("ZODB beside ZEO", SPEEDS, rounds(args, args.rounds, _speeds))
    for clients in args.clients if "pain" in parts else []:
        _pain(args, clients)


def _speeds(side: Any, args: Any) -> dict[str, float]:
    told = on_a_server(side, args, lambda served, _: speeds.measure(served, args.seconds))
    empty = on_a_server(side, args, lambda served, at: {"import": speeds.imported(served, at, args.megabytes)})
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


def rounds(args: Any, count: int, measure: Any) -> Results:
    """In turns: who was first is second in the next round."""
    results: Results = {side.name: defaultdict(list) for side in SIDES}
    for number in range(count):
        for side in SIDES if number % 2 == 0 else reversed(SIDES):
            print(f"round {number + 1} of {count}: {side.name}", file=sys.stderr, flush=True)
            for name, value in measure(side, args).items():
                results[side.name][name].append(value)
    return results


def table(title: str, rows: list[Any], results: Results) -> None:
    """As the other benchmarks tell it."""
    print(f"\n## {title}\n\n| measured | Zeolite | ZEO | Zeolite / ZEO | aim | |\n|---|---|---|---|---|---|")
    for name, what, unit, more_is_better, aim in rows:
        ours, theirs = (statistics.median(results[side.name][name]) for side in (Zeolite, Zeo))
        ratio = ours / theirs if theirs else None
        reached = ""
        if aim is not None:
            good = ours <= aim * theirs if not more_is_better else ours >= aim * theirs
            reached = "yes" if good else "**no**"
        aimed = "" if aim is None else f"{'≥' if more_is_better else '≤'} {aim:g}"
        told = "" if ratio is None else f"{ratio:.2f}"
        print(f"| {what} | {number(ours, unit)} | {number(theirs, unit)} | {told} | {aimed} | {reached} |", flush=True)


def number(value: float, unit: str) -> str:
    """As many digits as mean something."""
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()


if __name__ == "__main__":
    main()
