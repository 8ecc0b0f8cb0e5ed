"""`holdfast runs …` at a running server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.cli.commands import Server, Started, holdfast, serving, succeeded

pytestmark = pytest.mark.slow


def test_runs_are_listed_newest_first_and_filtered(server: Server) -> None:
    first, second = server.start_run("greeter"), server.start_run("asker")
    server.finished(first), server.finished(second)

    table = succeeded("runs", "list", "--limit", "2", folder=server.folder)
    listed = json.loads(succeeded("runs", "list", "--json", folder=server.folder))
    waiting = json.loads(succeeded("runs", "list", "--status", "waiting", "--json", folder=server.folder))

    assert table.index(second) < table.index(first)
    assert [run["run_id"] for run in listed[:2]] == [second, first]
    assert {run["status"] for run in waiting} == {"waiting"}


def test_an_unknown_status_is_wrong_usage(server: Server) -> None:
    done = holdfast("runs", "list", "--status", "asleep", folder=server.folder)

    assert done.returncode == 2
    assert "asleep" in done.stderr


def test_a_run_is_shown_with_its_input_and_output(server: Server) -> None:
    run_id = server.start_run("greeter", name="Ada")
    server.finished(run_id)

    shown = succeeded("runs", "show", run_id, folder=server.folder)
    raw = json.loads(succeeded("runs", "show", run_id, "--json", folder=server.folder))

    assert "completed" in shown
    assert '"name": "Ada"' in shown
    assert raw["output"] == {"greeted": True}


def test_a_run_that_waits_is_shown_with_the_command_that_answers(server: Server) -> None:
    run_id = server.start_run("asker")
    server.finished(run_id)

    shown = succeeded("runs", "show", run_id, folder=server.folder)

    assert "Which colour?" in shown
    assert f"holdfast runs answer {run_id} red|blue" in shown


def test_an_unknown_run_is_one_plain_sentence(server: Server) -> None:
    done = holdfast("runs", "show", "nobody", folder=server.folder)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "holdfast: there is no run 'nobody'\n"


def test_following_writes_the_text_and_nothing_else_to_stdout(server: Server) -> None:
    run_id = server.start_run("greeter")

    done = holdfast("runs", "follow", run_id, folder=server.folder)

    assert (done.returncode, done.stdout) == (0, "Hello, dear reader.\n")
    assert "started" in done.stderr
    assert "completed in" in done.stderr


def test_following_begins_behind_a_cursor_and_ends_at_the_end(server: Server) -> None:
    run_id = server.start_run("greeter")
    tail = server.finished(run_id)["tail_sequence"]

    later = holdfast("runs", "follow", run_id, "--after", "2", folder=server.folder)
    nothing = holdfast("runs", "follow", run_id, "--after", tail, folder=server.folder)

    assert (later.returncode, later.stdout) == (0, "reader.\n")
    assert (nothing.returncode, nothing.stdout) == (0, "")


def test_following_as_json_gives_the_stored_bytes(server: Server) -> None:
    run_id = server.start_run("greeter")

    followed = succeeded("runs", "follow", run_id, "--json", folder=server.folder)
    exported = succeeded("runs", "export", run_id, folder=server.folder)

    stored = [line for line in exported.splitlines() if line.startswith('{"id"')]
    assert followed.splitlines() == stored


def test_a_run_goes_on_under_its_reader_when_the_server_is_killed(tmp_path: Path) -> None:
    """The cursor outlives the connection and the server, whatever port the next one has."""
    gate = tmp_path / "gate"
    with serving(tmp_path) as server:
        run_id = server.start_run("walker", gate=str(gate))
        reader = Started("runs", "follow", run_id, "--json", folder=tmp_path)
        try:
            reader.until(lambda: '"first "' in reader.stdout)
            server.kill()
            reader.until(lambda: "connection lost" in reader.stderr)
            with serving(tmp_path):
                gate.touch()
                assert reader.wait() == 0
        finally:
            reader.kill()

    events = [json.loads(line) for line in reader.stdout.splitlines()]
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "complete"
    assert "connected again; going on behind event" in reader.stderr


def test_questions_are_answered_one_after_the_other(server: Server) -> None:
    run_id = server.start_run("asker")
    server.finished(run_id)

    wrong = holdfast("runs", "answer", run_id, "green", folder=server.folder)
    succeeded("runs", "answer", run_id, "blue", folder=server.folder)
    server.finished(run_id)
    succeeded("runs", "answer", run_id, "yes", "--note", "nice", folder=server.folder)

    assert wrong.returncode == 1
    assert "'red', 'blue'" in wrong.stderr
    assert server.finished(run_id)["output"] == {"colour": "blue", "approved": True, "note": "nice"}


def test_a_second_answer_is_refused_with_the_first(server: Server) -> None:
    run_id = server.start_run("asker")
    interrupt_id = server.finished(run_id)["interrupts"][0]
    answer = ("runs", "answer", run_id, "--interrupt", interrupt_id)
    succeeded(*answer, "red", folder=server.folder)

    again = holdfast(*answer, "red", folder=server.folder)
    other = holdfast(*answer, "blue", folder=server.folder)

    assert (again.returncode, other.returncode) == (0, 1)
    assert "the answer is 'red', by caller" in other.stderr


def test_a_run_is_cancelled_once_and_following_it_fails(server: Server) -> None:
    run_id = server.start_run("walker", gate="/nowhere")

    said = succeeded("runs", "cancel", run_id, "--reason", "changed my mind", folder=server.folder)
    followed = holdfast("runs", "follow", run_id, folder=server.folder)

    assert said == f"{run_id} is cancelled\n"
    assert followed.returncode == 1
    assert "cancelled: changed my mind" in followed.stderr


def test_a_finished_run_cannot_be_cancelled(server: Server) -> None:
    run_id = server.start_run("greeter")
    server.finished(run_id)

    done = holdfast("runs", "cancel", run_id, folder=server.folder)

    assert done.returncode == 1
    assert "is completed" in done.stderr


def test_an_export_is_verified_and_a_changed_one_is_found(server: Server, tmp_path: Path) -> None:
    run_id = server.start_run("greeter")
    server.finished(run_id)
    file = tmp_path / "run.ndjson"

    succeeded("runs", "export", run_id, "-o", file, folder=server.folder)
    whole = holdfast("verify", file, folder=tmp_path)
    stored = holdfast("runs", "verify", run_id, folder=server.folder)
    file.write_bytes(file.read_bytes().replace(b"dear", b"deer"))
    changed = holdfast("verify", file, folder=tmp_path)

    assert whole.returncode == stored.returncode == 0
    assert whole.stdout == stored.stdout
    assert changed.returncode == 1
    assert "their bytes were changed" in changed.stderr


def test_an_export_does_not_replace_a_file(server: Server, tmp_path: Path) -> None:
    run_id = server.start_run("greeter")
    (tmp_path / "run.ndjson").write_text("mine")

    done = holdfast("runs", "export", run_id, "-o", tmp_path / "run.ndjson", folder=server.folder)

    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert (tmp_path / "run.ndjson").read_text() == "mine"


def test_an_export_is_verified_from_a_pipe(server: Server) -> None:
    run_id = server.start_run("greeter")
    server.finished(run_id)
    exported = succeeded("runs", "export", run_id, folder=server.folder)

    said = succeeded("verify", "-", folder=server.folder, stdin=exported)

    assert said.startswith(f"{run_id} is whole: 5 events in ")
