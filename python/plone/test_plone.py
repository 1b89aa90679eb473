"""Plone: a site is made, two editors fill it at once, an image, an undo, an upgrade step, a pack; and all of it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from instance import EVERYTHING, Instance
from serving import Server

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
