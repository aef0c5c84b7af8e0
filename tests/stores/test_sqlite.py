"""What only the file store promises: laziness, other processes, errors with a way out."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from orchestra.errors import StoreError
from orchestra.stores import keyword_index
from orchestra.stores.sqlite import SqliteCollection, SqliteStores
from orchestra.stores.sqlite_files import connection as sqlite_connection
from orchestra.stores.sqlite_files.connection import (
    APPLICATION_ID,
    SCHEMA,
    FileConnection,
    place_of,
)
from orchestra.stores.sqlite_files.opening import connect, prepare
from orchestra.stores.summary import StoreSummary
from orchestra.values import Passage, Vector
from tests.patience import PATIENCE_S

EAST = Vector.of([1.0, 0.0])
AWAY = Vector.of([0.0, 1.0])
ONE = Passage("one", "text", "one.md")
WEST = Passage("west", "text", "west.md")


def refused(call: Callable[[], Awaitable[object]]) -> str:
    async def main() -> None:
        await call()

    with pytest.raises(StoreError) as caught:
        trio.run(main)
    return str(caught.value)


async def fill(*collections: SqliteCollection) -> None:
    for collection in collections:
        await collection.upsert([ONE], [EAST])


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.sqlite"
    with SqliteStores(path) as stores:
        collection = stores.collection("handbook")
        assert stores.names() == []
        assert not path.parent.exists()
        trio.run(fill, collection)
        assert path.exists()


def test_importing_a_store_imports_no_numpy() -> None:
    code = "import sys, orchestra.stores.sqlite; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_the_collections_that_exist_in_order(tmp_path: Path) -> None:
    with SqliteStores(tmp_path / "store.sqlite") as stores:
        trio.run(fill, stores.collection("two"), stores.collection("one"))
        stores.collection("three")
        assert stores.names() == ["one", "two"]


def test_collections_of_one_file_are_apart(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = stores.collection("one"), stores.collection("two")
        await fill(one, two)
        assert await one.delete(where={}) == 1
        assert (await one.count(), await two.count()) == (0, 1)
        assert await one.digests() == await two.digests() == {}
        assert len(await two.search(EAST, top=9)) == 1

    with SqliteStores(tmp_path / "store.sqlite") as stores:
        trio.run(main)


def test_a_dropped_collection_leaves_nothing_to_the_next_which_may_get_its_key(
    tmp_path: Path,
) -> None:
    """Neither cached vectors nor indexed words; and the others stay."""

    async def main() -> None:
        kept, gone = stores.collection("a"), stores.collection("b")
        await fill(kept, gone)
        assert len(await gone.search(EAST, top=9)) == len(await gone.search_keywords("text", top=9))
        assert [await gone.drop(), await gone.drop()] == [1, 0]
        assert stores.names() == ["a"]
        assert await stores.summaries() == [StoreSummary("a", 1, 1, 2)]
        for name in ("b", "c"):
            after = stores.collection(name)
            await after.make()
            assert await after.search(EAST, top=9) == []
            assert await after.search_keywords("text", top=9) == []
            await after.upsert([WEST], [Vector.of([1.0, 0.0, 0.0])])
            (found,) = await after.search(Vector.of([0.0, 0.0, 1.0]), top=9)
            (same,) = await after.search_keywords("text", top=9)
            assert found.id == same.id == "west"
            assert await after.drop() == 1
        assert len(await kept.search_keywords("text", top=9)) == 1

    with SqliteStores(tmp_path / "store.sqlite") as stores:
        trio.run(main)


def test_a_summary_counts_documents_and_a_store_that_is_empty_again_has_no_dimensions(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        assert await stores.summaries() == []
        collection = stores.collection("one")
        three = [ONE, WEST, Passage("two", "text", "one.md")]
        await collection.upsert(three, [EAST] * 3)
        assert await stores.summaries() == [StoreSummary("one", 3, 2, 2)]
        await collection.delete(where={})
        assert await stores.summaries() == [StoreSummary("one", 0, 0, None)]

    with SqliteStores(tmp_path / "store.sqlite") as stores:
        trio.run(main)


def test_a_collection_that_does_not_exist_is_empty_but_cannot_be_searched(tmp_path: Path) -> None:
    async def main() -> None:
        await fill(stores.collection("handbook"))
        await typo.upsert([], [])
        assert (await typo.count(), await typo.delete(where={}), await typo.digests()) == (0, 0, {})

    with SqliteStores(tmp_path / "store.sqlite") as stores:
        typo = stores.collection("handbok")
        trio.run(main)
        message = refused(lambda: typo.search(EAST, top=1))
    assert str(tmp_path / "store.sqlite") in message
    assert "'handbok' does not exist; the file has 'handbook'" in message
    assert "orchestra ingest FOLDER --store handbok" in message


def test_a_collection_that_is_made_is_empty_and_takes_vectors_of_any_length(tmp_path: Path) -> None:
    async def main() -> None:
        await made.make()
        assert await made.search(EAST, top=1) == []
        assert stores.names() == ["handbook"]
        await fill(made)
        await made.make()
        assert (await made.count(), len(await made.search(EAST, top=1))) == (1, 1)

    with SqliteStores(tmp_path / "store.sqlite") as stores:
        made = stores.collection("handbook")
        trio.run(main)


def test_an_empty_file_has_no_collections(tmp_path: Path) -> None:
    with SqliteStores(tmp_path / "store.sqlite") as stores:
        message = refused(lambda: stores.collection("handbook").search(EAST, top=1))
    assert "the file has none" in message


@pytest.mark.parametrize("restored", [False, True])
def test_a_file_of_another_host_is_searched_in_the_place_of_the_one_that_was_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, restored: bool
) -> None:
    """Moved there, or restored into it; made in as many steps, it looked like the one before."""
    here, there = tmp_path / "store.sqlite", tmp_path / "there.sqlite"

    async def found(stores: SqliteStores) -> list[str]:
        return [each.id for each in await stores.collection("handbook").search(EAST, top=1)]

    async def main() -> None:
        with SqliteStores(here) as stores:
            await stores.collection("handbook").upsert([ONE, WEST], [EAST, AWAY])
        with SqliteStores(there) as stores:
            await stores.collection("handbook").upsert([ONE, WEST], [AWAY, EAST])
        with SqliteStores(here) as stores:
            assert await found(stores) == ["one"]
            replace()
            assert [await found(stores), await found(stores)] == [["west"]] * 2

    def replace() -> None:
        if restored:
            source, target = sqlite3.connect(there), sqlite3.connect(here)
            source.backup(target)
            source.close()
            target.close()
        else:
            there.rename(here)

    trio.run(main)
    told = [f"{here} was replaced by another file, which is used from now on"]
    assert [each.getMessage() for each in caplog.records] == ([] if restored else told)


def test_a_file_that_was_put_beside_the_log_of_another_is_refused_and_left_alone(
    tmp_path: Path,
) -> None:
    """SQLite would write what is in the log into it, whatever it is."""
    here, there = tmp_path / "store.sqlite", tmp_path / "there.sqlite"
    with SqliteStores(there) as stores:
        trio.run(fill, stores.collection("theirs"))
    theirs = there.read_bytes()
    with SqliteStores(here) as stores:
        collection = stores.collection("handbook")
        trio.run(fill, collection)
        there.rename(here)
        for _ in range(2):
            assert "store.sqlite-wal beside it may belong to the previous file" in refused(
                collection.count
            )
            assert here.read_bytes() == theirs
        for name in ("store.sqlite-wal", "store.sqlite-shm"):
            here.with_name(name).unlink()
        assert trio.run(stores.collection("theirs").count) == 1


def test_what_took_the_place_of_a_store_is_searched_by_its_own_vectors(tmp_path: Path) -> None:
    """Also where changes were counted still, and both counted alike."""
    here, there = tmp_path / "store.sqlite", tmp_path / "there.sqlite"

    async def main() -> None:
        for path, nearest in ((here, ONE), (there, WEST)):
            with SqliteStores(path) as stores:
                vectors = [EAST, AWAY] if nearest is ONE else [AWAY, EAST]
                await stores.collection("handbook").upsert([ONE, WEST], vectors)
            db = sqlite3.connect(path)
            db.execute("UPDATE collection SET version = 1")
            db.commit()
            db.close()
        with SqliteStores(here) as stores:
            collection = stores.collection("handbook")
            assert [each.id for each in await collection.search(EAST, top=1)] == ["one"]
            there.rename(here)
            assert [each.id for each in await collection.search(EAST, top=1)] == ["west"]

    trio.run(main)


def test_a_file_that_is_gone_is_not_made_anew_and_is_used_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.sqlite"
    with SqliteStores(path) as stores:
        collection = stores.collection("handbook")
        trio.run(fill, collection)
        assert trio.run(collection.count) == 1
        path.rename(tmp_path / "away")
        assert "the file that was open is gone; put it back" in refused(collection.count)
        with pytest.raises(StoreError, match="the file that was open is gone"):
            stores.names()
        assert not path.exists()
        tmp_path.rename(tmp_path.with_name("elsewhere"))
        tmp_path.touch()
        assert "it cannot be reached" in refused(collection.count)
        tmp_path.unlink()
        tmp_path.with_name("elsewhere").rename(tmp_path)
        (tmp_path / "away").rename(path)
        assert trio.run(collection.count) == 1


def test_a_file_that_was_only_read_is_not_made_anew_by_a_writer_where_it_is_gone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.sqlite"
    with SqliteStores(path) as stores:
        collection = stores.collection("handbook")
        assert trio.run(collection.count) == 0
        path.unlink()
        assert "the file that was open is gone" in refused(lambda: fill(collection))
        assert not path.exists()


def test_a_newer_version_that_takes_a_file_takes_it_from_who_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with SqliteStores(path) as stores:
        collection = stores.collection("handbook")
        trio.run(fill, collection)
        assert trio.run(collection.count) == 1
        newer(path)
        assert "its layout is 99" in refused(collection.count)
        assert "its layout is 99" in refused(lambda: fill(collection))


def other_program(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.close()


def newer(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 99")
    db.close()


def damaged(path: Path) -> None:
    with SqliteStores(path) as stores:
        trio.run(fill, stores.collection("handbook"))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("# A heading\n" * 100), "another kind of file"),
        (other_program, "SQLite file of another program (application_id 0x0)"),
        (newer, "written by a newer orchestra (its layout is 99, this one knows 1)"),
        (damaged, "move it away and ingest again"),
        (lambda path: path.mkdir(), "give the path of a file in a folder"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    path = tmp_path / "store.sqlite"
    make(path)
    before = path.is_file() and path.read_bytes()
    with SqliteStores(path) as stores:
        message = refused(lambda: stores.collection("handbook").search(EAST, top=1))
        assert message.startswith(f"{path}: ")
        assert says in message
        with pytest.raises(StoreError):
            stores.names()
    assert (path.is_file() and path.read_bytes()) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with SqliteStores(tmp_path / "file" / "store.sqlite") as stores:
        message = refused(stores.collection("handbook").count)
        assert message.startswith(f"{tmp_path}/file/store.sqlite: it cannot be reached: ")
        assert message.endswith("; give another folder")


def keyword_hits(collection: SqliteCollection, query: str) -> list[str]:
    async def main() -> list[str]:
        return [each.id for each in await collection.search_keywords(query, top=9)]

    return trio.run(main)


def test_the_first_keyword_search_makes_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a file that an orchestra without keyword search made."""
    monkeypatch.setattr(keyword_index, "ADDED_AT_ONCE", 2)
    some = [Passage(f"{number}", f"door {number}") for number in range(6)]
    with SqliteStores(tmp_path / "store.sqlite") as stores:
        trio.run(stores.collection("a").upsert, some[:5], [EAST] * 5)
        assert keyword_hits(stores.collection("a"), "door") == ["0", "1", "2", "3", "4"]
        trio.run(stores.collection("a").upsert, some[4:], [EAST] * 2)
        assert keyword_hits(stores.collection("a"), "door") == ["0", "1", "2", "3", "4", "5"]


