"""
An HTTP request. `${input.x}` and `${env.NAME}` are filled in; what is filled into the path or the query of a URL cannot
change where it leads. Where an input says to which host it goes, that host is guarded like that of http.fetch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from holdfast.agents.skill.calling import Call, within
from holdfast.agents.skill.data import field_of
from holdfast.agents.skill.failures import (
    InvalidConfigurationError,
    SafetyDeniedError,
    SkillError,
    UpstreamFailureError,
    UpstreamTimeoutError,
)
from holdfast.agents.skill.fetching import Fetched, Fetcher, FetchFailed, FetchLate, FetchRefused
from holdfast.model.encoding import encode_value

if TYPE_CHECKING:
    from holdfast.agents.skill.model import Http

_PLACE: Final = re.compile(r"\$\{(input|env)\.([^{}]+)\}")
_BODILESS: Final = ("GET", "HEAD")
# Of the client errors, those that may pass.
_PASSING: Final = (408, 425, 429)
_TIMEOUTS: Final = (408, 504)


class HttpBinding:
    """One request, as the contract says."""

    def __init__(self, bind: Http, fetcher: Fetcher) -> None:
        self._bind = bind
        self._fetcher = fetcher

    async def call(self, call: Call) -> Any:
        bind = self._bind
        url = _url(call, bind.url)
        body, kind = _body(call, bind)
        headers = {name.lower(): _text(call, value) for name, value in bind.headers.items()}
        if kind is not None:
            headers.setdefault("content-type", kind)
        headers["idempotency-key"] = call.idempotency_key
        is_guarded = _names_host(bind.url)
        answer = await within(call, self._fetched(call, url, headers, body, is_guarded=is_guarded))
        return _result(call, bind, answer)

    async def _fetched(
        self, call: Call, url: str, headers: Mapping[str, str], body: bytes | None, *, is_guarded: bool
    ) -> Fetched:
        try:
            answer = await self._fetcher.fetch(
                self._bind.method.upper(), url, headers=headers, body=body, guarded=is_guarded
            )
        except FetchFailed as exc:
            raise fetch_error(call, exc) from None
        if answer.status_code >= 400:
            raise status_error(call, answer.status_code)
        return answer


def fetch_error(call: Call, exc: FetchFailed) -> SkillError:
    """What a request that had no answer is for its step."""
    if isinstance(exc, FetchRefused):
        return SafetyDeniedError(f"Step '{call.step.shown}': {exc}.")
    if isinstance(exc, FetchLate):
        return UpstreamTimeoutError(f"Step '{call.step.shown}': {exc}.")
    return call.failed(f"{exc}.", is_final=exc.is_final)


def status_error(call: Call, status: int) -> SkillError:
    """What an answer from 400 up is for its step."""
    kind = UpstreamTimeoutError if status in _TIMEOUTS else UpstreamFailureError
    error = kind(f"Step '{call.step.shown}': the answer has status {status}.")
    error.is_final = 400 <= status < 500 and status not in _PASSING
    return error


def _names_host(url: str) -> bool:
    """Whether an input stands in a URL's template where it can say which host is meant."""
    scheme, mark, rest = url.partition("://")
    start = scheme + rest.partition("/")[0].partition("?")[0] if mark else url
    return "${input." in start


def _url(call: Call, template: str) -> str:
    made, end = "", 0
    for found in _PLACE.finditer(template):
        made += template[end : found.start()]
        text = _as_text(_value(call, found))
        is_behind_host = "/" in made.partition("://")[2]
        made += quote(text, safe="") if is_behind_host else text
        end = found.end()
    return made + template[end:]


def _body(call: Call, bind: Http) -> tuple[bytes | None, str | None]:
    """The body, and its type."""
    if bind.body is None:
        if bind.method.upper() in _BODILESS:
            return None, None
        return msgspec.json.encode(call.inputs), "application/json"
    filled = _filled(call, bind.body)
    if isinstance(filled, str):
        return filled.encode(), "text/plain; charset=utf-8"
    return msgspec.json.encode(filled), "application/json"


def _filled(call: Call, template: Any) -> Any:
    """A body with everything filled in. What is nothing but one place keeps the type of its value."""
    if isinstance(template, str):
        found = _PLACE.fullmatch(template)
        return _value(call, found) if found is not None else _text(call, template)
    if isinstance(template, list):
        return [_filled(call, item) for item in template]
    if isinstance(template, dict):
        return {name: _filled(call, item) for name, item in template.items()}
    return template


def _text(call: Call, template: str) -> str:
    return _PLACE.sub(lambda found: _as_text(_value(call, found)), template)


def _value(call: Call, found: re.Match[str]) -> Any:
    kind, name = found[1], found[2]
    if kind == "input":
        return field_of(call.inputs, name)
    value = os.environ.get(name)
    if value is None:
        raise InvalidConfigurationError(f"Step '{call.step.shown}': the variable {name} is not set.")
    return value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else encode_value(value)


def _result(call: Call, bind: Http, answer: Fetched) -> Any:
    if not answer.body.strip():
        found: Any = {}
    else:
        try:
            found = msgspec.json.decode(answer.body)
        except msgspec.DecodeError:
            if bind.response is None and len(call.capability.outputs) == 1:
                return answer.text
            raise call.failed("the answer is no JSON.") from None
    if bind.response is None:
        return found
    return {name: field_of(found, path) for name, path in bind.response.items()}
