"""Nobody sees anything of another tenant."""

from __future__ import annotations

import hashlib

from holdfast.model import File, Status
from holdfast.store.base import RunQuery, Store
from tests.contract.making import answered, held, key_row, message, question, waiting


async def test_a_tenant_sees_its_own_and_nothing_else(store: Store) -> None:
    for tenant in ("a", "b"):
        hand = await waiting(
            store,
            "r1",
            tenant=tenant,
            thread_id="t1",
            message=message("m1", content=tenant),
            idempotency=key_row(tenant=tenant),
        )
        await hand.append(
            interrupts=(question(status="resolved", resolved_at=5), question("i2", question=tenant)),
            answers=(answered(),),
            unleased=True,
        )
        content = tenant.encode()
        file = File(
            file_id="f1",
            tenant=tenant,
            name="n",
            media_type="m",
            size=1,
            sha256=hashlib.sha256(content).hexdigest(),
            created_at=1,
        )
        await store.put_file(file, content)

    numbers = []
    for tenant in ("a", "b"):
        run = await store.run(tenant, "r1")
        assert run is not None
        assert run.tenant == tenant
        numbers.append(run.number)
        assert await store.runs(RunQuery(tenant=tenant)) == [run]
        assert await store.runs(RunQuery(tenant=tenant, thread_id="t1", agent="agent")) == [run]
        by_time = await store.segments_by_time(tenant, after=0, bytes_max=1 << 20)
        assert {item.number for item in by_time} == {run.number}
        of_thread = await store.segments_by_time(tenant, after=0, thread_id="t1", bytes_max=1 << 20)
        assert {item.number for item in of_thread} == {run.number}
        assert [item.question for item in await store.pending(tenant)] == [tenant]
        assert [item.question for item in await store.pending(tenant, thread_id="t1")] == [tenant]
        resolved = await store.last_resolved(tenant, "t1")
        assert resolved is not None
        assert resolved.number == run.number
        thread = await store.thread(tenant, "t1")
        assert thread is not None
        assert thread.active == run.number
        assert await store.threads(tenant) == [thread]
        assert [item.content for item in await store.messages(tenant, "t1")] == [tenant]
        key = await store.idempotency(tenant, "POST", "/runs", "k1")
        assert key is not None
        assert key.number == run.number
        found = await store.file(tenant, "f1")
        assert found is not None
        assert found[1] == tenant.encode()
    assert len(set(numbers)) == 2


async def test_only_a_query_without_tenant_sees_all(store: Store) -> None:
    await held(store, "r1", tenant="a")
    await held(store, "r2", tenant="b")

    assert [run.run_id for run in await store.runs(RunQuery(tenant=None))] == ["r2", "r1"]
    assert await store.runs(RunQuery(tenant="")) == []


async def test_deleting_a_thread_leaves_that_of_another_tenant(store: Store) -> None:
    for tenant in ("a", "b"):
        hand = await held(store, "r1", tenant=tenant, thread_id="t1", message=message("m1"))
        await hand.append(status=Status.COMPLETED)

    assert await store.delete_thread("a", "t1")

    assert await store.run("a", "r1") is None
    assert await store.run("b", "r1") is not None
    assert len(await store.messages("b", "t1")) == 1
