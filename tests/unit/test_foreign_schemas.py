"""Schemas that callers write: checked at once where that is plainly cheap, else where it can be ended."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from holdfast.execution import foreign_schemas
from holdfast.execution.foreign_schemas import check_schema, misfits_of
from holdfast.execution.schema import InvalidSchema

NO_PROCESS: dict[str, Any] = {
    "type": "object",
    "properties": {"people": {"type": "array", "items": {"$ref": "#/$defs/person"}}, "by": {"$ref": "#/$defs/person"}},
    "required": ["people"],
    "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}},
}
EVIL = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
TREE = {"type": "object", "properties": {"below": {"type": "array", "items": {"$ref": "#"}}}, "required": ["below"]}


def doubling(depth: int) -> dict[str, Any]:
    """Each definition refers twice to the next one."""
    names = [f"#/$defs/d{number}" for number in range(1, depth + 1)]
    parts = {f"d{number}": {"anyOf": [{"$ref": name}, {"$ref": name}]} for number, name in enumerate(names)}
    return {"$ref": "#/$defs/d0", "$defs": {**parts, f"d{depth}": {"type": "integer"}}}


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: object) -> None:
        raise AssertionError("no process was needed")

    monkeypatch.setattr(foreign_schemas, "_asked", refuse)


@pytest.mark.usefixtures("no_process")
async def test_what_is_cheap_is_checked_at_once() -> None:
    await check_schema(NO_PROCESS)

    assert await misfits_of(NO_PROCESS, b'{"people":[{"name":"Anna"}]}') == []
    [misfit] = await misfits_of(NO_PROCESS, b'{"people":[{"name":"Bartholomew"}]}')
    assert misfit.pointer == "/people/0/name"


@pytest.mark.usefixtures("no_process")
async def test_what_is_no_schema_is_refused_at_once() -> None:
    with pytest.raises(InvalidSchema, match="no JSON Schema"):
        await check_schema({"type": "thing"})


async def test_patterns_and_trees_are_checked_in_a_process_of_their_own() -> None:
    await check_schema(TREE)

    assert await misfits_of(EVIL, b'{"a":"aaa"}') == []
    assert [item.pointer for item in await misfits_of(TREE, b'{"below":[{"below":[]},{}]}')] == ["/below/1"]


async def test_what_is_no_schema_is_found_there_too() -> None:
    with pytest.raises(InvalidSchema, match="is not a 'regex'"):
        await check_schema({"type": "string", "pattern": "("})


@pytest.mark.parametrize(
    ("schema", "value"),
    [(EVIL, {"a": "a" * 60 + "!"}), (doubling(60), "no integer")],
    ids=["a regular expression", "references"],
)
async def test_what_would_take_years_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, schema: dict[str, Any], value: Any
) -> None:
    monkeypatch.setattr(foreign_schemas, "WALL_SECONDS", 1.5)
    begun = time.monotonic()

    [misfit] = await misfits_of(schema, msgspec.json.encode(value))

    assert "too costly" in misfit.message
    assert time.monotonic() - begun < 30


async def test_a_default_that_would_take_years_refuses_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_schemas, "WALL_SECONDS", 1.5)
    schema = {"properties": {"a": {"type": "string", "pattern": "^(a+)+$", "default": "a" * 60 + "!"}}}

    with pytest.raises(InvalidSchema, match="not looked through"):
        await check_schema(schema)


async def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(400):
        schema = {"items": schema}

    with pytest.raises(InvalidSchema):
        await check_schema({**schema, "pattern": "x"})
