"""Owns the program ``zeolite-zodb``: databases of ZODB into Zeolite and out again, and whether they are the same.

    import    one stream of transactions with their own tids, each behind its blobs; each is whole there or not at all
              so whoever was interrupted runs the same again: it goes on behind the newest tid there
    export    into a new Data.fs, under another name until it is whole
    verify    both from the beginning, every byte

Exit codes: 0 done, 1 it could not be done (the last line says what to do), 2 a wrong command line, 3 verify has found differences,
130 interrupted (Ctrl-C), 143 ended (SIGTERM).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from persistent.TimeStamp import TimeStamp
from ZODB.blob import is_blob_record
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import oid_repr, tid_repr

from zeolite import _zeolite
from zeolite.errors import Unscannable, ZeoliteError

from .blobs import Lost
from .places import Mistake, Place, opened, target
from .staged import note
from .verify import differences
from .walks import brought

#: Seconds between two looks at a source that is followed.
_LOOK = 0.5
#: Seconds between two lines of progress; on a terminal one line is written over.
_LINE, _LINE_ON_TERMINAL = 10.0, 0.5
#: Differences that are told one by one.
_TOLD = 20


class Progress:
    """What was done so far, told on stderr now and then."""

    def __init__(self, quiet: bool):
        self.transactions = self.bytes = self.lost = 0
        self._began = self._told = time.monotonic()
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()

    def add(self, size: int, tid: bytes | None = None) -> None:
        """One more transaction."""
        self.transactions += 1
        self.bytes += size
        now = time.monotonic()
        if not self._quiet and now - self._told > (_LINE_ON_TERMINAL if self._terminal else _LINE):
            self._told = now
            at = f", at {TimeStamp(tid)} UTC" if tid else ""
            end = "   \r" if self._terminal else "\n"
            print(f"{self}{at}", end=end, file=sys.stderr, flush=True)

    def add_lost(self) -> None:
        """A blob without a file."""
        self.lost += 1

    def say(self, text: str) -> None:
        """A line."""
        if not self._quiet:
            print(text, file=sys.stderr)

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-3)
        mebibytes = self.bytes / (1 << 20)
        return f"{self.transactions} transactions, {mebibytes:.1f} MiB of records, {mebibytes / seconds:.1f} MiB/s"


def bring(source: Place, into: Place, follow: bool, until_caught_up: bool, progress: Progress, lost: Lost) -> None:
    """Copies what is newer than what is there; with ``follow`` also what comes."""
    newest = into.newest()
    if newest is not None:
        _is_copy(source, into, newest)
        progress.say(f"{into.name} is at {tid_repr(newest)}: going on behind that")
    while True:
        last = _bring_once(source, into, newest, progress, lost)
        if not follow or (until_caught_up and last == newest):
            return
        if last == newest:
            time.sleep(_LOOK)
        newest = last


def _bring_once(source: Place, into: Place, newest: bytes | None, progress: Progress, lost: Lost) -> bytes | None:
    blobs = into.storage._blobs
    restoring = None
    try:
        for transaction in source.transactions(newest):
            if newest is not None and transaction.tid <= newest:
                continue
            # A stream is begun for something only: while nothing comes, nothing is asked of the server.
            restoring = restoring or _zeolite.Restoring(into.storage._database)
            writes = brought(source, blobs, transaction, lost)
            try:
                restoring.add(transaction.tid, note(transaction), writes)
            except Unscannable as error:
                where = f"transaction {tid_repr(transaction.tid)} of {source.name}"
                raise Mistake(f"{where}: {error} (what is object n there is n + f here)") from error
            newest = transaction.tid
            progress.add(sum(len(data or b"") for _, data, *_ in writes), newest)
    except ZeoliteError:
        raise
    except BaseException:
        # Whatever ends the copy: what is on its way arrives.
        if restoring is not None:
            restoring.finish()
        raise
    if restoring is not None:
        restoring.finish()
    return newest


def _is_copy(source: Place, into: Place, newest: bytes) -> None:
    first = next(source.transactions(newest), None)
    if first is None or first.tid != newest:
        raise Mistake(
            f"{into.name} is no copy of {source.name}: its newest transaction {tid_repr(newest)} is not there. It was written to "
            "by others, or the source was packed since; import into an empty database"
        )


class _Counted:
    """A source whose transactions are counted, and that loses no blob."""

    def __init__(self, source: Place, has_blobs: bool, progress: Progress):
        self._source, self._has_blobs, self._progress = source, has_blobs, progress
        self.loadBlob = source.loadBlob

    def iterator(self) -> Iterator[Any]:
        for transaction in self._source.transactions():
            rows = list(transaction)
            if not self._has_blobs and any(is_blob_record(row.data) for row in rows):
                raise Mistake(f"{self._source.name} has blobs: say with --blobs where to put them")
            yield transaction
            self._progress.add(sum(len(row.data or b"") for row in rows), transaction.tid)


def take_out(source: Place, path: str, blobs: str | None, progress: Progress) -> None:
    """Copies everything into a new Data.fs."""
    for there in (path, path + ".part"):
        if os.path.exists(there):
            raise Mistake(f"{there} is there already; remove it, or name another file")
    if blobs is not None and os.path.isdir(blobs) and os.listdir(blobs):
        raise Mistake(f"{blobs} is not empty; name a new directory for the blobs")
    is_new = blobs is not None and not os.path.exists(blobs)
    part = None
    try:
        part = FileStorage(path + ".part", create=True, blob_dir=blobs)
        part.copyTransactionsFrom(_Counted(source, blobs is not None, progress))
    except BaseException:
        if part is not None:
            part.close()
        _take_back(path, blobs, is_new)
        raise
    part.close()
    os.rename(path + ".part.index", path + ".index")
    for suffix in (".part.lock", ".part.tmp"):
        os.remove(path + suffix)
    os.rename(path + ".part", path)


def _take_back(path: str, blobs: str | None, is_new: bool) -> None:
    """Removes what an export has made that did not come to its end."""
    for suffix in (".part", ".part.index", ".part.lock", ".part.tmp"):
        with suppress(FileNotFoundError):
            os.remove(path + suffix)
    if blobs is None or not os.path.isdir(blobs):
        return
    # It was empty, or not there; what FileStorage makes in it has such names.
    for name in os.listdir(blobs):
        if name.startswith("0x") or name == "tmp":
            shutil.rmtree(os.path.join(blobs, name))
        elif name == ".layout":
            os.remove(os.path.join(blobs, name))
    if is_new:
        with suppress(OSError):
            os.rmdir(blobs)


def _import(told: argparse.Namespace, progress: Progress) -> int:
    if told.until_caught_up and not told.follow:
        raise Mistake("--until-caught-up goes with --follow")

    def lost(error: POSKeyError) -> None:
        if not told.lost_blobs:
            where = "; ".join(map(str, error.args[1:])) or f"{told.source} has it no more"
            raise Mistake(
                f"the blob of object {oid_repr(error.args[0])} is lost: {where}. Name the right directory; or with --lost-blobs what has lost its "
                "blob comes without"
            )
        progress.add_lost()

    with closing(target(told.uri)) as into, closing(opened(told.source, told.blobs)) as source:
        try:
            bring(source, into, told.follow, told.until_caught_up, progress, lost)
        except KeyboardInterrupt:
            if not told.follow:
                print("interrupted; the same command goes on where it stopped", file=sys.stderr)
                return 130
    print(f"imported {progress}{f', without {progress.lost} lost blobs' if progress.lost else ''}")
    return 0


def _export(told: argparse.Namespace, progress: Progress) -> int:
    with closing(opened(told.uri)) as source:
        take_out(source, told.file, told.blobs, progress)
    print(f"exported {progress}")
    return 0


def _verify(told: argparse.Namespace, progress: Progress) -> int:
    found = 0
    with closing(opened(told.one, told.one_blobs)) as one, closing(opened(told.other, told.other_blobs)) as other:
        for difference in differences(one, other, progress):
            found += 1
            if found <= _TOLD:
                print(difference)
    if found:
        print(f"{found} differences in {progress.transactions} transactions that are in both")
        return 3
    print(f"the same: {progress}{f'; {progress.lost} blobs have a file in neither' if progress.lost else ''}")
    return 0


_PLACES = """\
A SOURCE is one of
  Data.fs                     a file of FileStorage; it is only read and may be in use
  zeolite://host:port/        a database of Zeolite (zeolite://host:port/NAME: another one of the server's)
  zeo://host:port, file://... whatever zodburi knows; blobs need blob_dir=DIR in it
  site.conf                   a ZConfig file with one storage in it, <clientstorage> for instance

