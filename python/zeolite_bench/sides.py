"""Owns the sides of the comparison: a server each, in a directory of its own, and how a process opens its database.

All answer a commit when it is on the disk: ZEO's FileStorage calls fsync once for each transaction, Zeolite fdatasync and PostgreSQL fsync of
its log once for all that wait. Zeolite and ZEO listen on 127.0.0.1, on a port that the system chooses, PostgreSQL on a socket in its directory.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import ZODB

#: Of each client, in bytes.
CACHE = 64 << 20
#: Of a Zeolite client whose cache is in a file, in memory above it.
IN_MEMORY = 64 << 10
#: Of each of ZODB's connections, in objects: what is measured must not end there.
OBJECTS = 100_000
#: How long a server may take to start.
START = 60.0


class Missing(Exception):
    """A side is not installed; what to do about it."""


class Zeolite:
    """The server of the program that this is called by."""

    name = "Zeolite"

    @staticmethod
    def check() -> None:
        """Raises what is missing."""
        if not _program():
            raise Missing("the program zeolite is not in the PATH: run zeolite bench zodb, or say it in ZEOLITE_PROGRAM")

    def __init__(self, directory: str, settings: list[str]):
        options = [option for setting in settings for option in ("--set", setting)]
        self._log = open(os.path.join(directory, "server.log"), "ab")
        self._process = subprocess.Popen(
            [_program(), "serve", "--data", os.path.join(directory, "data"), "--listen", "127.0.0.1:0", "--log", "warn", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # What stands in the environment as ZEOLITE_... would be a setting.
            env={name: value for name, value in os.environ.items() if not name.startswith("ZEOLITE_")},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", line)
        if found is None:
            self._process.wait()
            raise SystemExit(f"the server did not start: {line!r}, {Path(self._log.name).read_text()}")
        self.address: Any = found.group(1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()
        self._log.close()


def _program() -> str:
    return os.environ.get("ZEOLITE_PROGRAM") or shutil.which("zeolite") or ""


class Zeo:
    """runzeo over a FileStorage."""

    name = "ZEO"

    @staticmethod
    def check() -> None:
        """Raises what is missing."""
        if importlib.util.find_spec("ZEO") is None:
            raise Missing("ZEO is not installed here: pip install ZEO, or leave it out with --sides zeolite")

    def __init__(self, directory: str, settings: list[str]):
        from ZEO._forker import start_zeo_server

        here = os.getcwd()
        os.chdir(directory)
        try:
            # The server that ZEO's own tests start: the same as runzeo, in a process of its own, and it says its port.
            self.address, self._stop = start_zeo_server(path=os.path.join(directory, "Data.fs"), suicide=False)
        finally:
            os.chdir(here)

    def stop(self) -> None:
        self._stop()


class RelStorage:
    """RelStorage, which keeps history, on a PostgreSQL server of its own."""

    name = "RelStorage"

    @staticmethod
    def check() -> None:
        """Raises what is missing."""
        for module in ("relstorage", "psycopg2"):
            if importlib.util.find_spec(module) is None:
                raise Missing(f"{module} is not installed here: pip install RelStorage psycopg2-binary, or leave it out with --sides")
        if not _postgres("initdb"):
            raise Missing("PostgreSQL is not installed here: install the package postgresql, or leave it out with --sides")

    def __init__(self, directory: str, settings: list[str]):
        # Its server refuses to run as root.
        user = "postgres" if os.getuid() == 0 else None
        self._directory = os.path.join(directory, "postgresql")
        os.mkdir(self._directory)
        if user:
            os.chmod(directory, 0o711)
            shutil.chown(self._directory, user)
        data = os.path.join(self._directory, "data")
        made = [_postgres("initdb"), "--auth=trust", "--username=zodb", "--encoding=UTF8", "--locale=C", "-D", data]
        subprocess.run(made, check=True, user=user, cwd=self._directory, stdout=subprocess.DEVNULL)
        self._log = open(os.path.join(directory, "server.log"), "ab")
        said = {"listen_addresses": "", "unix_socket_directories": self._directory, "fsync": "on", "synchronous_commit": "on"}
        options = [option for name, value in said.items() for option in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [_postgres("postgres"), "-D", data, *options], user=user, cwd=self._directory, stdout=self._log, stderr=self._log
        )
        self.address = f"host={self._directory} user=zodb dbname=postgres"
        self._listens()

    def _listens(self) -> None:
        import psycopg2

        end = time.monotonic() + START
        while True:
            try:
                psycopg2.connect(self.address).close()
                return
            except psycopg2.OperationalError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise SystemExit(f"PostgreSQL did not start: {Path(self._log.name).read_text()}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        # A fast shutdown: clients are not waited for.
        self._process.send_signal(2)
        self._process.wait(START)
        self._log.close()


def _postgres(program: str) -> str:
    """A program of the newest PostgreSQL that is there, or "". Debian has them beside the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: float(place.parent.name), reverse=True)
    return shutil.which(program) or next((str(place / program) for place in places if (place / program).exists()), "")


SIDES: dict[str, Any] = {"zeolite": Zeolite, "zeo": Zeo, "relstorage": RelStorage}


def storage(side: str, address: Any, cache: int = CACHE, kept_in: str | None = None) -> Any:
    """A client's storage, its cache empty; or as it was left in a directory, where all keep it in files."""
    if side == Zeolite.name:
        from zeolite.zodb import Storage

        if kept_in:
            return Storage(address, cache_size=IN_MEMORY, cache_dir=kept_in, cache_file_size=cache)
        return Storage(address, cache_size=cache)
    if side == RelStorage.name:
        from relstorage.adapters.postgresql import PostgreSQLAdapter
        from relstorage.options import Options
        from relstorage.storage import RelStorage as Client

        options = Options(cache_local_mb=cache / (1 << 20), cache_local_dir=kept_in, driver="psycopg2")
        return Client(PostgreSQLAdapter(dsn=address, options=options), options=options)
    from ZEO.ClientStorage import ClientStorage

    kept = {"client": "bench", "var": kept_in} if kept_in else {}
    return ClientStorage(address, cache_size=cache, wait=True, wait_timeout=30, **kept)


def database(side: str, address: Any, cache: int = CACHE, kept_in: str | None = None) -> Any:
    """ZODB on it."""
    return ZODB.DB(storage(side, address, cache, kept_in), cache_size=OBJECTS)
