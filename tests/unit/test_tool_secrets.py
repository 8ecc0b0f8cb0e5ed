"""Secrets of the server in what tools give back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.calls import OUTPUT_CHARACTERS_MAX
from holdfast.agents.mcp.servers import McpServer
from holdfast.agents.tools import Call, Cut, Tool, ToolError, Tools
from holdfast.agents.tools.gate import Gate
from holdfast.agents.tools.secrets import Secrets, secrets_of
from holdfast.settings import Settings
from holdfast.testing.model import Calls, Says, ScriptedModel
from tests.support.one_run import OneRun

SECRET = "canary-in-a-result"


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Made(msgspec.Struct):
    told: str


async def result_of(value: Any) -> dict[str, Any]:
    async def tell(_: Call, __: Nothing) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    model = ScriptedModel([Calls("tell", {})], [Says("Done.")])
    tool: Tool[Nothing] = Tool(name="tell", description="", input=Nothing, function=tell)
    program = AssistantProgram(model, tools=Tools(tool))
    program.use_gate(Gate(secrets=Secrets([SECRET])))
    run = OneRun(program, "Hello?")
    await run.execute()
    assert SECRET not in repr(run.events)
    assert SECRET not in repr(model.messages)
    return run.seen("tool_result")[0].fields


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (f"a {SECRET} b {SECRET}", "a [secret] b [secret]"),
        ({SECRET: [SECRET, 7, None, {"x": f"<{SECRET}>"}]}, {"[secret]": ["[secret]", 7, None, {"x": "<[secret]>"}]}),
        (Made(SECRET), {"told": "[secret]"}),
        (Cut({"stdout": SECRET}, truncated=True), {"stdout": "[secret]"}),
        ({"count": 3}, {"count": 3}),
    ],
)
async def test_a_secret_stands_in_no_result(value: Any, told: Any) -> None:
    assert (await result_of(value))["output"] == told


@pytest.mark.parametrize("error", [ToolError("broken", f"no {SECRET}"), KeyError(SECRET)])
async def test_a_secret_stands_in_no_error(error: Exception) -> None:
    assert "[secret]" in (await result_of(error))["message"]


async def test_no_part_of_a_secret_is_left_where_a_result_is_cut() -> None:
    output = (await result_of("x" * (OUTPUT_CHARACTERS_MAX - 5) + SECRET))["output"]

    assert output.endswith("x[secr")


def test_secrets_are_those_of_the_settings_and_of_variables_that_say_so() -> None:
    settings = Settings(
        keys=("first-api-key",),
        model_key="key-of-a-model",
        store="postgres://me:pass%20phrase@db/x",
        otlp_headers=("a=header-value",),
    )
    environ = {
        "X_API_KEY": "one-of-another",
        "MY_TOKEN": "token-of-mine",
        "PATH": "/usr/local/bin",
        "A_SECRET": "short",
    }

    secrets = secrets_of(settings, environ)

    for text in (
        "first-api-key",
        "key-of-a-model",
        "pass phrase",
        "pass%20phrase",
        "header-value",
        "one-of-another",
        "token-of-mine",
    ):
        assert secrets.text(f"({text})") == "([secret])"
    for text in ("/usr/local/bin", "short", "db/x"):
        assert secrets.text(text) == text


def test_what_a_file_says_to_its_mcp_servers_is_secret() -> None:
    tickets = McpServer(
        transport="streamable_http",
        url="https://me:pass%20phrase@tickets.example/mcp",
        headers={"Authorization": "Bearer key-in-a-header", "X-Team": "the-blue-team"},
    )
    files = McpServer(transport="stdio", command="files", env={"FILES_TOKEN": "token-of-files", "LEVEL": "debugging"})

    secrets = Secrets([*tickets.secrets, *files.secrets])

    for text in ("key-in-a-header", "Bearer key-in-a-header", "pass phrase", "token-of-files"):
        assert secrets.text(text) == "[secret]"
    for text in ("the-blue-team", "debugging", "tickets.example"):
        assert secrets.text(text) == text


def test_the_longest_secret_is_replaced_first() -> None:
    assert Secrets(["abcdefgh", "abcdefghij"]).text("abcdefghij abcdefgh") == "[secret] [secret]"
