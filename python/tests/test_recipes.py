"""The recipes of docs/zodb.md: indexes anew, classes that are renamed and dropped. The others are in ``test_evolve``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import evolving
import migrations
import pytest
import scripts
from evolving import catalog_is_exact, opened
from serving import Server
from test_evolve import ANY_DISK, DOCS
from test_evolve import uri as uri  # a fixture

from zeolite import evolve

DOCS_PAGE = Path(__file__).parents[2] / "docs/zodb.md"


def classes(connection: Any) -> dict[str, int]:
    return {name: count for name, _, count in connection._storage._database.kinds() if name.startswith("cms.")}


def test_an_index_is_made_anew(server: Server, uri: str) -> None:
    assert evolve.run(uri, "index", migrations.index, **ANY_DISK)["phase"] == "done"
    with opened(server.address) as connection:
        catalog = connection.root()["catalog"]
        # What a release with a fault in it has left.
        for number in range(0, DOCS, 3):
            catalog.remove(connection.root()["docs"][number])
        connection.transaction_manager.commit()
        with pytest.raises(AssertionError):
            catalog_is_exact(connection)
        assert evolve.run(uri, "reindex", migrations.reindex, **ANY_DISK)["phase"] == "done"
        connection.sync()
        catalog_is_exact(connection)


def test_a_class_is_renamed(server: Server, uri: str) -> None:
    read = f"""
import cms
from ZODB import DB
from zeolite.zodb import Storage
notes = DB(Storage({server.address!r}, server_sync=True)).open().root()["notes"]
print(sorted({{type(note).__name__ for note in notes.values()}}), sum(len(getattr(note, "text", "")) for note in notes.values()))
"""
    before, _ = evolving.process("-c", read, release=3).communicate(timeout=60)
    assert "Memo" not in before
    for name in ("renamed", "referring"):
        assert evolve.run(uri, name, getattr(migrations, name), **ANY_DISK)["phase"] == "done"
    with opened(server.address) as connection:
        assert (classes(connection).get("cms.Note"), classes(connection)["cms.Memo"]) == (None, 40)
    after, _ = evolving.process("-c", read, release=3).communicate(timeout=60)
    assert after == f"['Memo'] {sum(len(f'text {number}') for number in range(40))}\n"


def test_a_class_is_dropped(server: Server, uri: str) -> None:
    assert evolve.run(uri, "dropped", migrations.dropped, **ANY_DISK)["phase"] == "done"
    with opened(server.address) as connection:
        assert len(connection.root()["notes"]) == 0
        connection.close()
        connection.db().storage.pack(time.time() + 1, gc=True)
        connection.open()
        left = classes(connection)
        assert set(left) == {"cms.Doc", "cms.Catalog"}, left


def test_the_page_has_the_code_that_is_tested() -> None:
    page, code = DOCS_PAGE.read_text(), Path(migrations.__file__).read_text()
    section = page[page.index("\n## Evolve\n") :]
    blocks = re.findall(r"```python\n(.*?)```", section[: section.index("\n## ", 5)], re.DOTALL)
    steps = [block for block in blocks if "@evolve.step" in block]
    assert len(steps) >= 5
    for step in steps:
        assert step.strip() in code, step
    section = page[page.index("\n## Your existing script\n") :]
    blocks = re.findall(r"```python\n(#.*?)```", section[: section.index("\n## ", 5)], re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        assert block.strip() in Path(scripts.__file__).read_text(), block
