"""What the assistant remembers, over HTTP, on each store; every test with ids and words of its own."""

from __future__ import annotations

import contextlib
import runpy
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.engine.support import Engine
from tests.support.server import KEY, ServerProcess

EXAMPLES = Path(__file__).parents[3] / "examples" / "engine"


@pytest.fixture
def word() -> str:
    """A word that no other test uses."""
    return f"w{uuid.uuid4().hex}"


def ok(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def refused(response: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    body = response.json()
    assert (response.status_code, body["error"], body.get("details", {}).get("field")) == (status, code, field), body


def write(engine: Engine, store: str = "knowledge", status: int = 201, **fields: Any) -> dict[str, Any]:
    written: dict[str, Any] = ok(engine.post(f"/memory/{store}", fields), status)
    return written


def search(engine: Engine, query: str, store: str = "knowledge", **fields: Any) -> list[Any]:
    found: list[Any] = ok(engine.post(f"/memory/{store}/search", {"query": query, **fields}))
    return found


def test_what_is_written_is_found_with_its_score(engine: Engine, word: str) -> None:
    item = write(engine, id=word, subject="billing", content=f"The Café {word} pays on the 5th.", type="rule")

    (hit,) = search(engine, f"cafe {word}")

    assert 0 < hit.pop("score") < 1
    assert hit == item
    assert item["source"].startswith("api:")
    assert (item["valid_from"], item["valid_until"], item["type"]) == (None, None, "rule")


@pytest.mark.parametrize("query", ['"{}"', "{} OR *", "NEAR({} zz)", "-{}", "words:{}", "'{}'; --", "{}\u0301", "* {}"])
def test_a_query_has_no_syntax(engine: Engine, word: str, query: str) -> None:
    write(engine, content=f"x {word}")

    assert len(search(engine, query.format(word))) == 1
    assert search(engine, f"{word[:8]}*") == []


def test_writing_again_replaces(engine: Engine, word: str) -> None:
    first = write(engine, id=word, content=f"{word} before")
    second = write(engine, status=200, id=word, content=f"{word} after", confidence=0.5, source="me")

    (hit,) = search(engine, word)

    assert (hit["content"], hit["source"]) == (f"{word} after", "me")
    assert hit["confidence"] == 0.5
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]


def test_deleting_forgets(engine: Engine, word: str) -> None:
    write(engine, id=word, content=word)

    assert ok(engine.client.delete(f"/memory/knowledge/{word}")) == {"status": "deleted", "id": word}

    assert search(engine, word) == []
    refused(engine.client.get(f"/memory/knowledge/{word}"), 404, "ITEM_NOT_FOUND")
    refused(engine.client.delete(f"/memory/knowledge/{word}"), 404, "ITEM_NOT_FOUND")


def test_an_id_may_have_a_slash(engine: Engine, word: str) -> None:
    write(engine, id=f"{word}/ä ö", content="x")

    assert ok(engine.client.get(f"/memory/knowledge/{word}%2F%C3%A4%20%C3%B6"))["id"] == f"{word}/ä ö"


def test_validity_and_decay(engine: Engine, word: str) -> None:
    write(engine, content=word, valid_until="2020-01-01T00:00:00+01:00")
    write(engine, content=word, valid_from="2999-01-01T00:00:00Z")
    kept = write(engine, content=word, valid_from="2020-01-01T00:00:00Z")

    assert [hit["id"] for hit in search(engine, word)] == [kept["id"]]
    assert kept["valid_from"] == "2020-01-01T00:00:00.000000Z"

    before = (datetime.now(UTC) - timedelta(days=360)).isoformat()
    given = [{"id": f"{word}-old", "content": f"old{word}", "confidence": 0.8, "updated_at": before}]
    ok(engine.post("/memory/import", {"format": "holdfast-memory", "version": 1, "knowledge": given}))
    assert search(engine, f"old{word}")[0]["confidence"] == pytest.approx(0.2, abs=0.001)


def test_a_limit_cuts_and_lists_have_pages(engine: Engine, word: str) -> None:
    ids = [write(engine, content=word)["id"] for _ in range(3)]

    assert len(search(engine, word, limit=2)) == 2
    page = ok(engine.client.get("/memory/knowledge", params={"limit": 2}))
    rest = ok(engine.client.get("/memory/knowledge", params={"limit": 2, "cursor": page["next_cursor"]}))
    assert [item["id"] for item in (*page["items"], *rest["items"])][:3] == ids[::-1]


def test_episodes_and_social(engine: Engine, word: str) -> None:
    episode = write(
        engine, "episodes", key="k", description="met", value={"who": word}, occurred_at="2020-01-01T00:00:00Z"
    )
    assert [hit["id"] for hit in search(engine, word, "episodes")] == [episode["id"]]
    assert episode["occurred_at"] == "2020-01-01T00:00:00.000000Z"
    assert episode["task_id"] is None

    write(engine, "social", id=f"{word}1", kind="node", name=f"Anna {word}", type="person")
    write(engine, "social", id=f"{word}2", kind="node", name="Café", attributes={"town": word})
    edge: dict[str, Any] = {"kind": "edge", "from": f"{word}1", "to": f"{word}2", "relation": "keeps the books of"}
    written = write(engine, "social", **edge)
    assert {name: written[name] for name in edge} == edge
    refused(engine.post("/memory/social", {**edge, "to": "nobody"}), 404, "ITEM_NOT_FOUND", "to")
    assert {hit["id"] for hit in search(engine, word, "social")} == {f"{word}1", f"{word}2"}

    ok(engine.client.delete(f"/memory/social/{word}2"))
    refused(engine.client.get(f"/memory/social/{written['id']}"), 404, "ITEM_NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/memory/knowledge/search", {}, "query"),
        ("/memory/knowledge/search", {"query": ""}, "query"),
        ("/memory/knowledge/search", {"query": "x" * 1001}, "query"),
        ("/memory/knowledge/search", {"query": "x", "limit": 0}, "limit"),
        ("/memory/knowledge/search", {"query": "x", "limit": 101}, "limit"),
        ("/memory/knowledge/search", {"query": "x", "limit": True}, "limit"),
        ("/memory/knowledge/search", {"query": "x", "mode": 1}, "mode"),
        ("/memory/knowledge", {"subject": "x"}, "content"),
        ("/memory/knowledge", {"content": 5}, "content"),
        ("/memory/knowledge", {"content": "x", "confidence": 1.5}, "confidence"),
        ("/memory/knowledge", {"content": "x", "confidence": True}, "confidence"),
        ("/memory/knowledge", {"content": "x", "valid_from": "2020-01-01T00:00:00"}, "valid_from"),
        ("/memory/knowledge", {"content": "x", "valid_from": "2020-01-01T00:00:00Z", "valid_until": "2020-01-01T00:00:00Z"}, "valid_until"),
        ("/memory/knowledge", {"content": "x", "created_at": "2020-01-01T00:00:00Z"}, "created_at"),
        ("/memory/knowledge", {"content": "x", "id": "a\nb"}, "id"),
        ("/memory/episodes", {"key": "x"}, "description"),
        ("/memory/episodes", {"description": "x", "value": "x" * 300_000}, "value"),
        ("/memory/social", {"name": "x"}, "kind"),
        ("/memory/social", {"kind": "group", "name": "x"}, "kind"),
        ("/memory/social", {"kind": "node"}, "name"),
        ("/memory/social", {"kind": "node", "name": "x", "from": "y"}, "from"),
        ("/memory/social", {"kind": "edge", "from": "x", "to": "y"}, "relation"),
        ("/memory/import", {"format": "other", "version": 1}, "format"),
        ("/memory/import", {"format": "holdfast-memory", "version": 2}, "version"),
        ("/memory/import", {"version": 1}, "format"),
        ("/memory/import", {"format": "holdfast-memory", "version": 1, "knowledge": {}}, "knowledge"),
        ("/memory/import", {"format": "holdfast-memory", "version": 1, "knowledge": [{"id": "x"}]}, "knowledge[0].content"),
        ("/memory/import", {"format": "holdfast-memory", "version": 1, "knowledge": [{"content": "x"}]}, "knowledge[0].id"),
        ("/memory/import", {"format": "holdfast-memory", "version": 1, "soul": {"identity": 5}}, "soul.identity"),
        ("/feedback", {"feedback_type": "positive"}, "task_id"),
        ("/feedback", {"task_id": "x"}, "feedback_type"),
        ("/feedback", {"task_id": "x", "feedback_type": "good"}, "feedback_type"),
        ("/feedback", {"task_id": "x", "feedback_type": "correction", "comment": "x"}, "correction"),
        ("/feedback", {"task_id": "x", "feedback_type": "preference"}, "comment"),
        ("/feedback", {"task_id": "x", "feedback_type": "rating"}, "score"),
        ("/feedback", {"task_id": "x", "feedback_type": "rating", "score": 6}, "score"),
        ("/feedback", {"task_id": "x", "feedback_type": "rating", "score": 1.5}, "score"),
        ("/feedback", {"task_id": "x", "feedback_type": "positive", "score": 5}, "score"),
        ("/feedback", {"task_id": "x", "feedback_type": "positive", "metadata": []}, "metadata"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(engine: Engine, path: str, body: dict[str, Any], field: str) -> None:
    refused(engine.post(path, body), 422, "INVALID_REQUEST", field)


def test_other_stores_and_methods_do_not_exist(engine: Engine) -> None:
    refused(engine.post("/memory/feedback/search", {"query": "x"}), 404, "NOT_FOUND")
    refused(engine.client.get("/memory/skills"), 404, "NOT_FOUND")
    assert engine.client.delete("/memory/soul").status_code == 405


def test_the_soul_has_a_history(engine: Engine, word: str) -> None:
    before = ok(engine.client.get("/memory/soul/full"))

    changed = ok(engine.client.put("/memory/soul", json={"identity": word, "values": ["care"]}))
    again = ok(engine.client.put("/memory/soul", json={"identity": word}))

    full = ok(engine.client.get("/memory/soul/full"))
    assert changed == again == ok(engine.client.get("/memory/soul"))
    assert (changed["identity"], changed["values"]) == (word, ["care"])
    assert full["metadata"]["version"] == before["metadata"]["version"] + 1
    newest = full["history"][0]
    assert newest["before"] == {name: before[name] for name in ("identity", "values", "patterns")}
    assert newest["at"] == full["metadata"]["updated_at"]
    refused(engine.client.put("/memory/soul", json={"name": "x"}), 422, "INVALID_REQUEST", "name")


def test_an_export_can_be_imported_again_and_again(engine: Engine, word: str) -> None:
    write(engine, id=word, content=f"{word} kept", confidence=0.5)
    write(engine, "social", id=f"{word}1", kind="node", name=word)
    edge: dict[str, Any] = {"kind": "edge", "from": f"{word}1", "to": f"{word}1", "relation": "is"}
    write(engine, "social", id=f"{word}0", **edge)
    ok(engine.client.put("/memory/soul", json={"identity": word}))
    exported = ok(engine.client.get("/memory/export"))
    total = {store: len(exported[store]) for store in ("episodes", "knowledge", "social", "skills", "feedback")}

    ok(engine.client.delete(f"/memory/knowledge/{word}"))
    write(engine, "social", status=200, id=f"{word}1", kind="node", name=f"newer {word}")
    counts = ok(engine.post("/memory/import", exported))["counts"]
    again = ok(engine.post("/memory/import", exported))["counts"]

    assert counts["knowledge"] == {"added": 1, "updated": 0, "unchanged": total["knowledge"] - 1}
    assert counts["social"] == {"added": 0, "updated": 0, "unchanged": total["social"]}
    assert again == {
        **{store: {"added": 0, "updated": 0, "unchanged": count} for store, count in total.items()},
        "soul": {"added": 0, "updated": 0, "unchanged": 1},
    }
    repeated = ok(engine.client.get("/memory/export"))
    assert repeated["knowledge"] == exported["knowledge"]
    (hit,) = search(engine, f"{word} kept")
    assert hit["content"] == f"{word} kept"
    assert search(engine, word, "social")[0]["name"] == f"newer {word}"


def test_an_idempotency_key_writes_once(engine: Engine, word: str) -> None:
    first = engine.post("/memory/knowledge", {"content": word}, **{"Idempotency-Key": word})
    second = engine.post("/memory/knowledge", {"content": word}, **{"Idempotency-Key": word})

    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["idempotency-replayed"] == "true"
    assert len(search(engine, word)) == 1


def test_feedback_is_kept_and_a_correction_is_known_at_once(engine: Engine, task_id: str, word: str) -> None:
    first, second = engine.execute("x", task_id), engine.execute("y", task_id)
    base = {"task_id": task_id}

    def give(kind: str, **fields: Any) -> str:
        answer = ok(engine.post("/feedback", {**base, "feedback_type": kind, **fields}), 201)
        assert answer["status"] == "recorded"
        return str(answer["id"])

    ids = [
        give("positive"),
        give("negative", turn_id=first[0].data["turn_id"], comment="no"),
        give("rating", score=4, message_id=first[0].data["user_message_id"]),
        give("correction", correction=f"it is {word} corrected"),
        give("preference", comment=f"I like {word} preferred", metadata={"a": 1}),
    ]

    listed = ok(engine.client.get("/feedback", params={"task_id": task_id}))
    assert [item["id"] for item in listed["feedback"]] == ids[::-1]
    turns = [item["turn_id"] for item in listed["feedback"]]
    first_turn, last_turn = first[0].data["turn_id"], second[0].data["turn_id"]
    assert turns == [last_turn, last_turn, first_turn, first_turn, last_turn]
    (corrected,), (preferred,) = (
        search(engine, "corrected " + word, limit=1),
        search(engine, "preferred " + word, limit=1),
    )
    assert (corrected["type"], corrected["source"]) == ("correction", f"feedback:{ids[3]}")
    assert (preferred["type"], preferred["content"]) == ("preference", f"I like {word} preferred")


def test_feedback_must_be_of_the_task(engine: Engine, task_id: str) -> None:
    turn = engine.execute("x", task_id)
    other = engine.execute("x", f"{task_id}2")
    base = {"task_id": task_id, "feedback_type": "positive"}

    refused(engine.post("/feedback", {**base, "task_id": "unknown"}), 404, "TASK_NOT_FOUND")
    refused(engine.post("/feedback", {**base, "turn_id": other[0].data["turn_id"]}), 404, "TURN_NOT_FOUND")
    refused(
        engine.post("/feedback", {**base, "message_id": other[0].data["user_message_id"]}), 404, "MESSAGE_NOT_FOUND"
    )
    assert ok(engine.client.get("/feedback", params={"task_id": task_id}))["feedback"] == []
    assert turn


def test_the_calls_of_the_example_client(server: ServerProcess, engine: Engine, task_id: str, word: str) -> None:
    """Each gives the type that the documented shape of a client declares."""
    client = runpy.run_path(str(EXAMPLES / "resilient.py"))["EngineClient"](server.url, KEY)
    with contextlib.closing(client):
        events = list(client.execute("x", task_id))
        recorded = client.feedback(task_id, "correction", correction=word, metadata={"from": "a test"})
        found = client.memory_search("knowledge", word, limit=5)

        assert events[-1]["phase"] == "completed"
        assert recorded["status"] == "recorded"
        assert [item["content"] for item in found] == [word]
        assert client.memory_search("social", word) == []
        assert client.health()["status"] == "ok"
        assert [event["sequence"] for event in client.replay(task_id)] == [event["sequence"] for event in events]


ROLES = {
    ("POST", "/memory/knowledge/search"): "reader",
    ("POST", "/memory/knowledge"): "executor",
    ("GET", "/memory/knowledge"): "reader",
    ("DELETE", "/memory/knowledge/x"): "operator",
    ("PUT", "/memory/soul"): "operator",
    ("GET", "/memory/export"): "operator",
    ("POST", "/memory/import"): "operator",
    ("POST", "/feedback"): "executor",
}


def test_roles_and_tenants(server: ServerProcess, engine: Engine, word: str) -> None:
    """A key with one role too low is refused; one of another tenant sees and changes nothing."""
    keys = {}
    for role, tenant in (("reader", "default"), ("executor", "default"), ("operator", "other")):
        name = f"{role}-{word}"
        made = ok(engine.post("/_holdfast/keys", {"name": name, "role": role, "tenant": tenant}), 201)
        keys[role] = made["key"]
    lower = {"executor": "reader", "operator": "executor"}
    for (method, path), role in ROLES.items():
        if role in lower:
            with server.client(keys[lower[role]]) as client:
                answer = client.request(method, path, json={} if method in ("POST", "PUT") else None)
            assert (answer.status_code, answer.json()["details"]["needed"]) == (403, role), (method, path)
    write(engine, id=word, content=word)
    with server.client(keys["operator"]) as client:
        other = Engine(client)
        assert search(other, word) == []
        assert ok(client.get("/memory/knowledge"))["items"] == []
        refused(client.get(f"/memory/knowledge/{word}"), 404, "ITEM_NOT_FOUND")
        refused(client.delete(f"/memory/knowledge/{word}"), 404, "ITEM_NOT_FOUND")
        assert ok(client.get("/memory/export"))["knowledge"] == []
        assert ok(client.get("/memory/soul"))["identity"] == ""
        ok(client.get("/feedback"))
    with server.client(keys["reader"]) as client:
        assert len(search(Engine(client), word)) == 1
