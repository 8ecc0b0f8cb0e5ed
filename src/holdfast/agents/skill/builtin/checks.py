"""
What is said about text and data: whether it may leave, whether it is JSON, whether it fits a schema. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.agents.skill.model import Json
from holdfast.execution.schema import InvalidSchema, schema_of
from holdfast.execution.steps import NotRetryable

_EMAIL: Final = re.compile(r"[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD: Final = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_SOCIAL: Final = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_PHONE: Final = re.compile(r"(?<![\w.+-])(?:\+|00)\d(?:[ ()/.-]{0,2}\d){6,14}(?![\w-])|\(\d{3}\) ?\d{3}-\d{4}(?![\w-])")


def check_personal_data(text: str | None) -> dict[str, Json]:
    """
    Whether a text is free of e-mail addresses, telephone numbers with their country, IBANs, card and social security numbers.

    What has a check digit must pass it, so that an order number is not taken for a card.
    """
    for name, is_found in _KINDS:
        if is_found(text or ""):
            return {"allowed": False, "reason": f"the text holds {name}"}
    return {"allowed": True, "reason": None}


def _has_card(text: str) -> bool:
    return any(_is_card(re.sub(r"\D", "", found)) for found in _CARD.findall(text))


def _is_card(digits: str) -> bool:
    """By the check digit of Luhn."""
    total = 0
    for index, character in enumerate(reversed(digits)):
        digit = int(character) * (1 + index % 2)
        total += digit - 9 if digit > 9 else digit
    return total % 10 == 0 and len(set(digits)) > 1


def _has_iban(text: str) -> bool:
    return any(_is_iban(found.replace(" ", "")) for found in _IBAN.findall(text))


def _is_iban(found: str) -> bool:
    """By the check digits of ISO 7064, also where a following word was taken for a part of it."""
    for length in range(len(found), 14, -1):
        moved = found[4:length] + found[:4]
        if int("".join(str(int(character, 36)) for character in moved)) % 97 == 1:
            return True
    return False


_KINDS: Final[tuple[tuple[str, Callable[[str], bool]], ...]] = (
    ("an e-mail address", lambda text: _EMAIL.search(text) is not None),
    ("an IBAN", _has_iban),
    ("a card number", _has_card),
    ("a social security number", lambda text: _SOCIAL.search(text) is not None),
    ("a telephone number", lambda text: _PHONE.search(text) is not None),
)


def parse_json(text: str | None) -> dict[str, Json]:
    """The value of a JSON text."""
    try:
        return {"data": msgspec.json.decode((text or "").encode())}
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as exc:
        raise NotRetryable(f"the text is no JSON: {exc}") from None


def validate(data: Json = None, schema: dict[str, Json] | None = None) -> dict[str, Json]:
    """Whether data fits a JSON Schema (2020-12), and where not: {path, message} each."""
    try:
        misfits = schema_of(schema or {}).misfits(data)
    except InvalidSchema as exc:
        raise NotRetryable(f"the schema is none: {exc.message}") from None
    return {"valid": not misfits, "errors": [{"path": one.pointer, "message": one.message} for one in misfits]}