def test_long_passages_are_indexed_in_small_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that another process that writes meanwhile does not wait too long for any of them."""
    path = tmp_path / "store.sqlite"
    monkeypatch.setattr(keyword_index, "CHARS_AT_ONCE", 20)
    some = [Passage(f"{number}", f"a door {number:03}") for number in range(5)]
    with SqliteStores(path) as stores:
        trio.run(stores.collection("a").upsert, some, [EAST] * 5)
        db = sqlite3.connect(path)
        assert not keyword_index.add_missing(db, 1)
        assert db.execute("SELECT count(*) FROM wording").fetchone() == (2,)
        db.commit()
        db.close()
        assert keyword_hits(stores.collection("a"), "door") == ["0", "1", "2", "3", "4"]


def test_between_two_transactions_of_indexing_other_processes_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyword_index, "ADDED_AT_ONCE", 2)
    some = [Passage(f"{number}", "door") for number in range(5)]

    async def main() -> None:
        with SqliteStores(tmp_path / "store.sqlite") as stores:
            collection = stores.collection("a")
            await collection.upsert(some, [EAST] * 5)
            began_s = trio.current_time()
            assert len(await collection.search_keywords("door", top=9)) == 5
            assert trio.current_time() - began_s == pytest.approx(2 * keyword_index.PAUSE_S)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_no_search_of_this_process_fills_the_pause_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many searches, one adds words, and the next one goes on when it has left."""
    path = tmp_path / "store.sqlite"
    monkeypatch.setattr(keyword_index, "ADDED_AT_ONCE", 2)
    some = [Passage(f"{number}", "door") for number in range(5)]

    async def main() -> None:
        with SqliteStores(path) as stores, contextlib.closing(sqlite3.connect(path)) as db:
            collection = stores.collection("a")
            await collection.upsert(some, [EAST] * 5)
            monkeypatch.setattr(keyword_index, "PAUSE_S", 1e6)
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(partial(collection.search_keywords, "door", top=1))
                for _ in range(9):  # both connections take turns in order
                    await trio.testing.wait_all_tasks_blocked()
                    await collection.count()
                    await collection.make()
                assert db.execute("SELECT count(*) FROM wording").fetchone() == (2,)
                nursery.cancel_scope.cancel()
            monkeypatch.setattr(keyword_index, "PAUSE_S", 0.0)
            assert len(await collection.search_keywords("door", top=9)) == 5

    trio.run(main)


