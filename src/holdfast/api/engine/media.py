"""
Media blocks of a message: an image, a document, audio or video, inline or by URL. No I/O; nothing is ever fetched.

A block that cannot be what it says is refused here, before there is a turn, because a model's provider would refuse
the whole conversation for it, in this turn and in each one after it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from holdfast.api.engine import fields
from holdfast.api.engine.fields import Check, read_object, refuse, require

BLOCKS_MAX: Final = 20
TEXT_MAX: Final = 1_000_000
URL_MAX: Final = 8192
MEBIBYTE: Final = 1024 * 1024


class _Kind(msgspec.Struct, frozen=True):
    bytes_max: int
    media_types: Mapping[str, Callable[[bytes], bool]]  # each with the test of its first bytes


def _begins(*heads: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(heads)


def _is_riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda data: data[:4] == b"RIFF" and data[8:12] == form


def _is_mpeg_audio(data: bytes) -> bool:
    # An ID3 tag, or a frame: eleven set bits, then a layer that is not the reserved one (ISO/IEC 11172-3, 2.4.1.3).
    is_frame = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06 != 0
    return data[:3] == b"ID3" or is_frame


def _is_plain_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


_KINDS: Final[Mapping[str, _Kind]] = {
    "image": _Kind(
        5 * MEBIBYTE,
        {
            "image/png": _begins(b"\x89PNG\r\n\x1a\n"),
            "image/jpeg": _begins(b"\xff\xd8\xff"),
            "image/webp": _is_riff(b"WEBP"),
            "image/gif": _begins(b"GIF87a", b"GIF89a"),
        },
    ),
    "document": _Kind(20 * MEBIBYTE, {"application/pdf": _begins(b"%PDF-"), "text/plain": _is_plain_text}),
    "audio": _Kind(20 * MEBIBYTE, {"audio/mpeg": _is_mpeg_audio, "audio/wav": _is_riff(b"WAVE")}),
    "video": _Kind(
        20 * MEBIBYTE,
        {"video/mp4": lambda data: data[4:8] == b"ftyp", "video/webm": _begins(b"\x1a\x45\xdf\xa3")},
    ),
}


def media_block(value: Any, path: str) -> dict[str, Any]:
    """
    A block as it is kept: just as it was sent.

    Raises:
        InvalidRequest
    """
    found = read_object(value, {"type": fields.one_of(_KINDS), "source": lambda item, _: item}, path)
    require(found, "type", "source", path=path)
    return {"type": found["type"], "source": _source(_KINDS[found["type"]], found["source"], f"{path}.source")}


def content_block(value: Any, path: str) -> dict[str, Any]:
    """A media block, or `{"type":"text","text"}`."""
    if isinstance(value, dict) and value.get("type") == "text":
        found = read_object(value, {"type": fields.one_of(("text",)), "text": fields.text(1, TEXT_MAX)}, path)
        require(found, "text", path=path)
        return found
    if isinstance(value, dict) and value.get("type") is not None:
        fields.one_of(("text", *_KINDS))(value["type"], f"{path}.type")
    return media_block(value, path)


def _source(kind: _Kind, value: Any, path: str) -> dict[str, Any]:
    if isinstance(value, dict) and value.get("type") == "url":
        found = read_object(value, {"type": fields.one_of(("url",)), "url": _url}, path)
        require(found, "url", path=path)
        return found
    known: dict[str, Check] = {
        "type": fields.one_of(("base64", "url")),
        "media_type": fields.one_of(kind.media_types),
        "data": _base64_text,
    }
    found = read_object(value, known, path)
    require(found, "type", "media_type", "data", path=path)
    data = _decoded(found["data"], kind.bytes_max, f"{path}.data")
    if not kind.media_types[found["media_type"]](data):
        refuse(f"{path}.data", f"its bytes are not those of {found['media_type']}")
    return found


def _base64_text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value:
        refuse(path, "must be base64 text")
    return value


def _decoded(text: str, bytes_max: int, path: str) -> bytes:
    # A quarter of base64 is overhead; what is longer than that is not even decoded.
    if len(text) > bytes_max // 3 * 4 + 4:
        refuse(path, f"may have {bytes_max // MEBIBYTE} MiB")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        refuse(path, "is no base64")
    if len(data) > bytes_max:
        refuse(path, f"may have {bytes_max // MEBIBYTE} MiB")
    return data


def _url(value: Any, path: str) -> str:
    if not isinstance(value, str) or len(value) > URL_MAX or any(char <= " " or char == "\x7f" for char in value):
        refuse(path, f"must be an http or https URL of at most {URL_MAX} characters")
    try:
        parts = urlsplit(value)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_web = False
    if not is_web:
        refuse(path, "must be an http or https URL")
    return value
