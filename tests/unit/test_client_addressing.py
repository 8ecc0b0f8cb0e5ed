"""Addresses and keys: what cannot be right is said at once, without trying it, and without showing a key."""

from __future__ import annotations

import logging

import pytest

from holdfast.client import AsyncEngineClient, AsyncRunsClient, RunsClient, WorkflowClient
from holdfast.client.addressing import checked_header, checked_url
from holdfast.client.errors import ConnectionFailed
from tests.support.wire import Unreachable, Wire, answer

URLS = [
    "http://localhost:8000",
    "http://[::1]:8000/",
    "https://runs.example/behind/a/prefix/",
    "HTTP://user:password@runs.example",
    "http://müller.example",
]


@pytest.mark.parametrize("url", URLS)
def test_an_address_is_taken_as_it_is(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("localhost:8000", "http://"),
        ("ftp://runs.example", "http://"),
        ("http://", "host"),
        ("http://runs.example:port", "port"),
        ("http://runs.example:99999", "ort"),
        ("http://[::1", "IPv6"),
        ("http://runs.example\n", "blank"),
        ("http://runs.example/a?tenant=b", "belongs to no server"),
    ],
)
async def test_what_is_no_address_is_told_when_the_client_is_made(url: str, fault: str) -> None:
    for client in (AsyncRunsClient, RunsClient, AsyncEngineClient, WorkflowClient):
        with pytest.raises(ValueError, match=fault):
            client(url)


def test_the_password_of_an_address_is_not_told() -> None:
    with pytest.raises(ValueError, match=r"//\*\*\*@runs") as told:
        checked_url("http://user:secret@runs.example?a=b")

    assert "secret" not in str(told.value)


@pytest.mark.parametrize("key", ["secret\n", "secret ", " secret", "sec\x00ret", "secrét", "secret\r\nX-Role: admin"])
async def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    """With its line break a key from a file was tried for a minute, and then stood in the error's text and in the log."""
    client = AsyncRunsClient("http://server", "first", transport=Wire(answer({})))

    for attempt in (
        lambda: AsyncRunsClient(key=key),
        lambda: client.set_key(key),
        lambda: WorkflowClient().set_api_key(key),
    ):
        with pytest.raises(ValueError, match="expected visible ASCII") as told:
            attempt()
        assert "sec" not in str(told.value)

    assert client._http.headers == {"X-API-Key": "first"}


async def test_so_is_a_value_of_one_request() -> None:
    client = AsyncRunsClient("http://server", transport=Wire())

    with pytest.raises(ValueError, match=r"Idempotency-Key.*U\+000A at place 4"):
        await client.start({}, idempotency_key="one\ntwo")


@pytest.mark.parametrize("value", ["", "a", "a b", "Bearer abc=="])
def test_other_values_are_taken_as_they_are(value: str) -> None:
    assert checked_header("X-API-Key", value) == value


async def test_a_change_of_the_key_leaves_requests_that_are_being_made_alone() -> None:
    """Any thread may change it: whoever reads the headers at that moment has the old ones, whole."""
    client = AsyncRunsClient("http://server", "old")
    taken = client._http.headers

    client.set_key("new")
    assert (dict(taken), client._http.headers) == ({"X-API-Key": "old"}, {"X-API-Key": "new"})

    client.set_key(None)
    assert client._http.headers == {}


async def test_the_password_of_an_address_is_sent_and_neither_told_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(answer({}), Unreachable())
    client = AsyncRunsClient("http://user:secr%65t@server:8000/prefix/", transport=wire)
    caplog.set_level(logging.DEBUG)
    await client.health()

    with pytest.raises(ConnectionFailed, match=r"^GET http://server:8000/prefix/health: ConnectError: nobody") as told:
        await client.health()

    assert "secret" not in str(told.value)
    assert wire.headers("authorization")[0] == "Basic dXNlcjpzZWNyZXQ="
    assert "http://server:8000/prefix/health" in caplog.text, "the HTTP library logs what it asks for"
    assert "secr" not in caplog.text
