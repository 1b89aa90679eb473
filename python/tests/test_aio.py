"""Python's own objects in an event loop: no thread for each call, one transaction for each task, cancelled tasks, what would wait is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from line import Line
from serving import Server
from wiki import Page

import zeolite
from zeolite import aio, errors

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


def in_a_loop(server: Server | Line, work: Callable[[aio.Database], Awaitable[Any]]) -> None:
    async def main() -> None:
        async with await aio.connect(server.address, client_label="the test") as db:
            await work(db)

    asyncio.run(main(), debug=True)


async def add(db: aio.Database, title: str) -> Page:
    @db.transaction(note=f"add {title}", fresh=True)
    async def adding(tx: aio.Transaction) -> Page:
        page = await tx.create(Page(title=title, body="", written=NOW))
        titles = await tx.root.unique("titles", Page)
        await titles.set(title, page)
        page.hits += 1
        return page

    return await adding()


def test_the_verbs(server: Server) -> None:
    async def work(db: aio.Database) -> None:
        home = await add(db, "Home")
        with pytest.raises(KeyError, match="taken"):
            await add(db, "Home")
        async with db.transaction() as tx:
            titles = await tx.root.unique("titles", Page)
            page = await titles.get("Home")
            assert page is not None and page.title == "Home"
            page.body = "welcome"
            remarks = aio.of(page.remarks)
            await remarks.append("a")
            assert [remark async for remark in remarks] == ["a"] and await remarks.newest(1) == ["a"]
            sizes = await tx.root.map("sizes", int)
            for number in range(250):
                await sizes.set(f"{number:03}", number)
            tags = await tx.root.set_of("tags", str)
            await tags.add("x")
            authors = await tx.root.index("authors", Page)
            await authors.add("ada", page)
            jobs = await tx.root.queue("jobs", int)
            await jobs.push(1)
            await tx.root.set("home", page)
            counter = await tx.root.counter("edits")
            await counter.add(2)
            assert await counter.value() == 2
        async with db.snapshot() as now:
            assert await now.root.names() == ["authors", "edits", "home", "jobs", "sizes", "tags", "titles"]
            sizes = await now.root.map("sizes", int)
            assert [value async for _, value in sizes.items()] == list(range(250)) and await sizes.count() == 250
            assert [key async for key in sizes.keys(prefix="24")] == [f"{number}" for number in range(240, 250)]
            assert await (await now.root.set_of("tags", str)).contains("x")
            assert [page.body for page in await (await now.root.index("authors", Page)).find("ada")] == ["welcome"]
            assert await (await now.root.queue("jobs", int)).peek() == [1]
            here = await now.get(home)
            assert await aio.of(here.hits).value() == 1
            found = await now.root.get("home", Page)
            assert found is here

    in_a_loop(server, work)


def test_plain_code_runs_in_a_transaction_of_a_task(server: Server) -> None:
    def plain(tx: zeolite.Transaction, count: int) -> int:
        top = tx.create(Page(title="Top", body="", written=NOW))
        for number in range(count):
            page = tx.create(Page(title=f"P{number}", body="", written=NOW, parent=top))
            tx.root.unique("titles", Page)[page.title] = page
        return len(tx.root.unique("titles", Page))

    def bodies(space: zeolite.Space) -> set[str]:
        return {page.parent.title for page in space.root.unique("titles", Page).values() if page.parent is not None}

    async def work(db: aio.Database) -> None:
        async with db.transaction() as tx:
            assert await tx.run(plain, tx.plain, 20) == 20
        async with db.snapshot() as now:
            assert await now.run(bodies, now.plain) == {"Top"}

    in_a_loop(server, work)


def test_what_would_wait_is_refused_by_name_whether_it_is_at_hand_or_not(server: Server) -> None:
    async def work(db: aio.Database) -> None:
        home = await add(db, "Home")
        async with db.transaction() as tx:
            page = tx.plain.reference(Page, home._z_oid or 0)
            with pytest.raises(errors.WouldWait, match="await"):
                page.title
            with pytest.raises(errors.WouldWait, match="await"):
                page.hits.value
            with pytest.raises(errors.WouldWait):
                tx.plain.root.unique("titles")
            assert (await tx.load([page]))[0].title == "Home"

    in_a_loop(server, work)


def test_many_tasks_share_a_thread_and_count_exactly(server: Server) -> None:
    async def work(db: aio.Database) -> None:
        home, attempts = await add(db, "Home"), []

        @db.transaction()
        async def hit(tx: aio.Transaction, number: int) -> None:
            attempts.append(number)
            page = await tx.get(home)
            page.hits += 1
            await aio.of(page.remarks).append(f"{number}")
            page.body += "x"

        threads = threading.active_count()
        await asyncio.gather(*(hit(number) for number in range(50)))
        assert threading.active_count() == threads
        assert len(attempts) > 50, "they all write the body, so some were called again"
        async with db.snapshot() as now:
            page = await now.get(home)
            assert (page.body, await aio.of(page.hits).value()) == ("x" * 50, 51)
            assert sorted([int(remark) async for remark in aio.of(page.remarks)]) == list(range(50))

    in_a_loop(server, work)


def test_one_transaction_of_a_task(server: Server) -> None:
    async def work(db: aio.Database) -> None:
        home = await add(db, "Home")
        async with db.transaction() as tx:
            with pytest.raises(errors.Nested):
                await add(db, "Other")
            with pytest.raises(errors.WrongThread):
                await asyncio.create_task(tx.get(home))
            await asyncio.create_task(add(db, "Another"))
        with pytest.raises(errors.Over):
            await tx.get(home)
        with pytest.raises(LookupError):
            async with db.transaction() as tx:
                (await tx.get(home)).body = "never"
                raise LookupError
        async with db.snapshot() as now:
            assert (await now.get(home)).body == ""

    in_a_loop(server, work)


def test_a_task_that_is_cancelled_while_it_works_leaves_nothing(server: Server) -> None:
    async def work(db: aio.Database) -> None:
        home, reached = await add(db, "Home"), asyncio.Event()

        @db.transaction()
        async def slow(tx: aio.Transaction) -> None:
            (await tx.get(home)).body = "slow"
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(slow())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not db._plain._begun
        async with db.transaction() as tx:
            page = await tx.get(home)
            assert page.body == ""
            page.body = "next"

    in_a_loop(server, work)


@pytest.mark.parametrize("is_patient", [True, False])
def test_who_closes_waits_for_the_commits_that_are_on_their_way(server: Server, is_patient: bool) -> None:
    async def main() -> None:
        loop, committing, kept = asyncio.get_running_loop(), asyncio.Event(), []
        db = await aio.connect(server.address, client_label=f"closed while it commits, {is_patient}")
        home = await add(db, "Home")
        async with db.transaction(fresh=True) as tx:
            (await tx.get(home)).body = "first"  # from here on all that is asked at the end of a transaction is known

        @db.transaction(fresh=True)
        async def last(tx: aio.Transaction) -> None:
            (await tx.get(home)).body = "last"
            kept.append(tx)
            # The server answers nothing from here on; what follows is the commit.
            server.freeze()
            loop.call_soon(committing.set)

        task = asyncio.create_task(last())
        await committing.wait()
        closing = asyncio.create_task(db.close())
        # Behind the begin of the closing.
        loop.call_soon(server.go_on) if is_patient else loop.call_soon(closing.cancel)
        done, left = await asyncio.wait([task, closing], timeout=30)
        server.go_on()
        assert not left, "nobody waits for ever"
        if is_patient:
            task.result()
            assert kept[0].committed is not None
        else:
            assert isinstance(task.exception(), errors.AskOutcome) and closing.cancelled()

    asyncio.run(main(), debug=True)


def test_who_reads_when_the_database_is_closed_is_told(server: Server) -> None:
    async def main() -> None:
        loop, reading = asyncio.get_running_loop(), asyncio.Event()
        db = await aio.connect(server.address, client_label="closed while it reads")
        home = await add(db, "Home")

        async def read() -> None:
            async with db.snapshot() as now:
                server.freeze()
                loop.call_soon(reading.set)
                await now.root.names()  # which no cache knows

        task = asyncio.create_task(read())
        await reading.wait()
        closing = asyncio.create_task(db.close())
        loop.call_soon(server.go_on)
        _, left = await asyncio.wait([task, closing], timeout=30)
        assert not left and isinstance(task.exception(), errors.Closed)
        with pytest.raises(errors.Closed):
            async with db.transaction() as tx:
                await tx.get(home)

    asyncio.run(main(), debug=True)


def test_a_commit_that_is_cancelled_comes_to_its_end_and_says_so(server: Server) -> None:
    line = Line(server.address)

    async def cancel_meanwhile(task: asyncio.Task[Any]) -> None:
        # The server has answered, and nobody has heard of it.
        await asyncio.to_thread(line.swallowed.wait)
        task.cancel()
        asyncio.get_running_loop().call_soon(line.open)

    async def work(db: aio.Database) -> None:
        home, kept = await add(db, "Home"), []
        async with db.transaction(fresh=True) as tx:
            (await tx.get(home)).body = "first"  # from here on all that is asked at the end of a transaction is known

        @db.transaction(fresh=True)
        async def last(tx: aio.Transaction) -> None:
            (await tx.get(home)).body = "committed"
            kept.append(tx)
            line.deaf = True  # what follows is the commit

        committing = asyncio.create_task(last())
        cancelling = asyncio.create_task(cancel_meanwhile(committing))
        with pytest.raises(asyncio.CancelledError, match="it is committed"):
            await committing
        await cancelling
        assert kept[0].committed is not None
        async with db.snapshot() as now:
            assert (await now.get(home)).body == "committed"

    try:
        in_a_loop(line, work)
    finally:
        line.close()
