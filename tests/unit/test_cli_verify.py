"""An export is whole, or the first event that cannot be trusted is named."""

from __future__ import annotations

import hashlib
import json

import pytest

from holdfast.cli.verify import check_export


def event(sequence: int) -> bytes:
    return b'{"id":"evt_%d","type":"token","run_id":"q-1","sequence":%d}\n' % (sequence, sequence)


def control(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def export_of(*segments: tuple[int, int], prior: bytes = bytes(32)) -> list[bytes]:
    """The lines of an export with these segments."""
    lines = [control(kind="journal", format=1, run_id="q-1", epoch=0, prior=prior.hex())]
    last = -1
    for first, last in segments:
        body = [event(number) for number in range(first, last + 1)]
        prior = hashlib.sha256(prior + b"".join(body)).digest()
        lines += [*body, control(kind="segment", first=first, last=last, hash=prior.hex())]
    return [*lines, control(kind="end", status="completed", tail_sequence=last)]


WHOLE = export_of((0, 0), (1, 2), (3, 9))


def test_a_whole_export_is_found_whole() -> None:
    checked = check_export(WHOLE)

    assert checked.ok
    assert (checked.run_id, checked.events, checked.segments, checked.status) == ("q-1", 10, 3, "completed")
    assert checked.hash == json.loads(WHOLE[-2])["hash"]


def test_the_hashes_printed_in_the_specification_are_ours() -> None:
    """runtime.md, section 5: the chain begins with 32 zero bytes and takes each line with its LF."""
    started = (
        b'{"id":"evt_0","type":"started","run_id":"q-1","sequence":0,"timestamp":"2026-11-20T23:59:19.981204Z",'
        b'"agent_name":"tutor","thread_id":"q-1","attempt":1,"framework":"custom"}\n'
    )
    token = (
        b'{"id":"evt_1","type":"token","run_id":"q-1","sequence":1,"timestamp":"2026-11-20T23:59:19.987298Z",'
        b'"content":"Quan"}\n'
    )
    complete = (
        b'{"id":"evt_2","type":"complete","run_id":"q-1","sequence":2,"timestamp":"2026-11-20T23:59:20.481204Z",'
        b'"output":{"answer":"Quan"},"latency_seconds":0.5}\n'
    )
    first = "1fc6d7556b2fa2929b74f87fbc39888f1d52941a8c7073ff22974246184244c5"
    second = "82c0f34295320bee7d0773a5f7bd8a41585b3db67fc9f62d3eee591fc20acc04"

    checked = check_export(
        [
            control(kind="journal", format=1, run_id="q-1", epoch=0, prior="00" * 32),
            started,
            control(kind="segment", first=0, last=0, hash=first),
            token,
            complete,
            control(kind="segment", first=1, last=2, hash=second),
            control(kind="end", status="completed", tail_sequence=2),
        ]
    )

    assert checked.ok, checked.problem


def test_a_pruned_journal_begins_behind_its_pruned_part() -> None:
    assert check_export(export_of((5, 7), (8, 8), prior=hashlib.sha256(b"pruned").digest())).ok


@pytest.mark.parametrize("line", range(len(WHOLE)))
def test_a_line_that_is_missing_is_noticed(line: int) -> None:
    assert not check_export(WHOLE[:line] + WHOLE[line + 1 :]).ok


@pytest.mark.parametrize("line", range(1, len(WHOLE) - 1))
def test_two_lines_that_changed_places_are_noticed(line: int) -> None:
    swapped = [*WHOLE[:line], WHOLE[line + 1], WHOLE[line], *WHOLE[line + 2 :]]

    assert not check_export(swapped).ok


def test_one_flipped_byte_of_an_event_is_noticed_wherever_it_is() -> None:
    for number, line in enumerate(WHOLE):
        if line.startswith(b'{"kind"'):
            continue
        for place in range(len(line)):
            flipped = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
            assert not check_export([*WHOLE[:number], flipped, *WHOLE[number + 1 :]]).ok


def test_the_first_event_that_cannot_be_trusted_is_named() -> None:
    changed = [line.replace(b'"sequence":2}', b'"sequence":3}') for line in WHOLE]

    checked = check_export(changed)

    assert checked.first_bad_sequence == 1
    assert checked.problem is not None
    assert "events 1 to 2" in checked.problem


@pytest.mark.parametrize("cut", range(0, len(b"".join(WHOLE)), 7))
def test_a_file_that_was_cut_off_is_never_whole(cut: int) -> None:
    data = b"".join(WHOLE)[:cut]

    assert not check_export(data.splitlines(keepends=True)).ok


def test_other_files_are_no_exports() -> None:
    assert "no export" in (check_export([b"hello\n"]).problem or "")
    assert "no export" in (check_export([control(kind="journal", format=2, run_id="q-1", prior="00")]).problem or "")
    assert "empty" in (check_export([]).problem or "")
