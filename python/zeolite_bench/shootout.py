"""Owns the run of zodbshootout, the family's own benchmark, on the sides that are installed: each on a server of its own.

Its last release needs pyperf 2.2: with a later one it ends at its own option --profile. Its table is told as it is.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

from .sides import Missing, RelStorage, Zeo, Zeolite


def check() -> None:
    """Raises what is missing."""
    if importlib.util.find_spec("zodbshootout") is None:
        raise Missing("zodbshootout is not installed here: pip install zodbshootout six 'pyperf==2.2.0'")


def _section(side: Any, address: Any) -> str:
    """The storage in a configuration of ZODB."""
    if side is Zeolite:
        return f"<zeolite>\nserver {address}\n</zeolite>"
    if side is Zeo:
        return f"<clientstorage>\nserver {address[0]}:{address[1]}\n</clientstorage>"
    return f"<relstorage>\n<postgresql>\ndsn {address}\ndriver psycopg2\n</postgresql>\n</relstorage>"


def run(sides: list[Any], directory: str | None, options: list[str]) -> int:
    """Runs it with these options of its own."""
    with ExitStack() as stack:
        texts = ["%import zeolite.zodb", "%import ZEO"]
        if RelStorage in sides:
            texts.append("%import relstorage")
        for side in sides:
            place = stack.enter_context(TemporaryDirectory(prefix="zeolite-bench-", dir=directory))
            server = side(place, [])
            stack.callback(server.stop)
            texts.append(f"<zodb {side.name}>\n{_section(side, server.address)}\n</zodb>")
        file = os.path.join(stack.enter_context(TemporaryDirectory(prefix="zeolite-bench-")), "zodb.conf")
        with open(file, "w") as conf:
            conf.write("\n".join(texts) + "\n")
        # What is behind a -- are the names of its benchmarks, which it wants behind the file.
        named = options.index("--") if "--" in options else len(options)
        program = os.path.join(os.path.dirname(sys.executable), "zodbshootout")
        return subprocess.run([program, *options[:named], file, *options[named + 1 :]]).returncode
