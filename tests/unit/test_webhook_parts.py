"""Webhooks without a network: signatures, which addresses may be called, when to try again, which events are told."""

from __future__ import annotations

import time
from ipaddress import ip_address
from typing import Any, Final

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook

from holdfast.api.workflow.rows import State
from holdfast.api.workflow.webhook_body import BODY_BYTES_MAX, body_of, event_id_of, fitting
from holdfast.client.workflow import verify_webhook
from holdfast.errors import WebhookUrlRefused
from holdfast.model import Run, Status
from holdfast.webhooks.endpoint import EVENTS, Endpoint, Secret, event_name
from holdfast.webhooks.guard import Allowed, check_url, is_public, refused_address
from holdfast.webhooks.schedule import DELAYS, is_given_up, next_attempt, retry_after_of
from holdfast.webhooks.signing import is_secret, new_secret, signed_headers

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
NOW: Final = 1_795_219_223 * SECOND

# The vector of the specification.
SECRET: Final = "whsec_aG9sZGZhc3QtZXhhbXBsZS1zZWNyZXQtMzItYnl0ZXM="
BODY: Final = (
    b'{"type":"run.completed","event_id":"msg_660d78ee1ab1f1aa0a3bc0804453766f","seq":8,'
    b'"occurred_at":"2026-11-21T00:00:22.104311Z","task_id":17,"status":"completed"}'
)
SIGNATURE: Final = "v1,UI0+cyVQbXWXmPEkJaMpirm/wtsRFYZgzIwnpOjJgDg="


# Signatures


def test_the_published_vector() -> None:
    headers = signed_headers("msg_660d78ee1ab1f1aa0a3bc0804453766f", 1795219223, BODY, [SECRET])

    assert headers == {
        "webhook-id": "msg_660d78ee1ab1f1aa0a3bc0804453766f",
        "webhook-timestamp": "1795219223",
        "webhook-signature": SIGNATURE,
    }


def test_the_published_event_id() -> None:
    run = a_run(run_id="01a1fb66-7bb3-7b6e-9a51-0d3c5b1e2f60", epochs=((1, 9), (2, 12)))

    assert event_id_of(run, 8) == "msg_660d78ee1ab1f1aa0a3bc0804453766f"
    assert (
        len({event_id_of(msgspec.structs.replace(run, epochs=epochs), 9) for epochs in ((), ((1, 9),), ((2, 9),))}) == 3
    )


def test_an_outside_library_and_our_client_take_what_either_secret_of_a_rotation_signed() -> None:
    old, new = new_secret(), new_secret()
    headers = signed_headers("msg_1", int(time.time()), BODY, [new, old])

    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers)["seq"] == 8
        assert verify_webhook(BODY, headers, secret)["seq"] == 8


def test_a_rotated_secret_signs_until_its_time_is_over() -> None:
    endpoint = an_endpoint(secrets=(Secret("new"), Secret("old", NOW)))

    assert endpoint.secrets_at(NOW - 1) == ("new", "old")
    assert endpoint.secrets_at(NOW) == ("new",)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (SECRET, True),
        ("whsec_" + "A" * 32, True),  # 24 bytes
        ("whsec_" + "A" * 28, False),
        ("whsec_" + "A" * 88, False),
        (SECRET.removeprefix("whsec_"), False),
        ("whsec_ä", False),
        ("whsec_=", False),
        ("whsec_" + "A" * 31 + "-", False),
    ],
)
def test_what_is_a_secret(text: str, fits: bool) -> None:
    assert is_secret(text) is fits
    assert is_secret(new_secret())


# The guard

REFUSED_ADDRESSES: Final = """
    0.0.0.0 0.255.255.255 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254
    172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.11 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1
    198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
    :: ::1 ::7f00:1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 64:ff9b::808:808 64:ff9b:1::1 100::1 100:0:0:1::1 2001::1 2001:2::1
    2001:10::1 2001:db8::1 2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 fec0::1 ff02::1
"""
PUBLIC_ADDRESSES: Final = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.0.0.9 192.0.0.10
    192.0.1.0 192.31.196.1 192.52.193.1 192.175.48.1 198.17.255.255 198.20.0.0 223.255.255.255 168.63.129.15
    2606:4700::1111 2001:4860:4860::8888 2001:1::1 2001:3::1 2001:4:112::1 2001:20::1 2001:30::1 2001:200::1 2620:4f:8000::1
