"""A cache in a file: a site that was started again is warm and sees what others have done, a child has a file of its own, and whatever happens
to the file, the site goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zodburi
from persistent.mapping import PersistentMapping
from serving import Server
from ZODB import DB
from ZODB.config import storageFromString

import zeolite
from zeolite.zodb import Storage
from zeolite.zodb.errors import Refused

Connect = Callable[..., Storage]
PAGES = 40

#: A process of a site: opens the database, reads all pages, says what they are and what its cache did.
READS = """
import sys
from ZODB import DB
from zeolite.zodb import Storage
storage = Storage(sys.argv[1], cache_dir=sys.argv[2], cache_file_size=1 << 20)
db = DB(storage)
before = storage._database.cache_stats()
root = db.open().root()
pages = [root["pages"][number]["text"] for number in range(len(root["pages"]))]
after = storage._database.cache_stats()
print(sum(page == pages[0] for page in pages), pages[0][:20], after[2] - before[2], after[4] - before[4], flush=True)
"""


def pages(storage: Storage, text: str) -> None:
    db = DB(storage)
    with db.transaction() as connection:
        root = connection.root()
        if "pages" not in root:
            root["pages"] = PersistentMapping({number: PersistentMapping() for number in range(PAGES)})
        for number in range(PAGES):
            root["pages"][number]["text"] = text


def ran(server: Server, directory: Path, code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, server.address, str(directory), *arguments]
    # Where the package lies as source it cannot be imported.
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=server.directory)
    assert done.returncode == code.count("SIGKILL") * -9, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("end", ["", "db.close()", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_process_that_starts_again_is_warm(server: Server, connect: Connect, tmp_path: Path, end: str) -> None:
    writer, directory = connect(), tmp_path / "cache"
    pages(writer, "old")
    assert ran(server, directory, READS + "db.close()\n")[:2] == ["40", "old"]
    warm = ran(server, directory, READS + "db.close()\n")
    assert warm[:3] == ["40", "old", "0"] and int(warm[3]) >= PAGES, warm
    # However it ends: the next one finds what it has left.
    ran(server, directory, READS + end)
    warm = ran(server, directory, READS)
    assert warm[:3] == ["40", "old", "0"], warm
    pages(writer, "new")
    told = ran(server, directory, READS + "db.close()\n")
    assert told[:2] == ["40", "new"] and int(told[2]) >= PAGES, told
    assert ran(server, directory, READS)[:3] == ["40", "new", "0"]


def test_zope_conf_a_uri_and_plain_python_say_where_it_is(server: Server, tmp_path: Path) -> None:
    storage = storageFromString(f"""
        %import zeolite.zodb
        <zeolite>
          server {server.address}
          cache-dir {tmp_path}/conf
          cache-file-size 2MB
        </zeolite>
    """)
    pages(storage, "x")
    storage.close()
    storage = zodburi.resolve_uri(f"zeolite://{server.address}/?cache_dir={tmp_path}/uri&cache_file_size=3MB")[0]()
    pages(storage, "y")
    storage.close()
    with zeolite.connect(server.address, cache_dir=str(tmp_path / "plain"), cache_file_size=4 << 20):
        pass
    sizes = {name: (tmp_path / name / "main-1.zeocache").stat().st_size >> 20 for name in ("conf", "uri", "plain")}
    assert sizes == {"conf": 2, "uri": 3, "plain": 4}


def test_what_cannot_be_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cache_file_size is 7"):
        Storage(server.address, cache_dir=str(tmp_path / "a"), cache_file_size=7)
    (tmp_path / "main-1.zeocache").write_text("letters")
    storage = Storage(server.address, cache_dir=str(tmp_path))
    assert (tmp_path / "main-1.zeocache").read_text() == "letters" and (tmp_path / "main-2.zeocache").exists()
    storage.close()


#: Alone in its process: other tests' libraries have threads, and handlers of forks, of their own.
FORKS = """
import os, sys, transaction
from pathlib import Path
from ZODB import DB
from zeolite.zodb import Storage
address, directory = sys.argv[1:]
db = DB(Storage(address, cache_dir=directory))
connection = db.open()
assert connection.root()["pages"][3]["text"] == "old"
child = os.fork()
if child == 0:
    transaction.abort()
    db.close()
    mine = Storage(address, cache_dir=directory)
    text = DB(mine).open().root()["pages"][3]["text"]
    print(text, *sorted(path.name for path in Path(directory).iterdir()), flush=True)
    mine.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
# The parent's is as it was.
connection.cacheMinimize()
assert connection.root()["pages"][3]["text"] == "old"
# Who comes now takes the child's, which is free.
again = Storage(address, cache_dir=directory, client_label="again")
assert DB(again).open().root()["pages"][3]["text"] == "old"
assert again._database.cache_stats()[4] > 0
"""


def test_a_child_has_a_file_of_its_own(server: Server, connect: Connect, tmp_path: Path) -> None:
    pages(connect(), "old")
    assert ran(server, tmp_path / "cache", FORKS) == ["old", "main-1.zeocache", "main-2.zeocache"]


#: The file may not grow any more, as on a disk that is full.
FULL = """
import resource
from pathlib import Path
text, told = "y" * 3000, []
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
db.cacheMinimize()
with db.transaction() as connection:
    for number in range(40):
        connection.root()["pages"][number]["text"] = text
connection = db.open()
assert all(connection.root()["pages"][number]["text"] == text for number in range(40))
storage.close()
print("went on")
"""


def test_a_full_disk_ends_the_use_of_the_file_and_nothing_else(server: Server, connect: Connect, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    pages(connect(), "old")
    assert ran(server, directory, READS.replace("1 << 20", "1 << 21") + FULL)[-2:] == ["went", "on"]
    told = ran(server, directory, READS.replace("1 << 20", "1 << 21"))
    assert (told[0], told[1]) == ("40", "y" * 20)
