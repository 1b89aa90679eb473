"""TLS and tokens: the section, the URI and a storage on a server that takes nobody without them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import zodburi
from serving import PROGRAM, Server
from ZODB import DB
from ZODB.config import databaseFromString
from ZODB.POSException import ReadOnlyError

import zeolite
from zeolite import _zeolite, evolve
from zeolite.errors import Disconnected, FixRequest, GiveUp
from zeolite.zodb import Storage
from zeolite.zodb.errors import Broken


def user(directory: Path, *arguments: str) -> str:
    """What ``zeolite user`` prints."""
    command = [PROGRAM, "user", "--file", str(directory / "users.toml"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Guarded:
    """A server with TLS and users, and the files that a client needs."""

    def __init__(self, directory: Path):
        self.directory = directory
        authority = trustme.CA()
        self.ca = str(directory / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
        for part in certificate.cert_chain_pems:
            part.write_to_path(str(directory / "cert.pem"), append=True)
        self.token = user(directory, "add", "site", "--role", "write")
        self.token_file = directory / "token"
        self.token_file.write_text(self.token + "\n")
        self.server = Server(
            directory,
            f"auth.users_file={directory}/users.toml",
            f"tls.cert={directory}/cert.pem",
            f"tls.key={directory}/key.pem",
        )


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(tmp_path)
    yield made
    made.server.stop()


def works(db: DB) -> None:
    with db.transaction() as connection:
        connection.root()["a"] = 1
    with db.transaction() as connection:
        assert connection.root()["a"] == 1
    db.close()


def test_a_section_and_a_uri_with_tls_and_a_token(guarded: Guarded) -> None:
    works(
        databaseFromString(f"""
            %import zeolite.zodb
            <zodb main>
              <zeolite>
                server {guarded.server.address}
                ca {guarded.ca}
                token-file {guarded.token_file}
              </zeolite>
            </zodb>
        """)
    )
    uri = f"zeolite://{guarded.server.address}/?ca={guarded.ca}&token_file={guarded.token_file}"
    factory, keywords = zodburi.resolve_uri(uri)
    works(DB(factory(), **keywords))


def test_without_them_nobody_comes_in(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    address, ca = guarded.server.address, guarded.ca
    with pytest.raises(GiveUp, match="takes nobody without a token") as refused:
        _zeolite.Database([address], ca=ca)
    assert refused.value.kind == "unauthenticated"
    with pytest.raises(GiveUp, match="not valid here") as refused:
        _zeolite.Database([address], ca=ca, token=guarded.token + "0")
    assert guarded.token not in str(refused.value)
    with pytest.raises(Disconnected, match="speaks TLS: connect to https://"):
        _zeolite.Database([address], wait=False)
    with pytest.raises(Broken, match="takes nobody without a token"):
        Storage(address, ca=ca)
    monkeypatch.setenv("ZEOLITE_CA", ca)
    monkeypatch.setenv("ZEOLITE_TOKEN_FILE", str(guarded.token_file))
    works(DB(Storage(address)))


def test_objects_of_pythons_own_with_tls_and_a_token(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    address, ca = guarded.server.address, guarded.ca
    with zeolite.connect(address, ca=ca, token=guarded.token) as db, db.transaction() as tx:
        tx.root.counter("edits").add(2)
    with pytest.raises(GiveUp, match="takes nobody without a token"):
        zeolite.connect(address, ca=ca)
    monkeypatch.setenv("ZEOLITE_CA", ca)
    monkeypatch.setenv("ZEOLITE_TOKEN_FILE", str(guarded.token_file))
    with zeolite.connect(address) as db, db.snapshot() as now:
        assert now.root.counter("edits").value == 2


def test_a_user_who_may_only_read(guarded: Guarded) -> None:
    works(DB(Storage(guarded.server.address, ca=guarded.ca, token=guarded.token)))
    reader = user(guarded.directory, "add", "reader", "--role", "read")
    keywords = {"ca": guarded.ca, "token": reader}
    while True:
        try:
            storage = Storage(guarded.server.address, read_only_fallback=True, **keywords)
            break
        except Broken:  # The server takes a new user in within a second.
            continue
    assert storage.isReadOnly()
    with pytest.raises(ReadOnlyError):
        Storage(guarded.server.address, **keywords)
    storage.close()


class Noted(zeolite.Object, cls="t.Noted"):
    text: str


def test_a_uri_says_everything_that_a_connection_is_opened_with_also_for_objects_of_pythons_own(guarded: Guarded) -> None:
    address, ca = guarded.server.address, guarded.ca
    with zeolite.connect(address, ca=ca, token=guarded.token) as db, db.transaction() as tx:
        tx.root["noted"] = Noted(text="a")
    uri = f"zeolite://{address}/?ca={ca}&token_file={guarded.token_file}&role=write&cache_size=1MB&wait=false&wait_timeout=5"
    louder = evolve.step(Noted, to=0)(lambda noted, tx: setattr(noted, "text", noted.text + "!"))
    assert evolve.dry_run(uri, louder).changed == 1
    with pytest.raises(FixRequest, match="token_fiel in .* is nothing that a connection is opened with; that are ca"):
        evolve.dry_run(uri.replace("token_file", "token_fiel"), louder)
