"""Media blocks: what a block says and what it is must agree."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from holdfast.api.engine.media import content_block, media_block
from holdfast.errors import InvalidRequest

SAMPLES = {
    ("image", "image/png"): b"\x89PNG\r\n\x1a\n\0",
    ("image", "image/jpeg"): b"\xff\xd8\xff\xe0",
    ("image", "image/gif"): b"GIF89a",
    ("image", "image/webp"): b"RIFF\0\0\0\0WEBPVP8 ",
    ("document", "application/pdf"): b"%PDF-1.7",
    ("document", "text/plain"): "Grüße".encode(),
    ("audio", "audio/mpeg"): b"ID3\x04",
    ("audio", "audio/wav"): b"RIFF\0\0\0\0WAVEfmt ",
    ("video", "video/mp4"): b"\0\0\0\x18ftypmp42",
    ("video", "video/webm"): b"\x1a\x45\xdf\xa3",
}


def block(kind: str, media_type: str, data: bytes) -> dict[str, Any]:
    return {
        "type": kind,
        "source": {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()},
    }


@pytest.mark.parametrize(("kind", "media_type"), SAMPLES)
def test_a_good_block_is_kept_as_it_is(kind: str, media_type: str) -> None:
    good = block(kind, media_type, SAMPLES[kind, media_type])

    assert media_block(good, "media[0]") == good


@pytest.mark.parametrize(("kind", "media_type"), SAMPLES)
def test_bytes_of_another_kind_are_refused(kind: str, media_type: str) -> None:
    for other, data in SAMPLES.items():
        is_text = media_type == "text/plain" and other != ("document", "text/plain") and is_plain(data)
        if other == (kind, media_type) or is_text:
            continue
        with pytest.raises(InvalidRequest) as caught:
            media_block(block(kind, media_type, data), "media[0]")
        assert caught.value.field == "media[0].source.data"


def is_plain(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def test_an_mpeg_frame_needs_no_tag() -> None:
    assert media_block(block("audio", "audio/mpeg", b"\xff\xfb\x90\x00"), "m")


@pytest.mark.parametrize(("kind", "limit"), [("image", 5), ("document", 20)])
def test_a_block_has_its_limit_to_the_byte(kind: str, limit: int) -> None:
    media_type = {"image": "image/png", "document": "application/pdf"}[kind]
    head = SAMPLES[kind, media_type]
    full = head + bytes((limit << 20) - len(head))

    assert media_block(block(kind, media_type, full), "m")
    with pytest.raises(InvalidRequest, match=f"{limit} MiB"):
        media_block(block(kind, media_type, full + b"\0"), "m")


@pytest.mark.parametrize("url", ["https://example.com/a.png?b=c#d", "http://127.0.0.1:8080/x", "HTTPS://EXAMPLE.com"])
def test_urls_of_the_web_are_taken(url: str) -> None:
    assert media_block({"type": "image", "source": {"type": "url", "url": url}}, "m")["source"]["url"] == url


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "data:image/png;base64,xx", "//x/y", "https:///x", "http://x:99999/", "http://x/\n", "", "x" * 9000]
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        media_block({"type": "image", "source": {"type": "url", "url": url}}, "m")

    assert caught.value.field == "m.source.url"


def test_an_answer_may_also_hold_text() -> None:
    assert content_block({"type": "text", "text": "x"}, "b") == {"type": "text", "text": "x"}
    with pytest.raises(InvalidRequest):
        media_block({"type": "text", "text": "x"}, "b")
    with pytest.raises(InvalidRequest, match="one of text, image, document, audio, video") as caught:
        content_block({"type": "table"}, "b")
    assert caught.value.field == "b.type"
