"""Transactions take effect whole or not at all, for all threads and after forks."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontainer.content import Database, Schema, _database
from pycontainer.errors import StoreError

TABLES = Schema("room", 1, "CREATE TABLE IF NOT EXISTS fruit (name TEXT PRIMARY KEY)")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "db")
    database.ensure(TABLES)
    yield database
    database.close()


def add(db: Database, name: str) -> None:
    with db.transaction() as connection:
        connection.execute("INSERT INTO fruit VALUES (?)", (name,))


def names(db: Database) -> set[str]:
    with db.transaction(write=False) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM fruit")}


def fail(db: Database, name: str, error: BaseException) -> None:
    with db.transaction() as connection:
        connection.execute("INSERT INTO fruit VALUES (?)", (name,))
        raise error


# --- transactions ----------------------------------------------------------------------------


def test_a_transaction_takes_effect_whole(db: Database) -> None:
    add(db, "apple")
    assert names(db) == {"apple"}


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()])
def test_after_an_exception_nothing_was_done(db: Database, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail(db, "apple", error)
    assert names(db) == set()
    add(db, "apple")


def test_what_is_nested_takes_effect_with_the_whole(db: Database) -> None:
    with pytest.raises(RuntimeError, match="outer"), db.transaction():  # noqa: PT012
        add(db, "apple")
        raise RuntimeError("outer")
    assert names(db) == set()
    with db.transaction():
        add(db, "apple")
        assert names(db) == {"apple"}
    assert names(db) == {"apple"}


def test_a_nested_failure_undoes_its_own_part_only(db: Database) -> None:
    with db.transaction():
        add(db, "apple")
        with pytest.raises(RuntimeError, match="inner"):
            fail(db, "pear", RuntimeError("inner"))
        with pytest.raises(RuntimeError, match="inner"):
            fail(db, "pear", RuntimeError("inner"))
        add(db, "plum")
    assert names(db) == {"apple", "plum"}


def test_nothing_is_written_while_reading(db: Database) -> None:
    with db.transaction(write=False), pytest.raises(RuntimeError, match="within a reading one"):
        add(db, "apple")
    add(db, "apple")


def test_wrong_statements_are_their_authors_fault(db: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="syntax"), db.transaction() as connection:
        connection.execute("SELEKT")
    add(db, "apple")
    with pytest.raises(sqlite3.IntegrityError):
        add(db, "apple")


def test_threads_take_turns(db: Database) -> None:
    def count() -> None:
        for _ in range(50):
            with db.transaction() as connection:
                (n,) = connection.execute("SELECT count(*) FROM fruit").fetchone()
                connection.execute("INSERT INTO fruit VALUES (?)", (str(n),))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(db) == {str(n) for n in range(200)}


def test_two_handles_take_turns(db: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "db")
    with db.transaction() as connection:
        connection.execute("INSERT INTO fruit VALUES ('apple')")
        assert names(other) == set()
    assert names(other) == {"apple"}
    other.close()


# --- failures of the file --------------------------------------------------------------------


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database at all" * 100)
    database = Database(tmp_path / "db")
    with pytest.raises(StoreError, match=r"not a database.*\(remedy: use another store"):
        database.ensure(TABLES)
    database.close()


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    database = Database(tmp_path / "none/db")
    with pytest.raises(StoreError, match=r"unable to open.*\(remedy: check that this user"):
        database.ensure(TABLES)
    database.close()


def test_a_full_disk_is_told_and_undone(db: Database) -> None:
    with db.transaction(write=False) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="make room"), db.transaction() as connection:
        connection.executemany(
            "INSERT INTO fruit VALUES (?)", [(str(n) * 50,) for n in range(1000)]
        )
    assert names(db) == set()
    add(db, "apple")


def test_a_closed_database_stays_closed(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    database.close()
    database.close()
    with pytest.raises(ValueError, match="closed"):
        database.ensure(TABLES)
    assert not (tmp_path / "db").exists()


# --- schemas ---------------------------------------------------------------------------------


def test_tables_are_made_once(db: Database, tmp_path: Path) -> None:
    add(db, "apple")
    other = Database(tmp_path / "db")
    other.ensure(TABLES)
    other.ensure(TABLES)
    assert names(other) == {"apple"}
    other.close()


def test_a_script_may_hold_several_statements(db: Database) -> None:
    ddl = """
        CREATE TABLE IF NOT EXISTS a (x TEXT DEFAULT ';');  -- one;
        CREATE TRIGGER IF NOT EXISTS t AFTER INSERT ON a BEGIN DELETE FROM a; END;
    """
    db.ensure(Schema("many", 1, ddl))
    with db.transaction() as connection:
        connection.execute("INSERT INTO a DEFAULT VALUES")
        assert connection.execute("SELECT * FROM a").fetchall() == []


def test_a_wrong_script_leaves_no_trace(db: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        db.ensure(Schema("bad", 1, "CREATE TABLE b (x); CREATE NONSENSE"))
    db.ensure(Schema("bad", 1, "CREATE TABLE b (x)"))


def test_a_newer_version_completes_the_tables(db: Database, tmp_path: Path) -> None:
    db.ensure(Schema("room", 2, TABLES.ddl + "; CREATE TABLE IF NOT EXISTS more (x)"))
    with db.transaction() as connection:
        connection.execute("INSERT INTO more VALUES (1)")
    older = Database(tmp_path / "db")
    with pytest.raises(StoreError, match="'room' are of version 2, this program knows up to 1"):
        older.ensure(TABLES)
    older.close()


# --- forks -----------------------------------------------------------------------------------


def test_a_child_leaves_the_parents_transaction_alone(db: Database) -> None:
    """What `Store` does after a fork, here without one: the child's copy must not commit."""
    with db.transaction() as connection:
        connection.execute("INSERT INTO fruit VALUES ('apple')")
        db.leave_to_parent()
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    assert _database._inherited.pop() is connection
    connection.close()
    add(db, "pear")
    assert names(db) == {"pear"}