def test_a_passage_that_is_being_replaced_is_found(tmp_path: Path) -> None:
    """Indexing what is missing and searching it are one transaction: no writer is in between."""
    path = tmp_path / "store.sqlite"
    door = Passage("1", "door")
    found = list[Passage]()

    async def main() -> None:
        with SqliteStores(path) as writer, SqliteStores(path) as reader:
            await writer.collection("a").upsert([door], [EAST])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(search, reader.collection("a"), nursery.cancel_scope)
                while True:
                    await writer.collection("a").upsert([door], [EAST])

    async def search(collection: SqliteCollection, writing: trio.CancelScope) -> None:
        for _ in range(200):
            found.extend(await collection.search_keywords("door", top=1))
        writing.cancel()

    trio.run(main)
    assert len(found) == 200


def test_without_keyword_searches_a_file_has_no_index(tmp_path: Path) -> None:
    """Who does not use keywords pays nothing for them, neither in time nor in space."""
    path = tmp_path / "store.sqlite"
    names = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    with SqliteStores(path) as stores:
        trio.run(fill, stores.collection("a"))
        trio.run(partial(stores.collection("a").search, EAST, top=1))
        db = sqlite3.connect(path)
        made = {name for (name,) in db.execute(names)}
        db.close()
    assert made == {"collection", "passage", "passage_source"}


