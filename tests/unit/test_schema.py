"""Declared schemas: what loads, what fits, what is undeclared."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.execution.schema import InvalidSchema, Schema, shown_path, without

USER = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1},
        "level": {"enum": ["low", "high"]},
        "count": {"type": "integer", "minimum": 1, "default": 3},
        "user": {"$ref": "#/$defs/user"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "a/b~c": {"type": "null"},
    },
    "required": ["query"],
    "$defs": {"user": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}


@pytest.mark.parametrize(
    ("value", "pointer", "message"),
    [
        ({"query": 5}, "/query", "5 is not of type 'string'"),
        ({"query": ""}, "/query", "'' should be non-empty"),
        ({}, "", "'query' is a required property"),
        ({"query": "a", "level": "mid"}, "/level", "'mid' is not one of ['low', 'high']"),
        ({"query": "a", "count": 0}, "/count", "0 is less than the minimum of 1"),
        ({"query": "a", "count": "3"}, "/count", "'3' is not of type 'integer'"),
        ({"query": "a", "count": True}, "/count", "True is not of type 'integer'"),
        ({"query": "a", "user": {}}, "/user", "'name' is a required property"),
        ({"query": "a", "user": {"name": 1}}, "/user/name", "1 is not of type 'string'"),
        ({"query": "a", "tags": ["a", 1]}, "/tags/1", "1 is not of type 'string'"),
        ({"query": "a", "tags": ["a", "b", "c"]}, "/tags", "['a', 'b', 'c'] is too long"),
        ({"query": "a", "a/b~c": 1}, "/a~1b~0c", "1 is not of type 'null'"),
        ([], "", "[] is not of type 'object'"),
    ],
)
def test_a_misfit_has_its_pointer_and_its_reason(value: Any, pointer: str, message: str) -> None:
    (misfit,) = Schema(USER).misfits(value)

    assert (misfit.pointer, misfit.message) == (pointer, message)


def test_a_misfit_reads_as_path_and_reason() -> None:
    assert [item.text for item in Schema(USER).misfits({"query": 5, "user": {}})] == [
        "query: 5 is not of type 'string'",
        "user: 'name' is a required property",
    ]


def test_format_is_not_asserted() -> None:
    assert Schema({"type": "string", "format": "date-time"}).misfits("soon") == []


def test_defaults_of_absent_top_level_properties_are_filled_in() -> None:
    schema = Schema({**USER, "allOf": [{"properties": {"mode": {"default": "fast"}}}]})

    given = {"query": "a"}

    assert schema.with_defaults(given) == {"query": "a", "count": 3, "mode": "fast"}
    assert given == {"query": "a"}
    assert schema.with_defaults({"count": None}) == {"count": None, "mode": "fast"}
    assert schema.with_defaults([1]) == [1]


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"type": "strin"}, "/type"),
        ({"properties": {"a": {"minimum": "1"}}}, "/properties/a/minimum"),
        ({"properties": {"a": {"type": "string", "default": 5}}}, "/properties/a/default"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema"),
        ({"pattern": "("}, "/pattern"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, ""),
        ({"properties": {"a": {"$ref": "other.json"}}}, ""),
        ({"items": {"$ref": "#/$defs/absent"}}, ""),
        ({"$ref": "#"}, ""),
        ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#"}}}, ""),
    ],
)
def test_what_cannot_hold_does_not_load(document: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidSchema) as caught:
        Schema(document)

    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "document",
    [
        {"properties": {"child": {"$ref": "#"}}},
        {"$defs": {"a": {"$anchor": "here"}}, "$ref": "#here"},
        {"properties": {"$ref": {"type": "string"}}},
        {"enum": [{"$ref": "https://elsewhere"}]},
        {"$id": "https://example.com/root", "$defs": {"a": {"$id": "a", "type": "string"}}, "items": {"$ref": "a"}},
    ],
)
def test_references_inside_of_the_document_load(document: dict[str, Any]) -> None:
    Schema(document)


@pytest.mark.parametrize(
    ("extra", "value", "paths"),
    [
        ({}, {"query": "a", "x": 1}, ["x"]),
        ({}, {"query": "a", "user": {"name": "b", "x": {"y": 1}}}, ["user.x"]),
        ({"patternProperties": {"^x-": {}}}, {"x-a": 1, "y": 1}, ["y"]),
        ({"additionalProperties": {"type": "integer"}}, {"x": 1}, []),
        ({"anyOf": [{"properties": {"x": {}}}, {}]}, {"x": 1, "y": 1}, ["y"]),
        ({"properties": {"list": {"items": {"properties": {"a": {}}}}}}, {"list": [{"a": 1}, {"b": 1}]}, ["list.1.b"]),
        ({"properties": {"free": {"type": "object"}}}, {"free": {"anything": 1}}, []),
    ],
)
def test_undeclared_keys_are_those_that_no_part_names(extra: dict[str, Any], value: Any, paths: list[str]) -> None:
    schema = Schema({**USER, **extra})

    assert [shown_path(path) for path in schema.undeclared(value)] == paths


def test_removing_paths_leaves_the_value_itself_alone() -> None:
    value = {"a": [{"b": 1, "c": 2}], "d": 3}

    assert without(value, [("a", 0, "b"), ("d",)]) == {"a": [{"c": 2}]}
    assert value == {"a": [{"b": 1, "c": 2}], "d": 3}