"""


@pytest.mark.parametrize("address", REFUSED_ADDRESSES.split())
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(WebhookUrlRefused):
        check_url(f"https://{host}/", Allowed())


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES.split())
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    assert check_url(f"https://{host}/x", Allowed()).host == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "http://example.com/",
        "ftp://example.com/",
        "https:///x",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https://example.com/#x",
        "https://example.com/#",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:x/",
        "https://example.com:/",
        "https://exam ple.com/",
        "https://example.com/\n",
        "https://example.com\\@127.0.0.1/",
        "https://exämple.com/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://127.1/",
        "https://127.0.0.1./",
        "https://0177.0.0.1/",
        "https://0x7f000001/",
        "https://127.0.0.0x1/",
        "https://1.1.1.1.1/",
        "https://01.1.1.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[2606:4700:0::1111]/",
        "https://[2606:4700::AAAA:1]:443/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[v1.x]/",
        "https://-a.example.com/",
        "https://a..example.com/",
        "https://" + "a" * 64 + ".com/",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(WebhookUrlRefused):
        check_url(url, Allowed())


def test_the_parts_of_a_url() -> None:
    target = check_url("https://Example.com:8443/a/b?c=d", Allowed())

    assert (target.host, target.port, target.path, target.authority) == (
        "example.com",
        8443,
        "/a/b?c=d",
        "example.com:8443",
    )
    assert check_url("https://example.com", Allowed()).authority == "example.com"
    assert check_url("https://[2606:4700::1111]:8443", Allowed()).authority == "[2606:4700::1111]:8443"
    assert check_url("https://xn--exmple-cua.com./", Allowed()).path == "/"


def test_one_address_that_is_not_public_refuses_all_of_a_name() -> None:
    target = check_url("https://example.com", Allowed())
    mixed = [ip_address("1.1.1.1"), ip_address("10.0.0.1")]

    assert refused_address(target, mixed[:1], Allowed()) is None
    assert refused_address(target, mixed, Allowed()) == mixed[1]
    assert refused_address(target, mixed, Allowed.parse(["10.0.0.0/24"])) is None
    assert refused_address(target, mixed, Allowed.parse(["example.com"])) is None
    assert refused_address(target, mixed, Allowed.parse(["example.com:8443"])) == mixed[1]


@pytest.mark.parametrize(
    ("url", "passes"),
    [
        ("http://localhost:9000/", True),
        ("https://localhost:9000/", True),
        ("http://localhost:9001/", False),
        ("http://localhost/", False),
        ("http://hooks.internal/", True),
        ("http://hooks.internal:81/", True),
        ("http://a.hooks.internal/", False),
        ("http://10.1.255.255:1/", True),
        ("http://10.2.0.0/", False),
        ("https://10.2.0.0/", False),
        ("http://127.0.0.1:9000/", False),
        ("http://192.168.7.7:80/", True),
        ("http://192.168.7.7:81/", False),
        ("http://[fd00::1]/", True),
        ("http://[fd00::2]/", False),
        ("http://2130706433:9000/", False),
    ],
)
def test_the_allowance_admits_exactly_its_targets(url: str, passes: bool) -> None:
    allowed = Allowed.parse(["localhost:9000", "hooks.internal", "10.1.0.0/16", "192.168.7.7:80", "[fd00::1]"])

    if passes:
        assert check_url(url, allowed).scheme in ("http", "https")
    else:
        with pytest.raises(WebhookUrlRefused):
            check_url(url, allowed)


@pytest.mark.parametrize("entry", ["10.1.0.1/16", "a@b", "host:x", "host:0", "host/path", ":80", "http://x", "host?x"])
def test_an_allowance_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Allowed.parse([entry])


# The schedule


def test_ten_attempts_over_three_days() -> None:
    middle = [next_attempt(tries, 0, None, lambda: 0.5) for tries in range(11)]
    least = [next_attempt(tries, 0, None, lambda: 0.0) for tries in range(10)]
    most = [next_attempt(tries, 0, None, lambda: 1.0) for tries in range(10)]

    seconds = [0, 5, 300, 1800, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24))]
    assert middle == [*(value * SECOND for value in seconds), None]
    assert least == [int(value * 0.8 * SECOND) for value in seconds]
    assert most == [int(value * 1.2 * SECOND) for value in seconds]
    assert len(DELAYS) == 10


def test_retry_after_only_lengthens_a_delay_up_to_a_day() -> None:
    assert next_attempt(1, 0, 60.0, lambda: 0.5) == 60 * SECOND
    assert next_attempt(2, 0, 60.0, lambda: 0.5) == 300 * SECOND
    assert next_attempt(1, 0, 1e9, lambda: 0.5) == 24 * HOUR
    assert next_attempt(10, 0, 60.0, lambda: 0.5) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("Sat, 21 Nov 2026 00:01:23 GMT", 60.0),
        ("Sat, 21 Nov 2020 00:01:23 GMT", 0.0),
    ],
)
def test_what_a_retry_after_says(value: str | None, seconds: float | None) -> None:
    assert retry_after_of(value, NOW) == seconds


@pytest.mark.parametrize(
    ("failures", "hours", "is_over"), [(20, 24, True), (19, 24, False), (20, 23.9, False), (500, 1, False)]
)
def test_an_endpoint_is_given_up_after_twenty_failures_over_a_day(failures: int, hours: float, is_over: bool) -> None:
    assert is_given_up(failures, NOW - int(hours * HOUR), NOW) is is_over


# Events and bodies


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"type": "started"}, "run.started"),
        ({"type": "interrupt", "kind": "tool"}, "run.awaiting_tool_calls"),
        ({"type": "interrupt_resolved", "kind": "tool"}, "run.tool_calls_answered"),
        ({"type": "interrupt", "kind": "question"}, "run.waiting"),
        ({"type": "interrupt", "kind": "approval"}, "run.waiting"),
        ({"type": "interrupt_resolved", "kind": "approval"}, "run.resumed"),
        ({"type": "complete"}, "run.completed"),
        ({"type": "error"}, "run.failed"),
        ({"type": "cancelled"}, "run.cancelled"),
        ({"type": "interrupt", "kind": "timer"}, None),
        ({"type": "interrupt_resolved", "kind": "timer"}, None),
        ({"type": "token"}, None),
    ],
)
def test_what_an_event_is_called(event: dict[str, Any], name: str | None) -> None:
    assert event_name(event) == name
    assert name is None or name in EVENTS


def test_an_empty_filter_lets_everything_pass() -> None:
    run = a_run()

    assert an_endpoint().wants("run.failed", run, "test")
    assert an_endpoint(events=("run.failed",), agents=("clock",), environments=("test",)).wants(
        "run.failed", run, "test"
    )
    assert an_endpoint(agents=("id-of-clock",)).wants("run.failed", run, "test")
    for fields in ({"events": ("run.started",)}, {"agents": ("other",)}, {"environments": ("production",)}):
        assert not an_endpoint(**fields).wants("run.failed", run, "test")


def test_a_body_is_the_row_as_of_the_event() -> None:
    state = State(a_run())
    state.feed({"type": "started", "sequence": 0})
    state.feed(
        {"type": "interrupt", "sequence": 2, "interrupt_id": "i", "kind": "question", "question": "?", "choices": None}
        | {"expires_at": None}
    )

    body = msgspec.json.decode(body_of(state, [], "run.waiting", "msg_1", 2, "2026-11-21T00:00:22.104311Z"))

    assert (body["type"], body["event_id"], body["seq"], body["status"]) == ("run.waiting", "msg_1", 2, "running")
    assert body["timestamp"] == 1795219222.104311
    assert [item["interrupt_id"] for item in body["waiting_for"]] == ["i"]
    assert (body["prior_nodes_execution_records"], body["truncated"], body["round"]) == ([], False, None)


def test_a_body_that_is_too_long_loses_nodes_then_texts_but_no_pending_call() -> None:
    pending = [{"call_id": "c", "arguments": "y" * 1000}]

    def node(size: int) -> dict[str, Any]:
        response = {"call_id": "c", "output": "o"}
        return {"full_output": "x" * size, "tool_call_requests": pending, "tool_call_responses": [response]}

    body = {"result": "r", "initial_inputs": {"strings": {"1": "in"}, "images": {}}, "pending_tool_calls": []}

    short = msgspec.json.decode(fitting(body | {"executed_node_records": [node(10), node(10)], "truncated": False}))
    long = msgspec.json.decode(fitting(body | {"executed_node_records": [node(BODY_BYTES_MAX), node(10)]}))
    longest = msgspec.json.decode(
        fitting(body | {"executed_node_records": [node(1), node(BODY_BYTES_MAX)], "pending_tool_calls": pending})
    )

    assert (len(short["executed_node_records"]), short["truncated"]) == (2, False)
    assert (long["executed_node_records"], long["truncated"], long["result"]) == ([node(10)], True, "r")
    (last,) = longest["executed_node_records"]
    assert (last["full_output"], last["tool_call_responses"][0]["output"], longest["result"]) == ("", "", "")
    assert (longest["initial_inputs"], longest["truncated"]) == ({"strings": {}, "images": {}}, True)
    assert longest["pending_tool_calls"] == last["tool_call_requests"] == pending
    (over,) = msgspec.json.decode(fitting(body | {"executed_node_records": [node(BODY_BYTES_MAX)]}))[
        "executed_node_records"
    ]
    assert over["tool_call_requests"] == [{"call_id": "c", "arguments": "{}"}]


def an_endpoint(**fields: Any) -> Endpoint:
    given = {"secrets": (Secret(SECRET),)} | fields
    return Endpoint(endpoint_id="whe_1", tenant="default", url="https://example.com", created_at=NOW, **given)


def a_run(run_id: str = "r", **fields: Any) -> Run:
    return Run(
        number=17,
        run_id=run_id,
        agent="clock",
        agent_id="id-of-clock",
        status=Status.RUNNING,
        input=b"{}",
        created_at=NOW,
        tail_sequence=8,
        **fields,
    )
