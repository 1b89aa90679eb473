"""Plone: a site is made, two editors fill it at once, an image, an undo, an upgrade step, a pack; and all of it is there. A database that
is mounted inside of a site, both on one server, or one of them in a Data.fs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from instance import EVERYTHING, Instance
from serving import Server

from zeolite import evolve

COUNT = 15


@pytest.mark.timeout(900)
def test_a_site_and_its_life(server: Server, tmp_path: Path) -> None:
    plone = Instance(tmp_path / "plone", server.address, EVERYTHING)
    created = plone.run("plone_create")
    print(created)
    assert created["objects"] > 5000
    both = [plone.begin("plone_add", prefix, COUNT) for prefix in ("one", "two")]
    added = [plone.end(process) for process in both]
    print(added)
    assert all(one["found"] >= COUNT - COUNT // 5 for one in added)
    told = plone.run("plone_operate")
    print(told)
    content = {"content": 2 * COUNT, "catalog": 2 * COUNT, "titles": 2 * COUNT, "edited": 10, "bytes": 6 * 200_000}
    assert told["before"] == content
    # With the photo.
    assert told["after"] == {**content, "content": 31, "catalog": 31, "titles": 31}
    assert told["image"] == [640, 480] and 0 < told["scale"][0] < 640
    assert "mistake" in told["undone"] and told["title"] == "Talk one-1" and told["found"] == 0
    assert told["upgraded"] and 5000 < told["packed"] <= told["objects"]


def evolved(address: str) -> None:
    """Each database by itself, while no site runs: the trees of the mounted one hold references into the site's."""

    @evolve.step("BTrees.OOBTree.OOBTree")
    def written_again(tree: Any, tx: evolve.Tx) -> None:
        tree._p_changed = True

    @evolve.step("plone.app.contenttypes.content.File")
    def noted(file: Any, tx: evolve.Tx) -> None:
        file.evolved = True

    for database in ("archive", "main"):
        for step in (written_again, noted):
            report = evolve.run(f"zeolite://{address}/{database}", step.name, step, disk_pause_percent=0, disk_stop_percent=0)
            assert report["phase"] == "done" and report["changed"] > 0 and report["bad"] == 0, report


@pytest.mark.timeout(900)
@pytest.mark.parametrize("in_files", [(), ("archive",), ("main",)], ids=["both on the server", "archive in a file", "main in a file"])
def test_a_database_that_is_mounted_inside_of_a_site(tmp_path: Path, in_files: tuple[str, ...]) -> None:
    server = Server(tmp_path, f"databases.archive.data_dir={tmp_path}/archive")
    try:
        plone = Instance(
            tmp_path / "plone",
            server.address,
            EVERYTHING,
            databases=("main", "archive"),
            points={"archive": "/Plone/archive:/archive"},
            in_files=in_files,
        )
        plone.run("plone_create")
        told = plone.run("plone_mount")
        print(told)
        assert told["databases"] == ["main", "archive"]
        assert told["moved"] == ["main", "main", 200_000]
        assert told["made"] == ["archive", "archive", 100_000]
        assert told["found"] == ["/Plone/archive/minutes", "/Plone/archive/report"]
        assert told["undone"] == ["Both", "Paper", ["Paper"]]
        assert told["aborted"] == ["Both", "Paper"]
        server.kill()
        server.start_again()
        if not in_files:
            evolved(server.address)
        told = plone.run("plone_mounted")
        print(told)
        names = ["minutes", "paper", "report"]
        assert told["content"] == [names, [200_000, 100_000], [f"/Plone/archive/{name}" for name in names]]
        assert told["packed"] == told["content"]
        names.remove("paper")
        assert told["back"] == [names, [200_000, 100_000], [f"/Plone/archive/{name}" for name in names], "archive"]
    finally:
        server.stop()
