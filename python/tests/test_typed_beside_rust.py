"""Python's objects and Rust's are the same: bytes against the vectors of all languages, and a program in Rust on the same database."""

from __future__ import annotations

import json
import random
import subprocess
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from serving import PROGRAM, Server
from wiki import Page, Peer, Place

import zeolite
from zeolite.typed import keys
from zeolite.typed.annotations import key_of, shape_of
from zeolite.typed.encoding import Out, Source

VECTORS = Path(__file__).parents[2] / "tests" / "vectors"
WIDTHS = {name.lower(): getattr(zeolite, name) for name in ("U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64")}
TYPES: dict[str, Any] = {**WIDTHS, "str": str, "bytes": bytes, "bool": bool, "f64": float, "time": datetime, "day": date, "uuid": uuid.UUID}


def vectors(name: str) -> list[Any]:
    found: list[Any] = json.loads((VECTORS / name).read_text())
    return found


def type_of(told: Any) -> Any:
    """The annotation for a vector's type; None: Python's objects have none."""
    if isinstance(told, list):
        parts = [type_of(part) for part in told]
        return None if None in parts else tuple[tuple(parts)]  # type: ignore[misc]
    outer, _, inner = told.removesuffix(">").partition("<")
    if outer == "option":
        return None if type_of(inner) is None else type_of(inner) | None
    if outer == "list":
        return list[type_of(inner)]  # type: ignore[misc]
    if outer == "tuple":
        return tuple[tuple(map(type_of, inner.split(",")))]  # type: ignore[misc]
    return TYPES.get(told)


def value_of(told: Any, value: Any) -> Any:
    """A vector's value as Python has it."""
    if isinstance(told, list):
        return tuple(value_of(one, part) for one, part in zip(told, value, strict=True))
    if value is None:
        return None
    told = told.removeprefix("option<").removesuffix(">") if told.startswith("option<") else told
    if told == "time":
        return keys.EPOCH + timedelta(seconds=value[0], microseconds=value[1] // 1000)
    if told == "day":
        return date(*value)
    if told.startswith("tuple<"):
        return tuple(value)
    if told == "f64" and isinstance(value, str):
        return float(value)
    return bytes.fromhex(value) if told == "bytes" else value


def test_keys_are_those_of_all_languages() -> None:
    held = 0
    for vector in vectors("keys.json"):
        annotation = type_of(vector["type"])
        if annotation is None or (vector["type"] == "time" and vector["value"][1] % 1000):
            continue
        kind, value = key_of(annotation), value_of(vector["type"], vector["value"])
        last, inner = kind.put(value), kind.put(value, last=False)
        assert (last.hex(), inner.hex()) == (vector["last"], vector["inner"]), vector
        assert repr(kind.read(last, None)) == repr(value)
        assert kind.take(inner + b"\xaa", 0, None, last=False) == (value, len(inner)) or value != value
        held += 1
    assert held >= 20


def test_values_are_those_of_all_languages() -> None:
    held = 0
    for vector in vectors("values.json"):
        annotation = type_of(vector["type"])
        assert annotation is not None, vector
        shape, value = shape_of(annotation), value_of(vector["type"], vector["value"])
        data = shape.put(value, Out())
        assert data.hex() == vector["encoded"], vector
        assert shape.take(Source(data), None) == value
        held += 1
    assert held >= 10


def test_the_order_of_keys_is_the_order_of_values() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    def text() -> str:
        return "".join(dice.choice("\0\1ab\xff") for _ in range(dice.randrange(5)))

    makers: list[tuple[Any, Any]] = [
        (int, lambda: dice.randrange(-(2**63), 2**63)),
        (zeolite.U64, lambda: dice.randrange(2**64)),
        (float, lambda: dice.uniform(-1, 1) * 10 ** dice.randrange(-3, 3)),
        (tuple[str, int], lambda: (text(), dice.randrange(-2, 2))),
        (datetime, lambda: datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=dice.randrange(-(10**9), 10**9))),
        (date, lambda: date(dice.randrange(1, 3000), dice.randrange(1, 13), dice.randrange(1, 28))),
        (bytes, lambda: text().encode("latin-1")),
    ]
    for annotation, make in makers:
        kind = key_of(annotation)
        values = [make() for _ in range(500)]
        assert sorted(values) == [kind.read(data, None) for data in sorted(kind.put(value) for value in values)]


