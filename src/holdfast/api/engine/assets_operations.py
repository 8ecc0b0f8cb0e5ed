"""What the calls under `/assets` take and answer, for the OpenAPI document. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from holdfast.api.engine.operations import CLOSED, IDEMPOTENCY
from holdfast.api.http.operations import (
    TEXT,
    TIME,
    Answers,
    Body,
    Operation,
    Parameter,
    Schema,
    component,
    list_of,
    object_of,
    one_of,
    or_null,
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "McpServer": object_of(
        "*",
        server_name=TEXT,
        display_name=TEXT,
        transport=one_of("stdio", "streamable_http", "sse"),
        auth_method=one_of("none", "api_key", "oauth"),
        status=one_of("available", "connected"),
    ),
    "McpConnection": object_of(
        "*",
        ref_id=TEXT,
        server_name=TEXT,
        status=one_of("connected", "expired", "error"),
        scopes=list_of(TEXT),
        expires_at=or_null(TIME),
    ),
}

_KEY: Final = {"type": "string", "minLength": 1, "maxLength": 8192}
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 255}
_CONNECTED: Final = object_of("*", ref_id=TEXT, status=TEXT)

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /assets/servers": Operation(
        answers={
            200: Answers(
                "The servers of mcp_servers.json.",
                list_of(component("McpServer")),
                [
                    {
                        "server_name": "tickets",
                        "display_name": "Tickets",
                        "transport": "streamable_http",
                        "auth_method": "api_key",
                        "status": "available",
                    }
                ],
            )
        }
    ),
    "POST /assets/connect": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(
            object_of("server_name", server_name=_NAME, server_config=object_of("", api_key=_KEY) | CLOSED) | CLOSED,
            {"server_name": "tickets", "server_config": {"api_key": "…"}},
        ),
        answers={
            200: Answers(
                "Connected, or where a person has to consent.",
                object_of("ref_id status", ref_id=TEXT, status=one_of("connected", "pending_oauth"), auth_url=TEXT),
                {"ref_id": "ast_1", "status": "connected"},
            )
        },
        refusals=(401, 404, 409, 502, 507),
    ),
    "GET /assets/connections": Operation(
        answers={200: Answers("The connections, oldest first.", list_of(component("McpConnection")), [])}
    ),
    "DELETE /assets/connections/{ref_id}": Operation(
        parameters=(IDEMPOTENCY,),
        answers={
            200: Answers(
                "The credential is erased.",
                object_of("*", status={"const": "disconnected"}, ref_id=TEXT),
                {"status": "disconnected", "ref_id": "ast_1"},
            )
        },
        refusals=(404, 409, 507),
    ),
    "POST /assets/callback": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(object_of("*", code=_KEY, state=_NAME) | CLOSED, {"code": "c", "state": "s"}),
        answers={200: Answers("Connected.", _CONNECTED, {"ref_id": "ast_1", "status": "connected"})},
        refusals=(400, 401, 409, 502, 507),
    ),
    "GET /assets/oauth/callback": Operation(
        parameters=(
            Parameter("code", TEXT, "What the authorization server gave."),
            Parameter("state", TEXT, "What it was sent with."),
        ),
        answers={200: Answers("Connected: a page, or JSON if that is accepted.", _CONNECTED)},
        refusals=(400, 401, 502, 503),
        is_page=True,
    ),
}
