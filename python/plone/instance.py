"""Owns a Zope instance in a directory of a test: its zope.conf has a section ``<zeolite>`` for each of its databases; steps are scripts that
``zconsole`` runs in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STEPS = Path(__file__).parent / "steps"

CONF = """\
%import zeolite.zodb
instancehome {directory}
"""
#: Of one database; main is at the root, any other one is mounted where its name says, or where the test does.
DATABASE = """\
<zodb_db {database}>
    mount-point {point}
    {storage}
</zodb_db>
"""
ZEOLITE = """\
    <zeolite>
        server {server}
        database {database}
        server-sync on
        blob-dir {directory}/blobs
        blob-cache-size 100MB
        {more}
    </zeolite>
"""
#: What stays where it was, or comes later.
FILE = """\
    <filestorage>
        path {directory}/{database}.fs
        blob-dir {directory}/{database}-blobs
        pack-gc false
    </filestorage>
"""
MAIN = {"main": "/"}
#: Zope alone: of the installed products none but its own.
ZOPE = """\
<configure xmlns="http://namespaces.zope.org/zope" xmlns:meta="http://namespaces.zope.org/meta">
  <include package="Zope2.App" />
</configure>
"""
#: All that is installed.
EVERYTHING = """\
<configure xmlns="http://namespaces.zope.org/zope" xmlns:five="http://namespaces.zope.org/five">
  <include package="Products.Five" />
  <five:loadProducts file="meta.zcml" />
  <five:loadProducts />
  <five:loadProductsOverrides />
</configure>
"""


class Instance:
    """A Zope; each step is a process of its own. Databases that are ``in_files`` have a Data.fs, all others are the server's."""

    def __init__(
        self,
        directory: Path,
        server: str,
        zcml: str,
        databases: Sequence[str] = ("main",),
        more: str = "",
        *,
        points: Mapping[str, str] = MAIN,
        in_files: Sequence[str] = (),
    ):
        (directory / "etc").mkdir(parents=True)
        (directory / "etc/site.zcml").write_text(zcml)
        self.conf = directory / "etc/zope.conf"
        sections = []
        for name in databases:
            kind = FILE if name in in_files else ZEOLITE
            storage = kind.format(database=name, server=server, directory=directory, more=more)
            point = {**MAIN, **points}.get(name, f"/{name}")
            sections.append(DATABASE.format(database=name, point=point, storage=storage))
        self.conf.write_text(CONF.format(directory=directory) + "".join(sections))
        self.directory = directory

    def begin(self, step: str, *arguments: object) -> subprocess.Popen[str]:
        """Starts a step."""
        zconsole = [sys.executable, "-m", "Zope2.utilities.zconsole", "run", str(self.conf), str(STEPS / f"{step}.py")]
        return subprocess.Popen(
            [*zconsole, *map(str, arguments)], cwd=self.directory, stdout=subprocess.PIPE, text=True
        )

    def end(self, process: subprocess.Popen[str]) -> Any:
        """Waits for it: its last line, which is JSON."""
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
        return json.loads(out.splitlines()[-1])

    def run(self, step: str, *arguments: object) -> Any:
        """Runs a step."""
        return self.end(self.begin(step, *arguments))
