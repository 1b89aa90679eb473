"""Owns the server of a test: the real program, on a port that the system chooses, in a directory of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

#: Where the program was built; ``./test`` says it.
PROGRAM = os.environ.get("ZEOLITE_PROGRAM") or str(Path(__file__).parents[2] / "target/debug/zeolite")

#: How it is started: the system ends it with the test's process, also when that is killed.
STARTED = ("setpriv", "--pdeathsig", "KILL", PROGRAM)

#: Pack takes everything that it may: the tests pack what they wrote a moment ago.
SETTINGS = ("engine.history_min_s=0", "engine.pin_grace_s=0")


class Server:
    """A server that runs; ``stop`` it."""

    def __init__(self, directory: str | os.PathLike[str], *settings: str, port: int = 0):
        self.directory = Path(directory)
        self.settings = settings
        self._start(port)

    def _start(self, port: int) -> None:
        data = self.directory / "data"
        options = [option for setting in (*SETTINGS, *self.settings) for option in ("--set", setting)]
        self.process = subprocess.Popen(
            [*STARTED, "serve", "--data", str(data), "--listen", f"127.0.0.1:{port}", "--log", "warn", *options],
            stdout=subprocess.PIPE,
            stderr=open(self.directory / "server.log", "ab"),
            text=True,
            # What stands in the environment as ZEOLITE_... would be a setting.
            env={name: value for name, value in os.environ.items() if not name.startswith("ZEOLITE_")},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", line)
        if found is None:
            self.process.wait()
            raise AssertionError(f"the server did not start: {line!r}, {(self.directory / 'server.log').read_text()}")
        self.address = found.group(1)

    def kill(self) -> None:
        """As if the machine had stopped it: no farewell."""
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def freeze(self) -> None:
        """It answers nothing until it is told to go on."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        """After ``freeze``."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """In order."""
        if self.process.poll() is None:
            self.process.terminate()
        self._ended()

    def start_again(self) -> None:
        """On the same data, at the same address."""
        self._start(int(self.address.rpartition(":")[2]))

    def _ended(self) -> None:
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
