"""
From what agent code returns to JSON, and back. Models, dataclasses, datetimes, UUIDs, Decimals, enums, paths, sets
and bytes become JSON. No I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.errors import InvalidOutput
from holdfast.model.encoding import encode_other, repair_value

# From here on a value is kept as a file, and its event only refers to it.
VALUE_BYTES_MAX = 256 * 1024


_encoder = msgspec.json.Encoder(enc_hook=encode_other)


def encode_result(value: Any, *, what: str) -> bytes:
    """
    A result as JSON bytes; text is repaired.

    Raises:
        InvalidOutput: it cannot be written as JSON; `what` says whose result it is.
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(repair_value(value))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidOutput(f"{what} is no JSON value: {exc}") from exc


def decode_result(data: bytes) -> Any:
    """The value of JSON bytes."""
    return msgspec.json.decode(data)