def test_what_an_older_orchestra_writes_is_found_by_its_new_words(tmp_path: Path) -> None:
    """It does not know the keyword index, whose triggers forget what it changes."""
    path = tmp_path / "store.sqlite"
    some = [Passage("1", "door"), Passage("2", "wall"), Passage("3", "roof")]
    with SqliteStores(path) as stores:
        collection = stores.collection("a")
        trio.run(collection.upsert, some, [EAST] * 3)
        assert keyword_hits(collection, "door") == ["1"]
        db = sqlite3.connect(path)
        db.execute("UPDATE passage SET text = 'window' WHERE id = '1'")
        db.execute("DELETE FROM passage WHERE id = '2'")
        db.execute(
            "INSERT INTO passage (collection, id, source, text, metadata, vector) "
            "SELECT collection, '4', '', 'a new wall', '{}', vector FROM passage WHERE id = '3'"
        )
        db.commit()
        db.close()
        assert keyword_hits(collection, "door") == []
        assert keyword_hits(collection, "wall") == ["4"]
        assert keyword_hits(collection, "window roof") == ["1", "3"]


def test_without_fts5_only_keyword_search_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyword_index, "MODULE", "fts9")
    with SqliteStores(tmp_path / "store.sqlite") as stores:
        collection = stores.collection("a")
        trio.run(fill, collection)
        assert trio.run(collection.count) == 1
        told = refused(lambda: collection.search_keywords("text", top=1))
        assert f"needs FTS5, which the SQLite {sqlite3.sqlite_version} of this Python" in told
        assert "use another Python, or leave out keywords=..." in told
        monkeypatch.undo()
        assert keyword_hits(collection, "text") == ["one"]


