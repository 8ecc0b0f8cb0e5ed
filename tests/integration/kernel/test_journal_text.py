"""Text that line readers, C strings and UTF-8 decoders stumble over goes through a journal unharmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, SyncContext, agent
from holdfast.execution.emitting import EVENT_BYTES_MAX
from holdfast.model import Status
from tests.support.kernel import CALLER, kernel

ODD = [
    "a\rb",
    "a\nb",
    "a\r\nb\n\n",
    "data: x\n\nevent: complete\n\n",
    "a\u2028b\u2029c",
    "a\u0085b\x0b\x0c\x1c\x1d\x1eb",
    "a\x00b",
    "\x7f\x80\x9f",
    "\ufeff",
    "\ud83d",
    "\ude00\ud83d",
    "😀",
    '"\\',
    "",
]
REPAIRED = [text.replace("\ud83d", "\ufffd").replace("\ude00", "\ufffd") for text in ODD]


@agent("odd")
async def odd(context: Context, input: Any) -> Any:
    for text in ODD:
        await context.token(text)
        await context.thinking(text)
        await context.emit("own", {"text": text, text or "empty": [text]})
    return ODD


@agent("odd-sync")
def odd_sync(context: SyncContext, input: Any) -> Any:
    for text in ODD:
        context.token(text)
    return context.step("echo", lambda: ODD)


async def test_every_odd_text_comes_back_and_lone_surrogates_are_repaired(tmp_path: Path) -> None:
    async with kernel(tmp_path, odd, odd_sync) as it:
        run = await it.start("odd", {"text": ODD})
        events = await it.events(run)
        sync = await it.start("odd-sync")
        from_thread = await it.events(sync)
        verified = [await it.runs.verify(CALLER, item.run_id) for item in (run, sync)]
        lines = b"".join([line async for line in it.runs.export(CALLER, run.run_id)])

    assert [event["content"] for event in events if event["type"] == "token"] == REPAIRED
    assert [event["content"] for event in events if event["type"] == "thinking"] == REPAIRED
    own = [event for event in events if event["type"] == "own"]
    assert [event["text"] for event in own] == REPAIRED
    assert [event[text or "empty"] for event, text in zip(own, REPAIRED, strict=True)] == [[text] for text in REPAIRED]
    assert events[-1]["output"] == REPAIRED
    assert [event["content"] for event in from_thread if event["type"] == "token"] == REPAIRED
    assert from_thread[-1]["output"] == REPAIRED
    assert all(item.ok for item in verified)
    # However a reader splits lines, it splits them alike.
    journal = [line for line in lines.decode().split("\n") if '"type":' in line]
    assert [piece for line in journal for piece in line.splitlines()] == journal


async def test_an_event_of_one_mebibyte_passes_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    longest = "x" * (EVENT_BYTES_MAX - 200)

    @agent("long")
    async def long(context: Context, input: Any) -> Any:
        await context.emit("own", text=longest)
        with pytest.raises(ValueError, match="bytes"):
            await context.emit("own", text="x" * (EVENT_BYTES_MAX + 1))
        return "fine"

    async with kernel(tmp_path, long) as it:
        run = await it.start("long")
        events = await it.events(run)
        ended = await it.finished(run)
        verified = await it.runs.verify(CALLER, run.run_id)

    assert ended.status is Status.COMPLETED, ended.error
    assert [event["type"] for event in events] == ["started", "own", "complete"]
    assert events[1]["text"] == longest
    assert verified.ok