Moving a site: import while it runs, with --follow; stop it; end the import when it has caught up; verify; change the one line of
its configuration; start it. The way back at any time: export.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeolite-zodb",
        description="Copies databases of ZODB into Zeolite and out again, with every transaction, undo and blob.",
        epilog=_PLACES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=text, epilog=_PLACES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        made.set_defaults(run=run)
        return made

    made = command("import", _import, "Copies SOURCE into a database of Zeolite; interrupted, it goes on where it stopped.")
    made.add_argument("source", metavar="SOURCE", help="what is copied, see below")
    made.add_argument("uri", metavar="URI", help="where to: zeolite://host:port/")
    made.add_argument("--blobs", metavar="DIR", help="where the blobs of a Data.fs are")
    made.add_argument("--lost-blobs", action="store_true", help="leave out blobs whose files are lost in the source; their records come without")
    made.add_argument("--follow", action="store_true", help="go on with what is committed in the source, until interrupted (Ctrl-C)")
    made.add_argument("--until-caught-up", action="store_true", help="with --follow: end when the source has nothing newer")
    made = command("export", _export, "Copies a database of Zeolite into a new Data.fs.")
    made.add_argument("uri", metavar="URI", help="what is copied: zeolite://host:port/, or another SOURCE")
    made.add_argument("file", metavar="Data.fs", help="a file that is not there yet")
    made.add_argument("--blobs", metavar="DIR", help="a new directory for the blobs")
    made = command("verify", _verify, "Compares two databases byte by byte, and the references that Zeolite goes by with ZODB's.")
    made.add_argument("one", metavar="A", help="a SOURCE, see below")
    made.add_argument("other", metavar="B", help="another")
    made.add_argument("--a-blobs", dest="one_blobs", metavar="DIR", help="where the blobs of A are, if it is a Data.fs")
    made.add_argument("--b-blobs", dest="other_blobs", metavar="DIR", help="where the blobs of B are, if it is a Data.fs")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The program; its exit code."""
    told = _parser().parse_args(arguments)
    # Who is ended cleans up, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return int(told.run(told, Progress(told.quiet)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (Mistake, ZeoliteError, OSError) as error:
        print(f"zeolite-zodb: {error}", file=sys.stderr)
    except Exception as error:
        print(f"zeolite-zodb: {type(error).__name__}: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
