"""
The OpenAPI 3.1 document of a server: every route that it serves, with the schemas of its agents. No I/O.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from holdfast.api.http.operations import Answers, Body, Operation, Parameter, component
from holdfast.api.http.routing import Api
from holdfast.execution.program import Program, spec_of

_FOR_ALL: Final = (400, 408, 414, 431, 500)
_WITH_KEY: Final = (401, 403, 429, 503)
_WITH_BODY: Final = (413, 415, 422)
_TITLES: Final = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}

# A route's parameter and its kind: `{run_id:str}`.
_PATH_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")


def document(
    apis: Sequence[Api],
    programs: Sequence[Program],
    default_agent: str | None,
    *,
    version: str,
    is_open: bool,
    public_pages: bool = True,
) -> dict[str, Any]:
    """The whole document. `is_open`: no key is asked for; `public_pages`: nor for the pages about the server."""
    schemas: dict[str, Any] = {}
    for api in apis:
        schemas |= api.schemas
    schemas |= _agent_schemas(programs, default_agent)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast",
            "version": version,
            "summary": "Agents behind HTTP whose runs outlive connections and processes.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": api.name, "description": f"The {api.name.title()} API"} for api in apis],
        **({} if is_open else {"security": [{"apiKey": []}, {"bearer": []}]}),
        "paths": _paths(apis, [program.name for program in programs], is_open=is_open, public_pages=public_pages),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def operation_key(method: str, path: str) -> str:
    """Under which a table of operations holds a route."""
    return f"{method} {shown_path(path)}"


def shown_path(path: str) -> str:
    """A route's path without the kinds of its parameters: `/runs/{run_id}`."""
    return _PATH_PARAMETER.sub(r"{\1}", path)


def routes_of(api: Api) -> Iterable[tuple[str, str, Any]]:
    """Method, path and handler of every route of an API."""
    for handler in api.handlers:
        for path in sorted(handler.paths):
            for method in sorted(map(str, handler.http_methods)):
                yield method, path, handler


def _paths(apis: Sequence[Api], agents: Sequence[str], *, is_open: bool, public_pages: bool) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for api in apis:
        for method, path, handler in routes_of(api):
            operation = api.operations.get(operation_key(method, path))
            if operation is not None:
                paths.setdefault(shown_path(path), {})[method.lower()] = _operation(
                    api, method, path, handler, operation, agents, is_open=is_open, public_pages=public_pages
                )
    return paths


def _operation(
    api: Api,
    method: str,
    path: str,
    handler: Any,
    operation: Operation,
    agents: Sequence[str],
    *,
    is_open: bool,
    public_pages: bool,
) -> dict[str, Any]:
    is_public = bool(handler.opt.get("public")) and (public_pages or "page" not in handler.opt)
    text = inspect.getdoc(handler.fn) or ""
    summary, _, rest = text.partition("\n\n")
    shown: dict[str, Any] = {
        "operationId": _operation_id(method, path),
        "tags": [api.name],
        "summary": " ".join(summary.split()),
        "parameters": [*_path_parameters(path, agents, api.examples), *map(_parameter, operation.parameters)],
        "responses": _responses(api, operation, is_public=is_public, has_path_values="{" in path),
    }
    if rest:
        shown["description"] = " ".join(rest.split())
    if not is_public:
        shown["x-role"] = handler.opt.get("role", "reader")
    elif not is_open:
        shown["security"] = []
    if operation.body is not None:
        shown["requestBody"] = _body(operation.body, is_of_agent="/agents/{" in path)
    return shown


def _operation_id(method: str, path: str) -> str:
    words = re.findall(r"\w+", _PATH_PARAMETER.sub(r"\1", path)) or ["root"]
    return "_".join([method.lower(), *words])


def _path_parameters(path: str, agents: Sequence[str], examples: Mapping[str, str]) -> list[dict[str, Any]]:
    names = _PATH_PARAMETER.findall(path)
    schemas = {name: {"type": "string", "minLength": 1} for name in names}
    if "name" in schemas and path.startswith("/agents/"):
        schemas["name"] = {"type": "string", "enum": list(agents)}
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas[name]}
        | ({"example": examples[name]} if name in examples else {})
        for name in names
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.text,
        "schema": parameter.schema,
    }
    return shown if parameter.example is msgspec.UNSET else shown | {"example": parameter.example}


def _body(body: Body, *, is_of_agent: bool) -> dict[str, Any]:
    schema = body.schema
    if schema == "AgentInput" and is_of_agent:
        schema = "AnyAgentInput"  # whose, only the path tells
    content: dict[str, Any] = {"schema": _schema(schema)}
    if body.example is not None:
        content["example"] = body.example
    return {"required": body.is_required, "content": {body.media_type: content}}


def _schema(schema: Any) -> Any:
    return component(schema) if isinstance(schema, str) else schema


def _responses(api: Api, operation: Operation, *, is_public: bool, has_path_values: bool) -> dict[str, Any]:
    refusals = {*_FOR_ALL, *operation.refusals}
    if not is_public:
        refusals |= set(_WITH_KEY)
    if operation.body is not None:
        refusals |= set(_WITH_BODY)
    if operation.parameters or not is_public:
        refusals.add(422)
    if has_path_values:
        refusals.add(404)
    answers: dict[int, dict[str, Any]] = {status: _answer(item) for status, item in operation.answers.items()}
    for status in refusals - set(answers):
        title = _TITLES.get(status) or HTTPStatus(status).phrase
        answers[status] = {
            "description": title,
            "content": {api.error_media_type: {"schema": component(api.error_schema)}},
        }
    if operation.is_page:
        for answer in answers.values():
            answer.setdefault("content", {})["text/html"] = {"schema": {"type": "string"}}
    return {str(status): answers[status] for status in sorted(answers)}


def _answer(answer: Answers) -> dict[str, Any]:
    if answer.media_type is None:
        return {"description": answer.text}
    content: dict[str, Any] = {"schema": _schema(answer.schema)}
    if answer.example is not msgspec.UNSET:
        content["example"] = answer.example
    return {"description": answer.text, "content": {answer.media_type: content}}


# The agents' schemas


def input_schema_of(program: Program) -> dict[str, Any]:
    """What an agent takes on this API; without a declared schema, an object."""
    return spec_of(program).input_schema or {"type": "object"}


def output_schema_of(program: Program) -> dict[str, Any]:
    """What an agent gives; without a declared schema, any JSON value."""
    return spec_of(program).output_schema or {}


def _agent_schemas(programs: Sequence[Program], default_agent: str | None) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    inputs: dict[str, dict[str, Any]] = {}
    for program in programs:
        for kind, schema in (("input", input_schema_of(program)), ("output", output_schema_of(program))):
            # Names of components have no colon; those of agents may.
            name = f"{program.name.replace(':', '_')}.{kind}"
            schemas[name] = rebased(schema, f"#/components/schemas/{name}")
            if kind == "input":
                inputs[program.name] = component(name)
    schemas["AgentInput"] = inputs.get(default_agent or "", {"type": "object"})
    schemas["AnyAgentInput"] = {"anyOf": list(inputs.values())} if inputs else {"type": "object"}
    return schemas


def rebased(schema: Any, place: str) -> Any:
    """A schema whose references inside itself hold where it stands in another document."""
    if isinstance(schema, Mapping):
        moved = {name: rebased(value, place) for name, value in schema.items()}
        target = moved.get("$ref")
        if isinstance(target, str) and target.startswith("#"):
            moved["$ref"] = place + target[1:]
        return moved
    return [rebased(item, place) for item in schema] if isinstance(schema, list) else schema
