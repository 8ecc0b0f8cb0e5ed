"""
The demonstration: a run is read word by word, its server is killed hard in the middle of a line and started again,
and the reader goes on from its cursor. Then everything is counted, and compared with what the store holds.

Nothing is staged: the server is `holdfast serve` in a process of its own, killed by SIGKILL, and the reader is the one
of `holdfast runs follow`.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from holdfast.cli.access import ServerAt, read_server_file
from holdfast.cli.child import ServerProcess
from holdfast.cli.demo_agent import LEDGER_VARIABLE, LINES, words_of
from holdfast.cli.following import Follower, Frame
from holdfast.cli.remote import Remote, client_of, refusal
from holdfast.cli.screen import CliError, command, out, write

AGENT = "holdfast.cli.demo_agent"
READY_SECONDS = 30.0
# The kill comes when this many lines are recorded and this many words of the next one are out.
LINES_BEFORE_KILL = 3
WORDS_BEFORE_KILL = 7


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What the demonstration came to; each is a fact that was measured."""

    before: int  # events that the reader had when the server died
    after: int
    lost: int
    repeated: int
    is_same: bool  # a second reader gets the same bytes from the start
    is_chained: bool  # the hash chain of the stored journal is whole
    is_told: bool  # without what was declared void, the text is the whole story
    told_once: int  # lines whose step ran exactly once
    told_again: int
    away_seconds: float

    @property
    def hold(self) -> bool:
        """Whether everything that is promised was kept."""
        kept = self.is_same and self.is_chained and self.is_told
        return kept and not self.lost and not self.repeated and self.told_again <= 1 and self.after > 0


def demonstrate() -> bool:
    """Show it in the terminal; True if all that it shows was kept."""
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        stage = Stage(Path(folder))
        try:
            findings = stage.play()
        finally:
            stage.clear()
    _print_findings(findings)
    return findings.hold


