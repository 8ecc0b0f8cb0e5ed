"""What calls say of webhooks: filters of names, and the endpoint that a run's start wishes for. No I/O."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from holdfast.api.workflow.fields import text
from holdfast.api.workflow.refusals import invalid
from holdfast.webhooks import EVENTS, Wish

NAMES_MAX: Final = 100
NAME_LENGTH_MAX: Final = 255
URL_LENGTH_MAX: Final = 2048
SECRET_LENGTH_MAX: Final = 200


def wish_of(found: dict[str, Any]) -> Wish | None:
    """
    The endpoint that a start wishes for, where its URL leads not yet looked at; None: none.

    Raises:
        WorkflowRefusal
    """
    url = text(found, "webhook_url", least=1, most=URL_LENGTH_MAX)
    events = names(found, "webhook_events", EVENTS) if "webhook_events" in found else ()
    secret = text(found, "webhook_secret", least=1, most=SECRET_LENGTH_MAX)
    if url is None:
        if "webhook_events" in found or "webhook_secret" in found:
            raise invalid("webhook_url", "needed where webhook_events or webhook_secret is given")
        return None
    return Wish(url=url, events=events, secret=secret)


def names(found: dict[str, Any], name: str, known: Collection[str] | None) -> tuple[str, ...]:
    """
    A member that is a list of names, each of `known` if that is given; each once.

    Raises:
        WorkflowRefusal
    """
    given = found[name]
    if not isinstance(given, list) or len(given) > NAMES_MAX or not are_names(given):
        raise invalid(name, f"a list of up to {NAMES_MAX} texts")
    for item in given:
        if known is not None and item not in known:
            raise invalid(name, f"{item[:64]!r} is none of {', '.join(known)}")
    return tuple(dict.fromkeys(given))


def are_names(given: list[Any]) -> bool:
    return all(isinstance(item, str) and 0 < len(item) <= NAME_LENGTH_MAX for item in given)
