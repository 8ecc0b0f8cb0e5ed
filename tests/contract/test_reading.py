"""Reading runs and journals."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from holdfast.model import Kind, Segment, Status
from holdfast.store.base import RunQuery, Store
from tests.contract.making import Hand, held, journal, question, segment, started, waiting


async def test_nothing_there(store: Store) -> None:
    assert await store.run("default", "r1") is None
    assert await store.run_by_number(1) is None
    assert await store.runs(RunQuery(tenant=None)) == []
    assert await store.segments(1, after=-1, bytes_max=99) == []
    assert await store.segments_by_time("default", after=0, bytes_max=99) == []
    assert await store.segments_by_time("default", after=0, thread_id="t", bytes_max=99) == []
    assert await store.marks(1) == []
    assert await store.tails([1]) == {}
    assert await store.steps(1) == []
    assert await store.interrupts(1) == []
    assert await store.due(1 << 60, limit=9) == []
    assert await store.inbox([1]) == []
    assert await store.thread("default", "t") is None
    assert await store.messages("default", "t") == []
    assert await store.file("default", "f") is None
    assert await store.outbox(limit=9) == []
    assert await store.keys() == []
    assert await store.counts() == {Status.QUEUED: 0, Status.RUNNING: 0, Status.WAITING: 0}


# Segments of a run


async def test_segments_begin_with_the_one_that_has_the_next_event(store: Store) -> None:
    hand = await held(store)
    for count in (3, 1, 4):  # 0, 1-3, 4, 5-8
        await hand.append(count)

    async def firsts(after: int) -> list[int]:
        return [item.first for item in await store.segments(hand.number, after=after, bytes_max=1 << 20)]

    assert await firsts(-1) == [0, 1, 4, 5]
    assert await firsts(-7) == [0, 1, 4, 5]
    assert await firsts(0) == [1, 4, 5]
    assert await firsts(2) == [1, 4, 5]
    assert await firsts(3) == [4, 5]
    assert await firsts(4) == [5]
    assert await firsts(7) == [5]
    assert await firsts(8) == []
    assert await firsts(1 << 62) == []


@pytest.mark.parametrize(("bytes_max", "pages"), [(0, [1] * 5), (1, [1] * 5), (99, [1] * 5), (2**20, [5])])
async def test_a_page_has_at_least_one_segment_and_then_what_fits(
    store: Store, bytes_max: int, pages: list[int]
) -> None:
    hand = await held(store, segment=segment(pad=100))
    for _ in range(4):
        await hand.append(pad=100)

    after, found = -1, []
    while page := await store.segments(hand.number, after=after, bytes_max=bytes_max):
        found.append(len(page))
        after = page[-1].last

    assert found == pages


async def test_a_page_is_filled_up_to_its_size_and_not_beyond(store: Store) -> None:
    hand = await held(store, segment=segment(pad=100))
    for _ in range(9):
        await hand.append(pad=100)
    size = len((await journal(store, hand.number))[0].body)

    for count in (1, 2, 5):
        assert len(await store.segments(hand.number, after=-1, bytes_max=count * size)) == count
        assert len(await store.segments(hand.number, after=-1, bytes_max=count * size + size - 1)) == count


async def test_pages_put_together_are_the_journal(store: Store) -> None:
    hand = await held(store)
    for size in range(700):
        await hand.append(1 + size % 3, pad=size)

    found = await journal(store, hand.number, bytes_max=5000)

    assert found == await journal(store, hand.number)
    assert [item.first for item in found[1:]] == [item.last + 1 for item in found[:-1]]
    assert found[-1].last == hand.tail


async def test_bodies_come_back_byte_for_byte(store: Store) -> None:
    bodies = [b"", b"\xff\xfe\x00 no text\n", "é\U0001f600\u2028".encode(), b"\x00" * 10, b"x" * 300_000]
    hand = await held(store)
    for body in bodies:
        write = hand.next()
        assert write.segment is not None
        assert await store.commit(
            [msgspec.structs.replace(write, segment=msgspec.structs.replace(write.segment, body=body))]
        ) == [None]

    assert [item.body for item in (await journal(store, hand.number))[1:]] == bodies


async def test_marks_are_all_segments_without_their_bodies(store: Store) -> None:
    hand = await held(store)
    marked = segment(hand.number, first=1, count=2, prior=hand.prior, marks=((1, 1, "a"), (2, 2, 'b"c')))
    hand.tail, hand.prior = 2, marked.hash
    await hand.store.commit([msgspec.structs.replace(hand.next(), tail=0, segment=marked)])

    found = await store.marks(hand.number)

    assert found == [msgspec.structs.replace(item, body=b"") for item in await journal(store, hand.number)]
    assert found[1].marks == marked.marks


async def test_tails_and_statuses_of_many_runs_at_once(store: Store) -> None:
    first, second = await held(store, "r1"), await started(store, "r2")
    await first.append(3)

    assert await store.tails([first.number, second.number, 99]) == {
        first.number: (3, Status.RUNNING),
        second.number: (0, Status.QUEUED),
    }


async def test_growth_is_what_came_behind_each_sequence_in_one_look(store: Store) -> None:
    """Other processes are followed by it: only what grew or is over, and all of that in order."""
    grown, still, over = [await held(store, f"r{index}") for index in range(3)]
    await grown.append(2)
    await grown.append(3)
    await over.finish()

    found = await store.growth(
        {grown.number: 2, still.number: still.tail, over.number: over.tail, 99: 0}, bytes_max=1 << 20
    )

    assert found.keys() == {grown.number, over.number}
    whole = found[grown.number]
    assert (whole.last, whole.is_over) == (5, False)
    assert list(whole.segments) == (await journal(store, grown.number))[2:]
    assert (found[over.number].last, found[over.number].is_over) == (over.tail, True)
    assert list(found[over.number].segments) == []


async def test_growth_leaves_out_what_is_too_much_and_tells_that_it_is_there(store: Store) -> None:
    hands = [await held(store, f"r{index}") for index in range(3)]
    for hand in hands:
        await hand.append(1, pad=400)
        await hand.append(1, pad=400)

    found = await store.growth({hand.number: 0 for hand in hands}, bytes_max=1500)

    assert {growth.last for growth in found.values()} == {2}
    lengths = [len(found[hand.number].segments) for hand in hands]
    assert 1 <= sum(lengths) <= 3
    for hand in hands:
        whole = (await journal(store, hand.number))[1:]
        assert list(found[hand.number].segments) == whole[: len(found[hand.number].segments)]


# Segments by time


async def by_time(store: Store, after: int = 0, **options: object) -> list[Segment]:
    return await store.segments_by_time("default", after=after, bytes_max=1 << 20, **options)  # type: ignore[arg-type]


async def test_segments_of_all_runs_come_in_the_order_of_time(store: Store) -> None:
    hands = [await held(store, f"r{index}") for index in range(3)]
    for index in (2, 0, 1, 1, 0, 2):
        await hands[index].append(2)

    found = await by_time(store)

    assert len(found) == 9
    assert found == sorted(found, key=lambda item: item.first_timestamp)
    assert [item.number for item in found] == [1, 2, 3, 3, 1, 2, 2, 1, 3]


async def test_what_is_older_is_left_out_and_a_segment_in_between_is_not(store: Store) -> None:
    hand = await held(store)
    await hand.append(3)
    first, second = await journal(store, hand.number)

    assert await by_time(store, first.last_timestamp - 1) == [first, second]
    assert await by_time(store, first.last_timestamp) == [second]
    assert await by_time(store, second.last_timestamp - 1) == [second]
    assert await by_time(store, second.last_timestamp) == []


async def test_a_segment_that_took_long_is_found_behind_younger_short_ones(store: Store) -> None:
    """Its events were pending for minutes, because the disk was full, while other runs began and ended."""
    slow, quick = await held(store, "r1"), await held(store, "r2")
    base = slow.run.last_timestamp
    long = segment(slow.number, first=1, count=2, first_timestamp=base + 10, last_timestamp=base + 600_000_000)
    await store.commit([msgspec.structs.replace(slow.next(2), segment=long)])
    short = segment(quick.number, first=1, first_timestamp=base + 300_000_000, last_timestamp=base + 300_000_000)
    await store.commit([msgspec.structs.replace(quick.next(), segment=short)])

    assert [item.number for item in await by_time(store, base + 299_999_999)] == [slow.number, quick.number]
    assert [item.number for item in await by_time(store, base + 300_000_000)] == [slow.number]


async def test_pages_by_time_are_bounded_alike(store: Store) -> None:
    hand = await held(store, segment=segment(pad=100))
    for _ in range(4):
        await hand.append(pad=100)

    page = await store.segments_by_time("default", after=0, bytes_max=0)

    assert [item.first for item in page] == [0]


async def test_pages_by_time_put_together_are_all_segments_in_order(store: Store) -> None:
    """Segments overlap, so the next page goes on where segments begin and not where events end."""
    hands = [await held(store, f"r{index}") for index in range(4)]
    base = hands[-1].run.last_timestamp
    for index in range(40):
        hand = hands[index % 4]
        start, end = base + 10 * index + 1, base + 10 * index + 95
        made = segment(hand.number, first=hand.tail + 1, prior=hand.prior, first_timestamp=start, last_timestamp=end)
        await store.commit([msgspec.structs.replace(hand.next(), segment=made)])
    after = base + 105

    found: list[Segment] = []
    begun_after = None
    while page := await store.segments_by_time("default", after=after, begun_after=begun_after, bytes_max=60):
        found += page
        begun_after = page[-1].first_timestamp

    assert found == await by_time(store, after)
    assert [item.first_timestamp for item in found] == [base + 10 * index + 1 for index in range(2, 40)]


async def test_segments_of_one_thread_by_time(store: Store) -> None:
    first, other = await held(store, "r1", thread_id="t1"), await held(store, "r2", thread_id="t2")
    await first.append(2)
    await other.append(2)
    await first.finish()
    second = await held(store, "r3", thread_id="t1")
    await second.append(2)
    expected = await journal(store, first.number) + await journal(store, second.number)

    for cut in range(len(expected) + 1):
        after = expected[cut - 1].last_timestamp if cut else 0
        assert await by_time(store, after, thread_id="t1") == expected[cut:]
        page = await store.segments_by_time("default", after=after, thread_id="t1", bytes_max=0)
        assert page == expected[cut : cut + 1]


@pytest.mark.parametrize("after", [0, 1, 49, 50, 51, 98, 99])
async def test_a_place_in_a_long_journal_is_found_by_time(store: Store, after: int) -> None:
    hand = await held(store, thread_id="t1")
    for index in range(99):
        await hand.append(1 + index % 4)
    expected = await journal(store, hand.number)
    timestamp = expected[after].last_timestamp

    assert await by_time(store, timestamp, thread_id="t1") == expected[after + 1 :]
    assert await by_time(store, timestamp - 1, thread_id="t1") == expected[after:]


# Queries over runs


async def test_runs_are_listed_newest_first_page_by_page(store: Store) -> None:
    for index in range(5):
        await started(store, f"r{index}")

    page = await store.runs(RunQuery(tenant="default", limit=2))
    rest = await store.runs(RunQuery(tenant="default", before=page[-1].number))

    assert [run.run_id for run in page + rest] == ["r4", "r3", "r2", "r1", "r0"]
    assert await store.runs(RunQuery(tenant="default", offset=2)) == rest


async def test_runs_are_found_and_counted_by_the_kind_of_their_agent_their_caller_and_what_they_ask(
    store: Store,
) -> None:
    await waiting(store, "asks", agent="skill:a", caller="mine")
    await waiting(store, "calls", agent="skill:a", caller="mine", interrupt=question(kind=Kind.TOOL))
    done = await held(store, "done", agent="capability:b", caller="other")
    await done.finish()
    await started(store, "beside", agent="skillful", caller="mine")

    async def found(**filters: object) -> list[str]:
        query = RunQuery(tenant="default", **filters)  # type: ignore[arg-type]
        return [run.run_id for run in await store.runs(query)]

    prefixes = ("skill:", "capability:")
    assert await found(agent_prefixes=prefixes) == ["done", "calls", "asks"]
    assert await found(agent_prefixes=prefixes, caller="mine") == ["calls", "asks"]
    assert await found(asks_person=True) == ["asks"]
    assert await found(asks_person=False, statuses=(Status.WAITING,)) == ["calls"]
    assert await store.count_runs(RunQuery(tenant="default", agent_prefixes=prefixes, limit=1, offset=1)) == {
        ("skill:a", Status.WAITING): 2,
        ("capability:b", Status.COMPLETED): 1,
    }
    assert await store.count_runs(RunQuery(tenant="another")) == {}


async def test_runs_are_filtered(store: Store) -> None:
    parent = await held(store, "parent", agent="a", created_at=10)
    await parent.append(status=Status.WAITING, release=True)
    await started(store, "child", agent="b", parent=parent.number, thread_id="t", created_at=20)
    done = await held(store, "done", agent="b", created_at=30)
    await done.finish()

    async def found(**filters: object) -> list[str]:
        query = RunQuery(tenant="default", **filters)  # type: ignore[arg-type]
        return [run.run_id for run in await store.runs(query)]

    assert await found(statuses=(Status.QUEUED,)) == ["child"]
    assert await found(statuses=(Status.WAITING, Status.QUEUED)) == ["child", "parent"]
    assert await found(statuses=(Status.COMPLETED, Status.QUEUED)) == ["done", "child"]
    assert await found(agent="b") == ["done", "child"]
    assert await found(agent="b", statuses=(Status.COMPLETED,)) == ["done"]
    assert await found(thread_id="t") == await found(shown_thread="t") == ["child"]
    assert await found(thread_id="parent") == await found(shown_thread="child") == []
    assert await found(shown_thread="parent") == ["parent"]
    assert await found(parent=parent.number) == ["child"]
    assert await found(created_after=10) == ["done", "child"]
    assert await found(created_before=30) == ["child", "parent"]
    assert await found(created_after=10, created_before=30) == ["child"]


async def test_counts_tell_what_is_under_way(store: Store) -> None:
    await started(store, "q1")
    await started(store, "q2", tenant="other")
    await held(store, "run")
    await waiting(store, "wait")
    await (await held(store, "done")).finish()

    assert await store.counts() == {Status.QUEUED: 2, Status.RUNNING: 1, Status.WAITING: 1}


async def test_many_reads_and_writes_at_once(store: Store) -> None:
    hands = [await held(store, f"r{index}") for index in range(10)]

    async def work(hand: Hand) -> list[int]:
        for _ in range(20):
            await hand.append()
            run = await hand.row()
            assert run.tail_sequence == hand.tail
        return [item.first for item in await journal(store, hand.number)]

    assert await asyncio.gather(*map(work, hands)) == [list(range(21))] * 10
