"""What the assistant remembers: items, their search, the soul, working memory."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from holdfast.agents.catalog import PromptSkills
from holdfast.agents.prompt_skill import PromptSkill
from holdfast.clock import SystemClock
from holdfast.errors import MemoryItemNotFound, SkillExists
from holdfast.ids import RandomIds
from holdfast.memory import Memory
from holdfast.memory.words import folded, query_words
from holdfast.model import Status
from holdfast.store import memory
from holdfast.store.base import Started, Store
from holdfast.store.memory import MemoryItem, Nearest, Soul
from holdfast.store.postgres import memory as postgres_memory
from holdfast.store.sqlite import memory as sqlite_memory
from tests.contract.making import BEGINNING, one, start_run

NOW = BEGINNING + 1_000_000


def item(item_id: str, text: str = "", **changes: Any) -> MemoryItem:
    given: dict[str, Any] = {
        "tenant": "a",
        "store": "knowledge",
        "item_id": item_id,
        "fields": msgspec.json.encode({"content": text}),
        "words": folded(text),
        "source": "test",
        "created_at": BEGINNING,
        "updated_at": BEGINNING,
    }
    return MemoryItem(**given | changes)


async def found(store: Store, query: str, *, tenant: str = "a", kind: str = "knowledge", limit: int = 20) -> list[str]:
    hits = await store.memory.search(tenant, kind, query_words(query), now=NOW, limit=limit)
    assert all(0 < hit.score < 1 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return [hit.item.item_id for hit in hits]


async def test_an_item_comes_back_as_it_was_kept(store: Store) -> None:
    kept = item("k1", "The Café", valid_from=1, valid_until=2, confidence=0.25, task_id="t/1")

    assert await store.memory.put(kept) == [True]

    assert await store.memory.item("a", "knowledge", "k1") == kept


async def test_of_many_who_add_the_same_item_one_is_the_first(store: Store) -> None:
    texts = ("first", "second", "third", "fourth")
    added = await asyncio.gather(*(store.memory.add(item("k1", text, source=text)) for text in texts))

    kept = await store.memory.item("a", "knowledge", "k1")
    assert sorted(added) == [False, False, False, True]
    assert kept == item("k1", texts[added.index(True)], source=texts[added.index(True)])
    assert await found(store, texts[added.index(True)]) == ["k1"]
    assert await found(store, texts[added.index(False)]) == []


async def test_of_two_processes_that_make_a_prompt_skill_one_finds_it_there(store: Store) -> None:
    clock = SystemClock()
    processes = [PromptSkills(Memory(store.memory, clock, RandomIds(clock)), None) for _ in range(2)]
    skills = [PromptSkill(name="brief", prompt=f"By {place}") for place in range(2)]

    made = await asyncio.gather(
        *(process.create("a", skill, by="key") for process, skill in zip(processes, skills, strict=True)),
        return_exceptions=True,
    )

    assert sum(isinstance(one, SkillExists) for one in made) == 1
    assert await processes[0].get("a", "brief") in made


async def test_replacing_keeps_the_birth_and_only_the_new_words_are_found(store: Store) -> None:
    await store.memory.put(item("k1", "the old words"))

    assert await store.memory.put(item("k1", "quite different", created_at=NOW, updated_at=NOW)) == [False]

    assert (await store.memory.items("a", "knowledge"))[0].created_at == BEGINNING
    assert await found(store, "old") == []
    assert await found(store, "different") == ["k1"]


async def test_items_are_listed_newest_first_in_pages(store: Store) -> None:
    await store.memory.put(*(item(f"k{n}", created_at=BEGINNING + n // 2) for n in range(6)))

    first = await store.memory.items("a", "knowledge", limit=4)
    rest = await store.memory.items("a", "knowledge", before=(first[-1].created_at, first[-1].item_id), limit=4)

    assert [each.item_id for each in (*first, *rest)] == ["k5", "k4", "k3", "k2", "k1", "k0"]


@pytest.mark.parametrize(
    "query",
    ["cafe", "CAFÉ", "cafe\u0301", '"cafe"', "cafe OR *", "NEAR(cafe)", "words:cafe", "cafe' & !x:*", "^cafe -the"],
)
async def test_words_are_found_whatever_their_case_accents_and_neighbours(store: Store, query: str) -> None:
    await store.memory.put(item("k1", "Das Café zahlt"), item("k2", "something else"))

    assert await found(store, query) == ["k1"]


@pytest.mark.parametrize("query", ["*", "OR", '""', "()", "caf", "caf*", "c", "'"])
async def test_no_character_has_a_meaning_of_its_own(store: Store, query: str) -> None:
    await store.memory.put(item("k1", "Das Café zahlt"), item("k2", "something else"))

    assert await found(store, query) == []


async def test_other_scripts_are_found_by_their_words_or_characters(store: Store) -> None:
    await store.memory.put(item("k1", "Ёлка стоит"), item("k2", "請求書は五日"), item("k3", "Straße ø"))

    assert await found(store, "елка") == ["k1"]
    assert await found(store, "五") == ["k2"]
    assert await found(store, "STRASSE") == ["k3"]
    assert await found(store, "Ø") == ["k3"]


async def test_the_rarer_and_the_more_frequent_word_counts_more(store: Store) -> None:
    await store.memory.put(
        item("one", "pay pay pay"),
        item("both", "pay the cafe"),
        item("rare", "cafe in the park"),
        *(item(f"other{n}", "they pay in the end") for n in range(5)),
    )

    assert (await found(store, "pay cafe", limit=3)) == ["both", "rare", "one"]


async def test_of_equal_ones_the_newest_comes_first_then_the_id(store: Store) -> None:
    await store.memory.put(
        item("b", "same words"), item("a", "same words"), item("c", "same words", updated_at=BEGINNING + 1)
    )

    assert await found(store, "same") == ["c", "a", "b"]
    assert await found(store, "same", limit=2) == ["c", "a"]


async def test_what_is_not_valid_now_is_not_found(store: Store) -> None:
    await store.memory.put(
        item("past", "pay", valid_until=NOW),
        item("future", "pay", valid_from=NOW + 1),
        item("now", "pay", valid_from=NOW, valid_until=NOW + 1),
    )

    assert await found(store, "pay") == ["now"]


async def test_many_invalid_ones_hide_no_valid_one(store: Store) -> None:
    await store.memory.merge([item(f"past{n}", "pay pay", valid_until=1) for n in range(250)])
    await store.memory.put(item("now", "in the end they pay a little less than that"))

    assert await found(store, "pay", limit=1) == ["now"]


async def test_words_of_all_items_are_found_too(store: Store) -> None:
    await store.memory.put(*(item(f"k{n}", "the word") for n in range(3)))

    assert sorted(await found(store, "the")) == ["k0", "k1", "k2"]


async def test_a_query_of_hundreds_of_words_is_answered(store: Store) -> None:
    await store.memory.put(item("k1", "word299"))

    assert await found(store, " ".join(f"word{n}" for n in range(300))) == ["k1"]


async def test_tenants_and_stores_do_not_meet(store: Store) -> None:
    await store.memory.put(
        item("mine", "pay"), item("theirs", "pay", tenant="b"), item("episode", "pay", store="episodes")
    )

    assert await found(store, "pay") == ["mine"]
    assert await found(store, "pay", tenant="b") == ["theirs"]
    assert await found(store, "pay", kind="episodes") == ["episode"]
    assert await store.memory.item("b", "knowledge", "mine") is None
    assert not await store.memory.delete("b", "knowledge", "mine")
    assert [each.item_id for each in (await store.memory.everything("b")).items] == ["theirs"]


async def test_an_item_among_many_better_ones_of_another_store_is_found(store: Store) -> None:
    await store.memory.merge([item(f"other{n}", "pay pay pay", store="episodes") for n in range(120)])
    await store.memory.merge([item(f"mine{n}", "nothing of it") for n in range(150)])
    await store.memory.put(item("mine", "in the end they pay a little less than that"))

    assert await found(store, "pay", limit=1) == ["mine"]


async def test_common_words_are_looked_up_among_the_newest_where_others_find_too_few(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "COMMON_ITEMS", 10)
    for module in (sqlite_memory, postgres_memory):
        for name, value in (("COMMON_ITEMS", 10), ("RECENT_ITEMS", 20)):
            monkeypatch.setattr(module, name, value, raising=False)
    await store.memory.put(item("old", "the zebra"))
    await store.memory.merge([item(f"k{n:02}", "the word", updated_at=BEGINNING + n) for n in range(40)])

    assert await found(store, "zebra the", limit=1) == ["old"]
    assert await found(store, "zebra the", limit=3) == ["old", "k39", "k38"]
    assert await found(store, "the", limit=40) == [f"k{n:02}" for n in range(39, 19, -1)]


async def test_what_is_deleted_is_not_found(store: Store) -> None:
    await store.memory.put(item("k1", "pay"), item("k2", "pay"))

    assert await store.memory.delete("a", "knowledge", "k1")

    assert await found(store, "pay") == ["k2"]
    assert not await store.memory.delete("a", "knowledge", "k1")


def edge(item_id: str, start: str, end: str) -> MemoryItem:
    return item(item_id, "knows", store="social", from_id=start, to_id=end)


async def test_an_edge_needs_its_nodes_and_goes_with_one_of_them(store: Store) -> None:
    await store.memory.put(item("n1", store="social"), item("n2", store="social"), edge("e1", "n1", "n2"))

    with pytest.raises(MemoryItemNotFound) as caught:
        await store.memory.put(item("n3", store="social"), edge("e2", "n1", "gone"))
    assert await store.memory.delete("a", "social", "n2")

    assert caught.value.details == {"field": "to"}
    assert [each.item_id for each in await store.memory.items("a", "social")] == ["n1"]


async def test_merging_takes_what_is_newer(store: Store) -> None:
    await store.memory.put(item("old", "before"), item("same", "before"), item("new", "before", updated_at=NOW))
    given = [
        item("old", "after", updated_at=BEGINNING + 1),
        item("same", "after"),
        item("new", "after", updated_at=BEGINNING + 1),
        item("none", "after"),
    ]

    assert await store.memory.merge(given) == ["updated", "unchanged", "unchanged", "added"]

    assert sorted(await found(store, "after")) == ["none", "old"]
    assert await store.memory.merge(given) == ["unchanged"] * 4


async def test_of_changes_of_a_soul_at_the_same_moment_one_wins(store: Store) -> None:
    souls = [Soul(tenant="a", version=1, body=b"%d" % n, caller="me", created_at=BEGINNING) for n in range(5)]

    kept = await asyncio.gather(*(store.memory.put_soul(each) for each in souls))

    assert sorted(kept) == [False, False, False, False, True]
    assert await store.memory.put_soul(msgspec.structs.replace(souls[0], version=2))
    assert [each.version for each in await store.memory.souls("a", limit=9)] == [2, 1]
    assert await store.memory.souls("b", limit=9) == []


async def test_working_memory_forgets_what_superseded_turns_wrote(store: Store) -> None:
    async def work(number: int, key: str, value: bytes | None) -> None:
        await store.memory.put_working("a", "t1", number=number, key=key, value=value, now=NOW)

    first = await one(store, start_run("first", tenant="a", thread_id="t1", status=Status.COMPLETED))
    assert isinstance(first, Started)
    await work(first.run.number, "kept", b"1")
    await work(first.run.number, "changed", b"1")
    second = await one(store, start_run("second", tenant="a", thread_id="t1", status=Status.COMPLETED))
    assert isinstance(second, Started)
    await work(second.run.number, "changed", b"2")
    await work(second.run.number, "kept", None)
    await work(second.run.number, "kept", None)

    assert await store.memory.working("a", "t1") == {"changed": b"2"}
    third = start_run("third", tenant="a", thread_id="t1")
    await one(store, msgspec.structs.replace(third, supersedes=(second.run.number,)))

    assert await store.memory.working("a", "t1") == {"kept": b"1", "changed": b"1"}
    assert await store.memory.working("b", "t1") == {}


async def test_the_nearest_meaning_comes_first(store: Store) -> None:
    def meaning(item_id: str, vector: bytes, bits: bytes, model: str = "m") -> MemoryItem:
        return item(item_id, vector=vector, vector_bits=bits, vector_model=model)

    import array

    def floats(*values: float) -> bytes:
        return array.array("f", values).tobytes()

    await store.memory.put(
        meaning("far", floats(-1, 0), b"\x40"),
        meaning("near", floats(0.8, 0.6), b"\xc0"),
        meaning("nearest", floats(1, 0), b"\xc0"),
        meaning("other", floats(1, 0), b"\xc0", model="another"),
        item("none"),
    )

    asked = Nearest("m", floats(1, 0), b"\xc0")
    hits = await store.memory.nearest("a", "knowledge", asked, now=NOW, limit=2)

    assert [(each.item.item_id, round(each.score, 3)) for each in hits] == [("nearest", 1.0), ("near", 0.8)]
