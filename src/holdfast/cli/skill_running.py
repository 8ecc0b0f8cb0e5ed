"""Running one skill from the command line: its frames as they come, its outputs at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
import typer

from holdfast.cli.access import ServerAt, live_server, settings_for
from holdfast.cli.child import ServerProcess
from holdfast.cli.following import FRAME_BYTES_MAX, SILENCE_SECONDS
from holdfast.cli.remote import client_of
from holdfast.cli.screen import CliError, note, print_json, write

if TYPE_CHECKING:
    import httpx2

START_SECONDS: Final = 60.0
_STYLES: Final = {"step_failed": "red", "step_degraded": "yellow", "safety_gate_warning": "yellow"}


def run_skill(skill_id: str, inputs: Sequence[str], whole: str | None, *, as_json: bool, data: Path | None) -> int:
    """
    Run a skill and show it; the exit status comes back.

    Raises:
        CliError: the skill cannot be run with these inputs, or the server is lost.
    """
    import httpx2

    with _server(data) as (server, is_ours), client_of(server, read_seconds=SILENCE_SECONDS) as client:
        shown = _Shown(client, as_json=as_json, is_ours=is_ours)
        try:
            given = _inputs(client, skill_id, inputs, whole)
            path = f"/v1/skills/{quote(skill_id, safe='')}/execute/stream"
            with client.stream("POST", path, json={"inputs": given}) as reply:
                _check(reply)
                for sent in httpx2.EventSource(reply, max_event_size=FRAME_BYTES_MAX):
                    if sent.data and shown.show(sent.data):
                        return shown.status
        except (httpx2.TransportError, httpx2.StreamError) as error:
            raise CliError(
                f"the server at {server.url} is lost: {str(error) or type(error).__name__}{shown.hint()}"
            ) from None
    raise CliError(f"the stream ended before the run did{shown.hint()}")


@contextmanager
def _server(data: Path | None) -> Iterator[tuple[ServerAt, bool]]:
    """The server that runs, or one of our own, for as long as it is needed."""
    settings = settings_for(data)
    found = live_server(settings)
    if found is not None:
        yield found, False
        return
    with TemporaryDirectory(prefix="holdfast-") as folder:
        note("No server runs on this data directory, so one is started for this run.", "dim")
        # A key of its own, known to nobody: else a new store would make its first one, and nobody would be shown it.
        keys = ",".join([*settings.keys, token_urlsafe(32)])
        process = ServerProcess(
            ["--port", "0", "--data", settings.data],
            data=Path(settings.data),
            environment={**os.environ, "HOLDFAST_KEYS": keys},
            log=Path(folder) / "log",
        )
        try:
            yield process.wait_ready(START_SECONDS), True
        finally:
            process.stop(settings.drain_seconds)


class _Shown:
    """What is told of the frames of one run."""

    def __init__(self, client: httpx2.Client, *, as_json: bool, is_ours: bool) -> None:
        self.status = 0
        self._client = client
        self._as_json = as_json
        self._is_ours = is_ours
        self._run_id: str | None = None

    def hint(self) -> str:
        return "" if self._run_id is None else f"; the run goes on: holdfast runs follow {self._run_id}"

    def show(self, data: str) -> bool:
        """Tell one frame; whether that is all."""
        frame: dict[str, Any] = msgspec.json.decode(data)
        self._run_id = frame.get("run_id") or self._run_id
        if self._as_json:
            write(f"{data}\n")
        kind = frame["type"]
        if kind == "done":
            self._finish(frame)
            return True
        if kind == "token" and not self._as_json:
            note(str((frame["data"] or {}).get("content", "")))
        elif not self._as_json:
            note(_line(frame), _STYLES.get(kind, "dim"))
        return kind == "interrupt" and self._interrupted(frame)

    def _finish(self, frame: Mapping[str, Any]) -> None:
        self.status = 0 if frame.get("status") == "completed" else 1
        if not self._as_json and self.status == 0:
            print_json(frame["outputs"])

    def _interrupted(self, frame: Mapping[str, Any]) -> bool:
        """Ask on a terminal; elsewhere say how to answer, and wait if the server stays."""
        asked = frame["data"]
        if asked.get("kind") == "approval" and sys.stdin.isatty() and not self._as_json:
            verdict = "approve" if typer.confirm(asked.get("question") or "Go on?", err=True) else "deny"
            path = f"/v1/runs/{quote(str(self._run_id), safe='')}/{verdict}"
            _check(self._client.post(path, json={"interrupt_id": asked["interrupt_id"]}))
            return False
        note(f"The run waits. Answer it:  holdfast runs answer {self._run_id} yes|no", "yellow")
        if self._is_ours:
            note("It goes on when a server runs:  holdfast serve", "yellow")
            self.status = 1
        return self._is_ours


def _line(frame: Mapping[str, Any]) -> str:
    data = frame.get("data") or {}
    if frame["type"] == "step_failed":
        again = ", it is tried again" if data.get("will_retry") else ""
        return f"{frame['message']} {data.get('error', '')}{again}"
    if frame["type"] == "step_completed":
        return f"{frame['message']} ({data.get('duration_ms', 0):g} ms)"
    if frame["type"] == "interrupt":
        return str(data.get("question") or frame["message"])
    return str(frame["message"] or frame["type"])


def _inputs(client: httpx2.Client, skill_id: str, inputs: Sequence[str], whole: str | None) -> dict[str, Any]:
    """All inputs; those given one by one are text where the skill declares a string, else JSON."""
    found = _whole(whole) if whole is not None else {}
    if inputs:
        reply = client.get(f"/v1/skills/{quote(skill_id, safe='')}/describe")
        _check(reply)
        declared = reply.json()["inputs"]
        for item in inputs:
            name, equals, text = item.partition("=")
            if not equals:
                raise CliError(f"--input is NAME=VALUE, not {item!r}")
            found[name] = _value(name, text, declared.get(name, {}).get("type", "any"))
    return found


def _value(name: str, text: str, kind: str) -> Any:
    if kind == "string":
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        if kind in ("number", "integer", "boolean", "object", "array"):
            raise CliError(f"the input {name} is of type {kind}, so give it as JSON; {text!r} is none") from None
        return text


def _whole(text: str) -> dict[str, Any]:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"{text[1:]} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise CliError(f"--inputs is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise CliError("--inputs must be a JSON object")
    return found


def _check(reply: httpx2.Response) -> None:
    if not reply.is_error:
        return
    reply.read()
    try:
        message = reply.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"the server answered {reply.status_code}"
    raise CliError(str(message), status=reply.status_code)
