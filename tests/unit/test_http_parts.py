"""The small rules of HTTP that all APIs share: queries, paths, owners, hosts, settings."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.api.http.auth import Authenticator, environment_grants, key_hash
from holdfast.api.http.call import idempotency_key_of
from holdfast.api.http.errors import HostNotAllowed, InvalidQuery, OriginNotAllowed, UnknownParameter
from holdfast.api.http.origins import Origins
from holdfast.api.http.query import read_query
from holdfast.api.http.routing import normal_path, owner_of
from holdfast.errors import Unauthenticated
from holdfast.settings import InvalidSetting, Settings
from holdfast.variables import described, load_settings

# Queries


def test_a_query_is_decoded_and_empty_values_are_absent() -> None:
    assert read_query(b"a=x+y%26&b=&c=%C3%A4", ("a", "b", "c")) == {"a": "x y&", "c": "ä"}


def test_unknown_parameters_name_the_known_ones() -> None:
    with pytest.raises(UnknownParameter, match="unknown query parameter 'c'; known: a, b"):
        read_query(b"c=1", ("b", "a"))


@pytest.mark.parametrize("raw", [b"a=1&a=2", b"a=%ff"])
def test_a_query_that_means_two_things_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidQuery):
        read_query(raw, ("a",))


# Paths


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", "/"),
        (b"/runs/", "/runs"),
        (b"/%72uns", "/runs"),
        (b"/runs/a%2Fb", "/runs/a%2Fb"),
        (b"/runs/a%2fb/events", "/runs/a%2Fb/events"),
        (b"/runs/%25", "/runs/%25"),
        (b"/runs/%E2%82%AC", "/runs/%E2%82%AC"),
    ],
)
def test_paths_are_split_before_they_are_decoded(raw: bytes, path: str) -> None:
    assert normal_path(raw) == path


@pytest.mark.parametrize("raw", [b"//runs", b"/runs//", b"/runs//a", b"/runs/%ff"])
def test_a_path_of_no_route_is_told(raw: bytes) -> None:
    with pytest.raises(ValueError):
        normal_path(raw)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/execute", "engine"),
        ("/execute/replay", "engine"),
        ("/hitl/respond", "engine"),
        ("/feedback", "engine"),
        ("/feedbacks", "runtime"),
        ("/v1/skills", "skills"),
        ("/api/workflow", "workflow"),
        ("/webhooks/1", "workflow"),
        ("/_holdfast/keys", "control"),
        ("/runs", "runtime"),
        ("/health", "runtime"),
        ("/", "runtime"),
        ("/anything", "runtime"),
    ],
)
def test_every_path_has_an_owner(path: str, owner: str) -> None:
    assert owner_of(path) == owner


# Hosts and origins


@given(st.binary(max_size=60))
def test_no_foreign_host_gets_in(host: bytes) -> None:
    try:
        Origins(is_loopback=True).check_host(host)
    except HostNotAllowed:
        return
    name = host.decode("latin-1").lower()
    assert name.startswith(("localhost", "127.0.0.1", "[::1]"))


def test_hosts_are_not_looked_at_beyond_loopback() -> None:
    Origins(is_loopback=False).check_host(b"anything.example")
    Origins(is_loopback=True, allowed_hosts=["Box.local"]).check_host(b"box.local:8000")


def test_a_null_origin_is_not_the_own_one() -> None:
    with pytest.raises(OriginNotAllowed):
        Origins(is_loopback=True).headers_for(b"null", b"localhost")


# Keys


def test_a_key_may_be_given_as_its_hash() -> None:
    digest = hashlib.sha256(b"secret").hexdigest().upper()
    authenticator = Authenticator(environment_grants([], [digest]))

    assert authenticator.grant_of(b"secret").caller.role == "admin"
    with pytest.raises(Unauthenticated):
        authenticator.grant_of(digest.encode())


def test_a_configured_header_stands_between_the_two_fixed_ones() -> None:
    authenticator = Authenticator(environment_grants(["right"], []), header="X-Mine")

    assert authenticator.authenticate([(b"x-api-key", b"wrong"), (b"x-mine", b"right")]).caller.role == "admin"
    with pytest.raises(Unauthenticated):
        authenticator.authenticate([(b"x-mine", b"right"), (b"x-engine-key", b"wrong")])


# Settings


def test_settings_come_from_flags_then_ours_then_documented_names() -> None:
    environ = {"HOLDFAST_PORT": "1", "HOLDFAST_MODEL_KEY": "ours", "LLM_API_KEY": "theirs", "LLM_BASE_URL": "http://x"}

    settings = load_settings(environ, port=2)

    assert (settings.port, settings.model_key, settings.model_url) == (2, "ours", "http://x")
    assert load_settings({"HOLDFAST_KEYS": "a, b"}).keys == ("a", "b")
    assert load_settings({"ENGINE_API_KEY": "a"}).keys == ("a",)
    assert load_settings({"ENGINE_KEY_HASH": f"{key_hash('a')},{key_hash('b')}"}).key_hashes[1] == key_hash("b")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HOLDFAST_PORT": "x"}, "HOLDFAST_PORT"),
        ({"HOLDFAST_PORT": "70000"}, "port"),
        ({"HOLDFAST_NO_AUTH": "yes"}, "HOLDFAST_NO_AUTH"),
        ({"HOLDFAST_NO_AUTH": "true", "HOLDFAST_HOST": "0.0.0.0"}, "no_auth"),
        ({"ENGINE_API_KEY": "a", "ENGINE_KEY_HASH": key_hash("a")}, "ENGINE_KEY_HASH"),
        ({"ENGINE_KEY_HASH": "abc"}, "key_hashes"),
        ({"HOLDFAST_APIS": "runtime,odd"}, "apis"),
        ({"HOLDFAST_LOG_LEVEL": "loud"}, "log_level"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        load_settings(environ)

    assert raised.value.setting == named


@pytest.mark.parametrize(
    ("environ", "flags", "said"),
    [
        ({"HOLDFAST_LOG_LEVEL": "loud"}, {}, "HOLDFAST_LOG_LEVEL: expected one of debug, info, warning, error"),
        ({}, {"log_level": "loud"}, "--log-level: expected one of debug, info, warning, error"),
        ({"ENGINE_LOG_LEVEL": "loud"}, {}, "ENGINE_LOG_LEVEL: expected one of debug, info, warning, error"),
        ({"HOLDFAST_SEARCH_URL": "x"}, {}, "HOLDFAST_SEARCH_URL: expected an http or https URL"),
        ({}, {"keys": ("",)}, "--key: an API key is empty"),
        ({"HOLDFAST_WORKERS": "0"}, {}, "HOLDFAST_WORKERS: expected a whole number >= 1"),
        ({"HOLDFAST_DRAIN_SECONDS": "-1"}, {}, "HOLDFAST_DRAIN_SECONDS: expected a number >= 0"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(
    environ: dict[str, str], flags: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidSetting) as raised:
        load_settings(environ, **flags)

    assert str(raised.value) == said


def test_settings_do_not_show_their_secrets() -> None:
    settings = Settings(keys=("secret",), model_key="secret")

    assert "secret" not in repr(settings)
    assert "secret" not in str(settings)


def test_every_setting_has_its_text() -> None:
    assert all(row.text and row.variable == f"HOLDFAST_{row.name.upper()}" for row in described())


@pytest.mark.parametrize(("text", "has_spaces"), [("a b", True), ("~" * 255, False), ("!", False)])
def test_a_key_of_idempotency_is_taken_as_it_is(text: str, has_spaces: bool) -> None:
    assert idempotency_key_of(text, "key", has_spaces=has_spaces) == text


@pytest.mark.parametrize(
    ("text", "has_spaces"), [("", True), ("x" * 256, True), ("a b", False), ("é", True), ("\t", True)]
)
def test_what_is_no_key_of_idempotency_is_refused_by_its_field(text: str, has_spaces: bool) -> None:
    with pytest.raises(InvalidQuery, match=r"^key is 1 to 255 "):
        idempotency_key_of(text, "key", has_spaces=has_spaces)
