"""The OpenAPI document: every route is in it, and what it refers to exists."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from holdfast import agent
from holdfast.api import control, engine, runtime, skills, workflow
from holdfast.api.http.openapi import document, operation_key, rebased, routes_of
from holdfast.api.http.routing import Api
from holdfast.api.runtime.pages import front_page, reference_page

APIS = (runtime.api(), engine.api(), control.api(), workflow.api(), skills.api())


@agent("a:b")
async def served(input: dict[str, Any]) -> dict[str, Any]:
    """Answers."""
    return input


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document(APIS, [served], "a:b", version="1", is_open=False)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_every_route_has_its_operation_and_every_operation_its_route(api: Api) -> None:
    assert {operation_key(method, path) for method, path, _ in routes_of(api)} == set(api.operations)


def test_every_call_of_the_document_has_a_summary_and_an_id_of_its_own(made: dict[str, Any]) -> None:
    calls = [call for methods in made["paths"].values() for call in methods.values()]

    assert [call["operationId"] for call in calls if not call["summary"]] == []
    assert len({call["operationId"] for call in calls}) == len(calls)


def test_every_reference_leads_somewhere(made: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"/]+)', json.dumps(made)))

    assert names <= set(made["components"]["schemas"])
    assert "a_b.input" in names


def test_public_calls_ask_for_no_key(made: dict[str, Any]) -> None:
    assert made["paths"]["/health"]["get"]["security"] == []
    assert "401" not in made["paths"]["/health"]["get"]["responses"]
    assert "401" in made["paths"]["/runs"]["get"]["responses"]


def test_references_inside_of_a_schema_hold_where_it_stands() -> None:
    schema = {"$ref": "#/$defs/x", "$defs": {"x": {"items": [{"$ref": "#"}]}}}

    assert rebased(schema, "#/here") == {"$ref": "#/here/$defs/x", "$defs": {"x": {"items": [{"$ref": "#/here"}]}}}


def test_the_pages_load_nothing_from_anywhere(made: dict[str, Any]) -> None:
    pages = reference_page(made) + front_page("1", ["a:b"], "a:b", "http://a")

    assert re.findall(r"(?:src|href)=\"(?!/|#|data:,)[^\"]*\"|<script|@import|url\(", pages) == []


def test_the_reference_leads_to_each_api_and_shows_code_as_code(made: dict[str, Any]) -> None:
    page = reference_page(made)

    links = re.findall(r'href="#([^"]+)"', page)
    assert "runtime-api" in links
    assert all(f'id="{link}"' in page for link in links)
    assert "its event <code>started</code> is durable" in page


def test_names_of_agents_are_shown_and_not_interpreted() -> None:
    assert "<b>x" not in front_page("1", ["<b>x"], None, "http://<b>x")
