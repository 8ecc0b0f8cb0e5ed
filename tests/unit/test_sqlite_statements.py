"""The SQL itself: every statement is used, and the hot ones find what they need by an index."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import msgspec
import pytest

from holdfast.store.sql import migrations, rows_of, statements
from holdfast.store.sqlite import reads, rows, schema
from tests.contract.making import start_run

CODE = "\n".join(path.read_text() for path in Path(schema.__file__).parent.glob("*.py"))


@pytest.fixture
def database() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    for migration in migrations("sqlite"):
        connection.execute(migration.text)
    schema.add_procedures(connection)
    return connection


@pytest.mark.parametrize("file", ["reads", "writes", "upkeep"])
def test_every_statement_is_used(file: str) -> None:
    for name in statements("sqlite", file):
        assert f'"{name}"' in CODE or name.endswith("_columns"), name


def test_rows_are_parentheses_of_placeholders() -> None:
    assert rows_of("INSERT INTO t VALUES {rows}", 3, 2) == "INSERT INTO t VALUES (?, ?, ?), (?, ?, ?)"


def test_a_view_has_as_many_columns_as_its_definition_says(database: apsw.Connection) -> None:
    for view in ("appends", "changes", "starts"):
        assert database.execute(f"SELECT count(*) FROM {view}").get == 1


def test_the_queue_is_counted_by_its_index(database: apsw.Connection) -> None:
    """A start among a hundred thousand waiting runs costs what it costs alone."""
    for number in range(1000):
        database.execute(
            "INSERT INTO runs SELECT ?, ?, 't', 'a', 'i', NULL, NULL, 'waiting', 1, 0, 0, x'', NULL, NULL, NULL, NULL, "
            "'', '', '', '{}', NULL, 0.0, 0, NULL, NULL, 0, '[]', 0, x'', 0",
            (number + 1, f"r{number}"),
        )
    steps: list[int] = []
    database.trace_v2(
        apsw.SQLITE_TRACE_PROFILE, lambda event: steps.append(event["stmt_status"]["SQLITE_STMTSTATUS_FULLSCAN_STEP"])
    )
    write = start_run("new")
    run = msgspec.structs.replace(write.run, number=5000)

    database.execute(rows_of(statements("sqlite", "writes")["start"], 53, 1), rows.start_row(write, run, 0))

    assert sum(steps) < 10


SCANS_ALLOWED = re.compile(
    r"SCAN (\w+ VIRTUAL TABLE|CONSTANT ROW|page|candidates|d\b|i\b|\(|given|lease|o\b"
    r"|tenants|shares|agents|lost|placed|fitting|r USING INDEX runs_queued_children)"
)


QUERIES = """
    run_by_id run_by_number counts unserved segments segments_by_time marks thread_runs_after segment_around tails
    steps interrupts pending last_resolved due inbox thread threads messages idempotency file
"""


@pytest.mark.parametrize("name", QUERIES.split())
def test_a_query_reads_only_what_it_returns(database: apsw.Connection, name: str) -> None:
    """So a hundred thousand waiting runs cost a query for others nothing."""
    plan = explain(database, reads.SQL[name])

    for line in plan:
        if line.startswith("SCAN") and not SCANS_ALLOWED.match(line):
            assert "USING COVERING INDEX runs_active" in line or "runs_active" in line, plan


@pytest.mark.parametrize(
    "name", ["claimable", "has_place", "lost", "renew", "head", "part_answer", "close_parts", "outbox_done"]
)
def test_a_write_finds_its_rows_by_an_index(database: apsw.Connection, name: str) -> None:
    plan = explain(database, statements("sqlite", "writes")[name])

    for line in plan:
        if line.startswith("SCAN") and not SCANS_ALLOWED.match(line):
            assert "heads_leased" in line, plan


@pytest.mark.parametrize("name", ["to_prune", "prune_facts", "prune_segments", "ended_runs", "runs_of_thread"])
def test_upkeep_finds_its_rows_by_an_index(database: apsw.Connection, name: str) -> None:
    plan = explain(database, statements("sqlite", "upkeep")[name])

    assert not [line for line in plan if line.startswith("SCAN") and "going" not in line and "(" not in line], plan


def explain(database: apsw.Connection, text: str) -> list[str]:
    cursor = database.cursor()
    cursor.exec_trace = lambda *_: True
    names = set(re.findall(r":(\w+)", text))
    values = dict.fromkeys(names) if names else (None,) * text.count("?")
    return [str(row[3]) for row in cursor.execute(f"EXPLAIN QUERY PLAN {text}", values)]
