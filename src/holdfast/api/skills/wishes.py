"""What the caller of an execution wants, beside the inputs: read from its body and checked against its key."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from holdfast.agents.skill.model import Options
from holdfast.api.http.call import Call
from holdfast.api.skills.bodies import (
    choice_field,
    flag_field,
    ignore,
    known_fields,
    object_field,
    take_trace,
    trace_id,
    whole_field,
)
from holdfast.api.skills.refusals import SkillsRefusal, wrong
from holdfast.errors import Forbidden
from holdfast.settings import TRUST_LEVELS

FIELDS: Final = (
    "inputs",
    "trace_id",
    "include_trace",
    "on_confirmation",
    "frame",
    "required_conformance_profile",
    "audit_mode",
    "options",
)
_OPTIONS: Final = ("fail_fast", "max_workers", "trust_level", "confirmed_capabilities", "wait_seconds")
PROFILES: Final = ("experimental", "standard", "strict")
AUDIT_MODES: Final = ("off", "standard", "full")
WAIT_SECONDS: Final = 300.0
WAIT_SECONDS_MAX: Final = 3600.0
WORKERS_MAX: Final = 64
_CONFIRMED_MAX: Final = 100


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One execution, as it was asked for."""

    inputs: dict[str, Any]
    options: Options
    wait_seconds: float
    audit_mode: str
    trace_id: str


def read_wish(request: Call, body: dict[str, Any], *more: str) -> tuple[Wish, dict[str, Any]]:
    """
    The wish in the body of a call, and what it says under `more` names.

    Raises:
        SkillsRefusal: a field does not fit.
        Forbidden: it asks for more than its key may.
    """
    found = known_fields(request, body, (*FIELDS, *more))
    take_trace(request, found.get("trace_id"))
    inputs, frame = object_field(found, "inputs"), object_field(found, "frame")
    given = object_field(found, "options")
    ignore(request, (f"options.{name}" for name in given if name not in _OPTIONS))
    given = {name: value for name, value in given.items() if value is not None}
    options = Options(
        fail_fast=flag_field(given, "fail_fast", default=True, path="options.fail_fast"),
        max_workers=whole_field(given, "max_workers", least=1, most=WORKERS_MAX, default=8, path="options.max_workers"),
        trust=_trust(request, given),  # type: ignore[arg-type]  # one of the levels
        confirmed_capabilities=_confirmed(request, given),
        on_confirmation=choice_field(found, "on_confirmation", ("wait", "fail"), "wait"),  # type: ignore[arg-type]
        include_trace=flag_field(found, "include_trace", default=False),
        frame=frame,
    )
    profile = choice_field(found, "required_conformance_profile", PROFILES, "standard")
    if profile == "strict":
        raise SkillsRefusal("conformance_unmet", "All bindings are of the profile standard; none is strict.")
    wish = Wish(
        inputs=inputs,
        options=options,
        wait_seconds=_wait(given),
        audit_mode=choice_field(found, "audit_mode", AUDIT_MODES, "off"),
        trace_id=trace_id(request),
    )
    return wish, {name: found[name] for name in more if name in found}


def _trust(request: Call, given: dict[str, Any]) -> str:
    own = request.caller.trust
    asked = choice_field(given, "trust_level", TRUST_LEVELS, own, path="options.trust_level")
    if TRUST_LEVELS.index(asked) > TRUST_LEVELS.index(own):
        raise Forbidden(f"options.trust_level: this key is trusted at most as {own}, not as {asked}")
    return asked


def _confirmed(request: Call, given: dict[str, Any]) -> tuple[str, ...]:
    names = given.get("confirmed_capabilities", [])
    if not isinstance(names, list) or len(names) > _CONFIRMED_MAX or not all(isinstance(item, str) for item in names):
        raise wrong("options.confirmed_capabilities", f"a list of up to {_CONFIRMED_MAX} ids of capabilities")
    if names:
        request.caller.require("operator")
    return tuple(names)


def _wait(given: dict[str, Any]) -> float:
    value = given.get("wait_seconds", WAIT_SECONDS)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= WAIT_SECONDS_MAX:
        raise wrong("options.wait_seconds", f"a number from 0 to {WAIT_SECONDS_MAX:g}")
    return float(value)