def test_a_file_with_a_keyword_index_is_only_read_without_fts5(tmp_path: Path) -> None:
    """Its triggers need FTS5, which is here replaced by a module that no SQLite has."""
    path = tmp_path / "store.sqlite"
    with SqliteStores(path) as stores:
        trio.run(fill, stores.collection("a"))
        assert keyword_hits(stores.collection("a"), "text") == ["one"]
    db = sqlite3.connect(path)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = replace(sql, 'USING fts5', 'USING fts9')")
    db.commit()
    db.close()
    with SqliteStores(path) as stores:
        collection = stores.collection("a")
        assert [each.id for each in trio.run(partial(collection.search, EAST, top=9))] == ["one"]
        for call in (partial(fill, collection), partial(collection.delete, where={})):
            assert "needs FTS5, but this Python's SQLite was compiled without it" in refused(call)
        assert trio.run(collection.count) == 1


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    stores = SqliteStores(tmp_path / "store.sqlite")
    trio.run(fill, stores.collection("handbook"))
    stores.close()
    stores.close()
    assert "is closed" in refused(stores.collection("handbook").count)


def test_a_writer_elsewhere_holds_up_writers_only_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_S", 0.01)
    with SqliteStores(tmp_path / "store.sqlite") as stores:
        collection = stores.collection("handbook")
        trio.run(fill, collection)
        elsewhere = sqlite3.connect(stores.path, isolation_level=None)
        elsewhere.execute("BEGIN EXCLUSIVE")
        assert trio.run(collection.count) == 1
        message = refused(lambda: collection.upsert([ONE], [EAST]))
        assert "another process has been writing" in message
        elsewhere.close()
        trio.run(fill, collection)


def test_a_full_disk_loses_nothing_that_was_there(tmp_path: Path) -> None:
    def fill_disk(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE big (x)")
        db.execute("INSERT INTO big VALUES (zeroblob(1000000))")

    async def main() -> None:
        await fill(stores.collection("handbook"))
        writes = FileConnection(place_of(stores.path), begin="BEGIN IMMEDIATE")
        await writes.run(lambda db: db.execute("PRAGMA max_page_count = 20").fetchall())
        with pytest.raises(StoreError, match="the disk is full"):
            await writes.run(fill_disk)
        await writes.run(lambda db: db.execute("SELECT 1"))
        writes.close()
        assert await stores.collection("handbook").count() == 1

    with SqliteStores(tmp_path / "store.sqlite") as stores:
        trio.run(main)


def test_processes_may_make_and_write_one_file_at_once(tmp_path: Path) -> None:
    """Each starts on a file that is not there, at the same moment, and each is heard."""
    code = """if True:
        import sys, trio
        from orchestra.stores.sqlite import SqliteStores
        from orchestra.values import Passage, Vector

        async def main():
            collection = SqliteStores(sys.argv[1]).collection("handbook")
            for i in range(20):
                await collection.upsert([Passage(f"{sys.argv[2]}{i}", "")], [Vector.of([1.0])])

        print("ready", flush=True)
        sys.stdin.readline()
        trio.run(main)
    """
    path = tmp_path / "store.sqlite"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=PATIENCE_S * 2)
    assert [writer.returncode for writer in writers] == [0] * len(writers)
    with SqliteStores(path) as stores:
        assert trio.run(stores.collection("handbook").count) == 80


def test_no_call_opens_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(socket, "socket", None)
        await fill(stores.collection("handbook"))

    with SqliteStores(tmp_path / "store.sqlite") as stores:
        trio.run(main)


def test_a_file_that_another_process_makes_at_this_moment_is_not_a_stranger_s(
    tmp_path: Path,
) -> None:
    """It is looked at in one snapshot: without a mark and empty, or with both."""
    path = tmp_path / "store.sqlite"
    db = sqlite3.connect(path, isolation_level=None)

    def make_meanwhile(statement: str) -> None:
        if "sqlite_master" in statement:
            db.set_trace_callback(None)
            with contextlib.suppress(sqlite3.OperationalError):  # locked: it has to wait
                connect(path, SCHEMA, timeout_s=0.01).close()

    db.set_trace_callback(make_meanwhile)
    prepare(path, db, SCHEMA, timeout_s=0.01)
    db.close()
    with SqliteStores(path) as stores:
        assert stores.names() == []
