"""Zeolite without a client of its own: the reference of docs/clients.md against the vectors that the Rust library keeps, and a program that
speaks gRPC alone, whose objects the command line shows."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from serving import PROGRAM, Server

REPOSITORY = Path(__file__).parents[2]
CLIENTS = REPOSITORY / "docs/clients"


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CLIENTS))
    return importlib.import_module("wire")


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((REPOSITORY / "tests/vectors" / name).read_text())
    assert found
    return found


def test_records(wire: ModuleType) -> None:
    for one in vectors("records.json"):
        blobs = tuple(bytes.fromhex(blob) for blob in one["blobs"])
        record = wire.Record(one["class"], one["version"], bytes.fromhex(one["data"]), tuple(one["refs"]), blobs)
        assert wire.encode_record(record).hex() == one["encoded"], one["name"]
        assert wire.decode_record(bytes.fromhex(one["encoded"])) == record, one["name"]


def test_keys(wire: ModuleType) -> None:
    for one in vectors("keys.json"):
        value = bytes.fromhex(one["value"]) if one["type"] in ("bytes", "fixed") else one["value"]
        assert wire.encode_key(one["type"], value).hex() == one["last"], one
        assert wire.encode_key(one["type"], value, last=False).hex() == one["inner"], one


def test_values(wire: ModuleType) -> None:
    for one in vectors("values.json"):
        encoded = wire.encode_value(one["type"], one["value"])
        assert encoded.hex() == one["encoded"], one
        if one["type"] == "u64":
            assert wire.read_varint(encoded) == (one["value"], len(encoded))


def test_operations(wire: ModuleType) -> None:
    said = {
        "add -2 to a counter": wire.number(-2),
        "offer 7": wire.number(7),
        "add 3 within bounds": wire.number(3),
        "write a register": wire.encode_record(wire.Record("zeolite.Last", 1, b"\1v")),
        "take a unique key": wire.FORMAT + wire.encode_record(wire.Record("zeolite.Unique", 1, b"\1v")),
        "take an item of a queue": wire.FORMAT,
        "append y to a list": wire.appended([b"y"]),
        "add m, which refers to 4, to a set": wire.set_change(b"m", True, (4,)),
        "remove a from a set": wire.set_change(b"a", False),
    }
    assert {name: operation.hex() for name, operation in said.items()} == {
        one["name"]: one["operation"] for one in vectors("operations.json")
    }


def test_data_of_built_in_classes(wire: ModuleType) -> None:
    data = {one["name"]: one["data"] for one in vectors("records.json")}
    assert data["a counter at -5"] == wire.number(-5).hex()
    assert data["a maximum of 9"] == wire.number(9).hex()
    assert data["0 to 9, at 5"] == wire.bounded(5, 0, 9).hex()
    assert data["a set of a and b"] == wire.items([b"a", b"b"]).hex()
    assert data["a list of y and x"] == wire.items([b"y", b"x"]).hex()


def test_cells_of_collections(wire: ModuleType) -> None:
    """Each is made anew from what it means."""
    cells = {(one["of"], one["oid"], one["key"]): one["record"] for one in vectors("cells.json")}
    names = {
        bytes.fromhex(key).decode(): wire.read_named(bytes.fromhex(record))
        for (of, _, key), record in cells.items()
        if of == "the root"
    }
    page, value = names["page"][0], wire.encode_value
    entries = {
        "titles": (wire.encode_key("str", "start"), wire.entry(value("str", "Start"))),
        "scores": (wire.encode_key(["str", "i64"], ["a", -1]), wire.entry(value("u64", 300))),
        "members": (wire.encode_key("u64", 7), wire.entry(b"")),
        "by_title": (wire.encode_key(["str", "oid"], ["Start", page]), wire.entry(b"", (page,))),
        "unique": (wire.encode_key("str", "start"), wire.entry(value("u64", page), (page,), "zeolite.Unique")),
        "trail": (b"", wire.entry(value("u64", 5))),
    }
    objects = {
        "tags": wire.items([value("str", "red")]),
        "visits": wire.number(3),
        "page": wire.CBOR + bytes.fromhex("a3657469746c65655374617274657669657773") + bytes.fromhex("19012c66706172656e74190499"),
    }
    for name, (oid, cls) in names.items():
        assert cells.pop(("the root", 0, wire.root_name(name)[1].hex())) == wire.named(oid, cls).hex(), name
        version, refs = (2, (0x499,)) if name == "page" else (1, ())
        record = wire.Record(cls, version, objects.get(name, wire.COLLECTION), refs)
        assert cells.pop((name, oid, "")) == wire.encode_record(record).hex(), name
        if name in entries:
            key, entry = entries[name]
            assert cells.pop((f"an entry of {name}", oid, key.hex())) == entry.hex(), name
    assert not cells, "nothing is left"


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """Made by the command that the program's head says."""
    line = next(line for line in (CLIENTS / "wiki.py").read_text().splitlines() if "grpc_tools.protoc" in line)
    command = line.replace("python", sys.executable, 1).replace("proto/", f"{REPOSITORY}/proto/").split()
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
    return tmp_path


def test_a_program_without_our_client(server: Server, stubs: Path) -> None:
    path = os.pathsep.join((str(stubs), str(CLIENTS)))

    def wiki() -> list[str]:
        command = [sys.executable, str(CLIENTS / "wiki.py"), server.address]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def shown(*arguments: str) -> str:
        command = [PROGRAM, "--server", server.address, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = wiki()
    assert first[0] == "Welcome" and [line.split()[0] for line in first[1:]] == ["Start", "Stone"]
    assert wiki() == first, "the pages are those that were there"
    assert json.loads(shown("--json", "get", "visits"))["record"]["value"] == 2
    oid = json.loads(shown("--json", "get", "titles/Start"))["record"]["refs"][0]
    assert '"text": "Welcome"' in shown("get", oid)
    shown("verify")


def test_the_server_of_the_page_on_testing() -> None:
    """As it stands there, with the program that was built."""
    page = (REPOSITORY / "docs/testing.md").read_text()
    code = page.split("```python\n")[1].split("```")[0].replace('"zeolite"', repr(PROGRAM))
    names: dict[str, Any] = {}
    exec(code, names)
    process, address = names["server"]()
    try:
        answered = subprocess.run([PROGRAM, "--server", address, "status"], capture_output=True, text=True, timeout=60)
        assert answered.returncode == 0, answered.stderr
    finally:
        process.kill()
        process.wait()