@pytest.fixture
def peer(server: Server) -> Iterator[Peer]:
    running = Peer(server.address)
    yield running
    running.close()


def test_an_object_of_either_is_the_others(server: Server, peer: Peer) -> None:
    assert peer("add", "Rust", "body") is True
    with zeolite.connect(server.address) as db:

        @db.transaction(fresh=True)
        def change(tx: zeolite.Transaction) -> None:
            rust = tx.root.unique("titles", Page)["Rust"]
            assert (rust.title, rust.body, rust.parent, rust.rating, rust.is_public) == ("Rust", "body", None, 4.0, True)
            assert rust.written == datetime(2026, 11, 30, 12, 0, 0, 250_000, tzinfo=timezone.utc)
            assert (rust.tags, rust.sizes, rust.place) == (["rust"], {"a": -1}, Place("poems", 3))
            rust.hits += 5
            rust.remarks.append("from Python")
            rust.sizes["b"] = 2
            written = datetime(2026, 1, 2, tzinfo=timezone.utc)
            page = Page(title="Python", body="b", written=written, parent=rust, tags=["x"], place=Place("prose", 65535))
            tx.root.unique("titles", Page)["Python"] = tx.create(page)

        change()
        assert peer("hit", "Rust", 2) is True and peer("remark", "Rust", "from-Rust") is True and peer("hit", "Python", 1) is True
        rust, python = peer("show", "Rust"), peer("show", "Python")
        assert (rust["hits"], rust["remarks"], rust["sizes"]) == (7, ["from Python", "from-Rust"], {"a": -1, "b": 2})
        assert python == {
            "title": "Python", "body": "b", "parent": "Rust", "written": "2026-01-02T00:00:00Z", "rating": 0.0, "is_public": False,
            "tags": ["x"], "sizes": {}, "shelf": "prose", "row": 65535, "hits": 1, "remarks": [],
        }  # fmt: skip
        with db.transaction(fresh=True) as tx:
            here = tx.root.unique("titles", Page)["Rust"]
            assert (here.hits.value, list(here.remarks)) == (7, ["from Python", "from-Rust"])
            oid = here._z_oid
    shown = subprocess.run([PROGRAM, "--server", server.address, "get", f"{oid:x}"], capture_output=True, text=True, check=True).stdout
    assert "wiki.Page (version 2)" in shown and '"title": "Rust"' in shown and '"tags": ["rust"]' in shown


class Model:
    """What has to be there."""

    def __init__(self) -> None:
        self.hits: dict[str, int] = {}
        self.remarks: dict[str, list[str]] = {}
        self.sizes: dict[str, int] = {}
        self.tags: set[str] = set()
        self.authors: set[tuple[str, str]] = set()
        self.jobs: list[int] = []
        self.edits = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def in_python(tx: zeolite.Transaction, words: tuple[Any, ...]) -> None:
    """A command of the peer's, in Python."""
    root = tx.root
    titles = root.unique("titles", Page)
    tx.root.counter("edits").add(1)
    match words:
        case ("add", title, body):
            titles[title] = tx.create(Page(title=title, body=body, written=datetime(2026, 1, 1, tzinfo=timezone.utc)))
        case ("hit", title, by):
            titles[title].hits += by
        case ("remark", title, text):
            titles[title].remarks.append(text)
        case ("size", key, value):
            root.map("sizes", int)[key] = value
        case ("size", key):
            root.map("sizes", int).pop(key)
        case ("tag", word):
            root.set("tags").add(word)
        case ("untag", word):
            root.set("tags").discard(word)
        case ("by", author, title):
            root.index("authors", Page).add(author, titles[title])
        case ("push", value):
            root.queue("jobs", int).push(value)
        case ("take", count):
            root.queue("jobs", int).take(count)


