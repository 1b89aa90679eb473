"""All that docs/python.md shows runs, on a real server, prints what it says, and has types."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from serving import Server

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
ADDRESS = "127.0.0.1:7878"


def program() -> str:
    """The blocks in their order: one program."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    return "\n\n".join(blocks)


def test_it_runs_and_prints_what_it_says(server: Server, tmp_path: Path) -> None:
    text = program()
    assert text.count(ADDRESS) == 2
    said = re.findall(r"^ *print\(.*\)  # (.*)$", text, re.MULTILINE)
    assert len(said) >= 8
    path = tmp_path / "page.py"
    # The disk of the tests may be as full as it likes.
    path.write_text(text.replace(ADDRESS, server.address).replace("disk_pause_percent=5", "disk_pause_percent=0, disk_stop_percent=0"))
    told = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert (told.returncode, told.stdout.splitlines()) == (0, said), told.stderr


def test_it_has_types(tmp_path: Path) -> None:
    path = tmp_path / "page.py"
    path.write_text(program())
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert told.returncode == 0, told.stdout


def test_a_wrong_type_is_seen(tmp_path: Path) -> None:
    """The check before can fail: the types are not Any."""
    path = tmp_path / "wrong.py"
    path.write_text(
        "import zeolite\n"
        "def wrong(tx: zeolite.Transaction) -> None:\n"
        "    tx.root.map('sizes', int)['a'] = 'text'\n"
        "    tx.root.counter('edits').add('one')\n"
        "    number: str = tx.root.unique('names', int)['a']\n"
        "zeolite.connect('host:1', colour='red')\n"
    )
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert [int(line.split(":")[1]) for line in told.stdout.splitlines() if ": error:" in line] == [3, 4, 5, 6], told.stdout