class Stage:
    """A directory, a port, and the server that lives there at the moment."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._ledger = folder / "ledger"
        self._port = free_port()
        self._server: ServerProcess | None = None
        self._died_at = 0.0
        self._away_seconds = 0.0

    def play(self) -> Findings:
        """Run, kill, go on, count."""
        _say("[bold]1.[/bold] A server starts, and a run on it. The reader prints each word as it arrives.")
        at = self._start()
        run_id = _start_run(at)
        _say(f"[dim]   pid {at.pid}, {at.url}, run {run_id}[/dim]\n")
        seen, before = self._read(run_id)
        _say("\n[bold]4.[/bold] The run is over. Now everything is counted.\n")
        return self._find(run_id, seen, before)

    def clear(self) -> None:
        """Leave no process behind."""
        if self._server is not None:
            self._server.kill()

    def _start(self) -> ServerAt:
        # Nothing of the user's own settings may reach the stage, nor does a `.env` beside them.
        ours = {
            name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "ENGINE_", "LLM_"))
        }
        ours.pop("SQLITE_DB_PATH", None)
        self._server = ServerProcess(
            [AGENT, "--port", str(self._port), "--data", str(self._data)],
            data=self._data,
            environment={**ours, LEDGER_VARIABLE: str(self._ledger)},
            log=self._log,
            folder=self._data.parent,
        )
        return self._server.wait_ready(READY_SECONDS)

    def _read(self, run_id: str) -> tuple[list[Frame], int]:
        """Follow the run to its end, and kill the server on the way; how many events came before that."""
        follower = Follower(
            lambda: read_server_file(self._data), run_id, on_drop=self._on_drop, on_resume=self._on_resume
        )
        seen: list[Frame] = []
        before, lines, words = 0, 0, 0
        for frame in follower.frames():
            seen.append(frame)
            event = frame.event
            _show(event)
            lines += event["type"] == "step_completed" or event["type"] == "step"
            words = words + 1 if event["type"] == "token" else 0
            if not before and lines >= LINES_BEFORE_KILL and words >= WORDS_BEFORE_KILL:
                before = len(seen)
                self._kill()
        return seen, before

    def _kill(self) -> None:
        assert self._server is not None
        pid = self._server.pid
        self._server.kill()
        self._died_at = time.monotonic()
        _say(f"\n\n[bold]2.[/bold] [red]kill -9 {pid}[/red]: the server is gone, in the middle of a line.")

    def _on_drop(self, cursor: str | None) -> None:
        _say(f"   [dim]The reader's connection broke; its cursor is event {cursor}.[/dim]")
        at = self._start()
        _say(f"[bold]3.[/bold] A new server starts on the same directory: pid {at.pid}.")

    def _on_resume(self, cursor: str | None) -> None:
        self._away_seconds = time.monotonic() - self._died_at
        _say(f"   [dim]The reader is back after {self._away_seconds:.1f} s and goes on behind event {cursor}.[/dim]\n")

    def _find(self, run_id: str, seen: Sequence[Frame], before: int) -> Findings:
        at = read_server_file(self._data)
        if at is None:
            raise CliError("the server has gone")
        with Remote(at) as remote:
            is_chained = bool(remote.verify(run_id)["ok"])
        again = list(Follower(lambda: at, run_id).frames())
        events = [frame.event for frame in seen]
        numbers = Counter(event["sequence"] for event in events)
        told = Counter(self._ledger.read_text("ascii").split())
        return Findings(
            before=before,
            after=len(seen) - before,
            lost=len(set(range(len(again))) - numbers.keys()),
            repeated=sum(numbers.values()) - len(numbers),
            is_same=[frame.data for frame in again] == [frame.data for frame in seen],
            is_chained=is_chained,
            is_told=story_of(events) == "".join(piece for line in LINES for piece in words_of(line)),
            told_once=sum(count == 1 for count in told.values()),
            told_again=sum(count > 1 for count in told.values()),
            away_seconds=self._away_seconds,
        )


def story_of(events: Sequence[dict[str, Any]]) -> str:
    """The text of a run as its reader has it in the end: without what a restart declared void."""
    pieces: dict[int, str] = {}
    for event in events:
        if event["type"] == "token":
            pieces[event["sequence"]] = event["content"]
        elif event["type"] == "restarted":
            for first, last in event.get("discard") or ():
                pieces = {number: piece for number, piece in pieces.items() if not first <= number <= last}
    return "".join(pieces[number] for number in sorted(pieces))


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _start_run(at: ServerAt) -> str:
    with client_of(at) as client:
        reply = client.post("/runs", json={})
    if reply.is_error:
        raise refusal(reply)
    run_id: str = reply.json()["run_id"]
    return run_id


def _show(event: dict[str, Any]) -> None:
    if event["type"] == "token":
        write(event["content"])
    elif event["type"] == "restarted":
        _say(
            "[yellow]   The lines that were told are on record. The one that was cut off is void, and told again:[/yellow]\n"
        )


def _print_findings(found: Findings) -> None:
    checks = (
        (
            found.after > 0,
            f"{found.before} events before the kill, {found.after} after it; {found.away_seconds:.1f} s away",
        ),
        (not found.lost, f"{found.lost} events lost"),
        (not found.repeated, f"{found.repeated} events repeated"),
        (found.is_same, "a second reader gets the same bytes from the first event on"),
        (found.is_chained, "the hash chain of the journal is whole"),
        (
            found.told_again <= 1,
            f"{found.told_once} of {len(LINES)} steps ran once; {found.told_again} was cut off and ran again",
        ),
        (found.is_told, "the story is complete"),
    )
    for is_kept, text in checks:
        _say(f"   [green]✓[/green] {text}" if is_kept else f"   [red]✗ {text}[/red]")
    if found.hold:
        _say(f"\nYour own agent: [bold]{command()} dev agent.py[/bold]   The assistant: [bold]{command()} serve[/bold]")
    else:
        _say("\n[red]That should not be. Please report it.[/red]")


def _say(markup: str) -> None:
    out().print(markup, soft_wrap=True)