def in_model(model: Model, words: tuple[Any, ...]) -> None:
    model.edits += 1
    match words:
        case ("add", title, _):
            model.hits[title], model.remarks[title] = 0, []
        case ("hit", title, by):
            model.hits[title] += by
        case ("remark", title, text):
            model.remarks[title].append(text)
        case ("size", key, value):
            model.sizes[key] = value
        case ("size", key):
            model.sizes.pop(key, None)
        case ("tag", word):
            model.tags.add(word)
        case ("untag", word):
            model.tags.discard(word)
        case ("by", author, title):
            model.authors.add((author, title))
        case ("push", value):
            model.jobs.append(value)
        case ("take", count):
            del model.jobs[:count]


def seen_by_python(tx: zeolite.Space) -> Model:
    seen = Model()
    for title, page in tx.root.unique("titles", Page).items():
        seen.hits[title], seen.remarks[title] = page.hits.value, list(page.remarks)
    seen.sizes, seen.tags = dict(tx.root.map("sizes", int).items()), set(tx.root.set("tags"))
    seen.authors = {(author, page.title) for author, page in tx.root.index("authors", Page).between()}
    seen.jobs, seen.edits = tx.root.queue("jobs", int).peek(1000), tx.root.counter("edits").value
    return seen


def seen_by_rust(peer: Peer) -> Model:
    seen, told = Model(), peer("all")
    for title in told["titles"]:
        page = peer("show", title)
        seen.hits[title], seen.remarks[title] = page["hits"], page["remarks"]
    seen.sizes, seen.tags = dict(told["sizes"]), set(told["tags"])
    seen.authors = {(author, title) for author, title in told["authors"]}
    seen.jobs, seen.edits = told["jobs"], told["edits"]
    return seen


def a_command(dice: random.Random, model: Model) -> tuple[Any, ...]:
    titles, word = sorted(model.hits), f"w{dice.randrange(6)}"
    if not titles or (len(titles) < 8 and dice.random() < 0.1):
        return ("add", f"Page{len(titles)}", "body")
    title = dice.choice(titles)
    return dice.choice(
        [
            ("hit", title, dice.randrange(-3, 4)),
            ("remark", title, f"remark{dice.randrange(100)}"),
            ("size", word, dice.randrange(-(2**40), 2**40)),
            ("size", word),
            ("tag", word),
            ("untag", word),
            ("by", word, title),
            ("push", dice.randrange(1000)),
            ("take", dice.randrange(1, 3)),
        ]
    )


def test_random_work_of_both_is_what_a_model_says(server: Server, peer: Peer) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice, model, history = random.Random(seed), Model(), {}
    with zeolite.connect(server.address) as db:
        for _ in range(120):
            commands = [a_command(dice, model)]
            if dice.random() < 0.4:
                assert peer(*commands[0]) is not None
                in_model(model, commands[0])
            else:
                # Several commands of one transaction in Python; now and then it is given up.
                given_up = dice.random() < 0.2
                with db.transaction(fresh=True) as tx:
                    trial = json.loads(json.dumps(vars(model), default=sorted))
                    for _ in range(dice.randrange(1, 4)):
                        in_python(tx, commands[-1])
                        in_model(model, commands[-1])
                        if commands[-1][0] in ("take", "push"):
                            break  # what is pushed can be taken once it is committed
                        commands.append(a_command(dice, model))
                    if given_up:
                        tx.rollback()
                        model = Model()
                        vars(model).update(trial)
                        model.tags, model.authors = set(trial["tags"]), {(author, title) for author, title in trial["authors"]}
                if not given_up:
                    assert tx.committed is not None
                    history[tx.committed] = json.dumps(vars(model), default=sorted, sort_keys=True)
        with db.transaction(fresh=True) as tx:
            assert seen_by_python(tx) == model
        assert seen_by_rust(peer) == model
        for tid in dice.sample(sorted(history), 10):
            with db.snapshot(tid) as then:
                assert json.dumps(vars(seen_by_python(then)), default=sorted, sort_keys=True) == history[tid]
