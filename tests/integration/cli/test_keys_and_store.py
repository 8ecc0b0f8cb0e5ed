"""`holdfast keys …` and `holdfast store …`, with a server and without one; and runs without a server."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest

from tests.integration.cli.commands import KEY, Server, holdfast, server_file, serving, succeeded

pytestmark = pytest.mark.slow


def status(server: Server, key: str) -> int:
    with server.client(key) as client:
        return client.get("/runs").status_code


def test_a_key_opens_at_once_and_is_refused_at_once_when_revoked(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        key = succeeded("keys", "add", "web", "--role", "reader", folder=tmp_path).strip()
        after_adding = status(server, key)
        succeeded("keys", "revoke", "web", folder=tmp_path)
        after_revoking = status(server, key)
        listed = json.loads(succeeded("keys", "list", "--json", folder=tmp_path))

    assert (after_adding, after_revoking) == (200, 401)
    assert [(row["name"], row["role"]) for row in listed] == [("web", "reader")]
    assert listed[0]["revoked_at"] is not None
    assert key not in server.stdout + server.stderr


def test_keys_are_made_before_the_first_start(tmp_path: Path) -> None:
    """So that a server that nobody watches never shows a key."""
    key = succeeded("keys", "add", "web", "--role", "admin", folder=tmp_path).strip()

    with serving(tmp_path, HOLDFAST_KEYS="") as server:
        assert status(server, key) == 200
        assert "API key" not in server.stdout


@pytest.mark.parametrize("live", [True, False])
def test_keys_that_cannot_be_are_refused_alike_with_and_without_a_server(tmp_path: Path, live: bool) -> None:
    with serving(tmp_path) as server:
        succeeded("keys", "add", "web", folder=tmp_path)
        if not live:
            server.stop()

        taken = holdfast("keys", "add", "web", folder=tmp_path)
        unknown = holdfast("keys", "revoke", "mobile", folder=tmp_path)
        no_role = holdfast("keys", "add", "other", "--role", "king", folder=tmp_path)

    assert [done.returncode for done in (taken, unknown, no_role)] == [1, 1, 1]
    assert "there is a key 'web' already" in taken.stderr
    assert unknown.stderr == "holdfast: no key 'mobile' is in force\n"
    assert "one of reader, executor, operator, admin" in no_role.stderr


@pytest.mark.parametrize(
    ("role", "tenant", "expected"),
    [("executor", "default", 403), ("operator", "default", 403), ("admin", "acme", 403), ("admin", "default", 200)],
)
def test_only_an_admin_of_the_default_tenant_handles_keys(
    server: Server, role: str, tenant: str, expected: int
) -> None:
    name = f"{role}-{tenant}-{expected}"
    with server.client() as admin:
        made = admin.post("/_holdfast/keys", json={"name": name, "role": role, "tenant": tenant})

    with server.client(made.json()["key"]) as client:
        assert client.get("/_holdfast/keys").status_code == expected
        assert client.post("/_holdfast/backup", json={}).status_code == (422 if expected == 200 else 403)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/_holdfast/keys?x=1", None, 422),
        ("GET", "/_holdfast/nothing", None, 404),
        ("PUT", "/_holdfast/keys", {}, 405),
        ("POST", "/_holdfast/keys", {"name": "a", "colour": "red"}, 422),
        ("POST", "/_holdfast/keys", {"name": 5}, 422),
        ("POST", "/_holdfast/keys", {"name": "two words"}, 422),
        ("POST", "/_holdfast/keys", {"name": "a", "role": "king"}, 422),
        ("POST", "/_holdfast/keys", [], 422),
        ("DELETE", "/_holdfast/keys/nobody", None, 404),
        ("POST", "/_holdfast/backup", {"target": "relative"}, 422),
        ("POST", "/_holdfast/backup", {"target": "/proc"}, 422),
        ("POST", "/_holdfast/backup", {"target": 5}, 422),
    ],
)
def test_the_side_door_refuses_what_does_not_fit(
    server: Server, method: str, path: str, body: object, expected: int
) -> None:
    with server.client() as client:
        reply = client.request(method, path, json=body) if body is not None else client.request(method, path)

    assert reply.status_code == expected, reply.text
    assert set(reply.json()) <= {"error", "message", "details"}


def test_a_backup_is_made_while_runs_go_on_and_put_into_place(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    with serving(tmp_path) as server:
        before = server.start_run("greeter")
        server.finished(before)
        waiting = server.start_run("walker", gate=str(tmp_path / "gate"))
        succeeded("store", "backup", "backup", folder=tmp_path)
        after = server.start_run("greeter")
        server.finished(after)

        running = holdfast("store", "restore", "backup", folder=tmp_path)
        server.stop()
        restored = holdfast("store", "restore", backup, folder=tmp_path)

    assert running.returncode == 1
    assert f"a server (pid {server.popen.pid}) runs on .holdfast; stop it first" in running.stderr
    assert restored.returncode == 0, restored.stderr
    assert [path.name for path in (tmp_path / ".holdfast").glob("before-restore-*/holdfast.db")] == ["holdfast.db"]
    (tmp_path / "gate").touch()
    with serving(tmp_path) as server:
        assert server.finished(before)["epoch"] == 1
        assert server.finished(waiting)["status"] == "completed"
        assert holdfast("runs", "show", after, folder=tmp_path).returncode == 1


def test_a_restore_of_something_else_changes_nothing(tmp_path: Path) -> None:
    succeeded("keys", "add", "web", folder=tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "holdfast.db").write_bytes(b"this is no database" * 100)

    for source in ("empty", "torn", ".holdfast"):
        done = holdfast("store", "restore", source, folder=tmp_path)
        assert done.returncode == 1, source
        assert done.stderr.startswith("holdfast: "), source

    assert "web" in succeeded("keys", "list", folder=tmp_path)
    assert not list((tmp_path / ".holdfast").glob("*restor*"))


def test_a_backup_does_not_go_where_something_is(tmp_path: Path) -> None:
    succeeded("keys", "add", "web", folder=tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()

    done = holdfast("store", "backup", "taken", folder=tmp_path)

    assert done.returncode == 1
    assert "exists already" in done.stderr


def test_without_a_server_runs_are_read_from_the_store(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        run_id = server.start_run("greeter", name="Ada")
        server.finished(run_id)
        live = {command: succeeded(*words, folder=tmp_path) for command, words in reads(run_id).items()}
        server.stop()

    offline = {command: succeeded(*words, folder=tmp_path) for command, words in reads(run_id).items()}

    assert without_framework(offline.pop("show")) == without_framework(live.pop("show"))
    assert offline == live


def reads(run_id: str) -> dict[str, tuple[str, ...]]:
    return {
        "list": ("runs", "list"),
        "show": ("runs", "show", run_id, "--json"),
        "follow": ("runs", "follow", run_id, "--json", "--after", "1"),
        "export": ("runs", "export", run_id),
    }


def without_framework(shown: str) -> dict[str, object]:
    run: dict[str, object] = json.loads(shown)
    run.pop("metadata")
    return run


def test_without_a_server_an_answer_is_kept_for_the_next_one(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        run_id = server.start_run("asker")
        server.finished(run_id)
        server.stop()
    said = holdfast("runs", "answer", run_id, "blue", folder=tmp_path)

    with serving(tmp_path) as server:
        server.until(lambda: len(server.finished(run_id)["interrupts"]) == 1)
        shown = succeeded("runs", "show", run_id, folder=tmp_path)

    assert said.returncode == 0, said.stderr
    assert "the run goes on when one starts" in said.stderr
    assert "Paint it blue?" in shown
    assert "thread" not in shown, "a run that stands alone has none to tell of"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_without_a_server_a_run_is_cancelled_for_good(tmp_path: Path, number: int) -> None:
    with serving(tmp_path, HOLDFAST_DRAIN_SECONDS="0") as server:
        run_id = server.start_run("walker", gate=str(tmp_path / "gate"))
        server.signal(number)
        server.wait()

    done = holdfast("runs", "cancel", run_id, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert '"status": "cancelled"' in succeeded("runs", "show", run_id, "--json", folder=tmp_path)


def test_without_a_server_following_ends_with_what_is_stored(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        run_id = server.start_run("asker")
        server.finished(run_id)
        server.stop()

    done = holdfast("runs", "follow", run_id, folder=tmp_path)

    assert done.returncode == 0
    assert "Which colour?" in done.stderr
    assert "no server runs; it goes on when one starts" in done.stderr


def test_where_there_is_neither_server_nor_store_nothing_is_made(tmp_path: Path) -> None:
    done = holdfast("runs", "list", folder=tmp_path)

    assert done.returncode == 1
    assert "there is no store in .holdfast" in done.stderr
    assert not (tmp_path / ".holdfast").exists()


def test_a_file_that_a_killed_server_left_behind_is_not_believed(tmp_path: Path) -> None:
    """Another program may listen on that port by now; it must not get in between, nor stop the command."""
    with serving(tmp_path) as server:
        server.start_run("greeter")
        server.kill()
    told = server_file(tmp_path)
    assert told is not None

    with serving(tmp_path / "other", "--port", str(httpx.URL(told["url"]).port), HOLDFAST_KEYS=KEY):
        listed = json.loads(succeeded("runs", "list", "--json", folder=tmp_path))

    assert [run["agent"] for run in listed] == ["greeter"]
