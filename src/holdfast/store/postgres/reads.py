"""Statements that read, with the columns of their structs filled in, and the query over runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.model import Status
from holdfast.store.base import RunQuery
from holdfast.store.sql import statements

# Short segments are many: a page of them is bounded by their number too.
PAGE_SEGMENTS_MAX: Final = 256


def _with_columns(texts: Mapping[str, str]) -> dict[str, str]:
    filled = {}
    for name, text in texts.items():
        filled[name] = text
        for columns in ("run", "segment", "interrupt", "thread"):
            filled[name] = filled[name].replace(f"{{{columns}}}", texts[f"{columns}_columns"])
    return filled


SQL: Final = _with_columns(statements("postgres", "reads"))


def runs_query(query: RunQuery) -> tuple[str, list[Any]]:
    """The statement and its parameters."""
    where, values = _where(query)
    values += (query.limit, query.offset)
    text = SQL["runs"].replace("{where}", where)
    return text.replace("{limit}", f"${len(values) - 1}").replace("{offset}", f"${len(values)}"), values


def count_query(query: RunQuery) -> tuple[str, list[Any]]:
    """The same for how many there are."""
    where, values = _where(query)
    return SQL["count_runs"].replace("{where}", where), values


def _where(query: RunQuery) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("r.tenant =", query.tenant),
        ("r.agent =", query.agent),
        ("r.thread_id =", query.thread_id),
        ("r.parent =", query.parent),
        ("r.created_at >", query.created_after),
        ("r.created_at <", query.created_before),
        ("r.number <", query.before),
        ("r.caller =", query.caller),
    ):
        if value is not None:
            values.append(value)
            conditions.append(f"{condition} ${len(values)}")
    if query.shown_thread is not None:
        values.append(query.shown_thread)
        conditions.append(f"(r.thread_id = ${len(values)} OR (r.thread_id IS NULL AND r.run_id = ${len(values)}))")
    if query.statuses:
        # As text: only so can the index of the active runs be used. They are words of ours.
        words = ", ".join(repr(Status(status).value) for status in query.statuses)
        conditions.append(f"r.status IN ({words})")
    if query.agent_prefixes:
        values.append(list(query.agent_prefixes))
        conditions.append(f"EXISTS (SELECT 1 FROM unnest(${len(values)}::text[]) p WHERE starts_with(r.agent, p))")
    if query.asks_person is not None:
        conditions.append(f"{'' if query.asks_person else 'NOT '}EXISTS ({SQL['asks_person']})")
    return " AND ".join(conditions) or "true", values
