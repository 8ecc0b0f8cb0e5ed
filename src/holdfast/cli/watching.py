"""Following a run in the terminal: its text to stdout as it comes, everything else as short lines on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from holdfast.cli.access import live_server, open_access, settings_for
from holdfast.cli.answers import how_to_answer
from holdfast.cli.following import Follower
from holdfast.cli.screen import note, write

EXIT_CODES = {"complete": 0, "error": 1, "cancelled": 1}
VALUE_CHARACTERS_MAX = 120


def follow_run(run_id: str, *, after: str | None, as_json: bool, data: Path | None) -> int:
    """Show a run up to its end, or up to what is stored when no server executes it. The exit status comes back."""
    settings = settings_for(data)
    screen = Screen(run_id, as_json=as_json)
    if live_server(settings) is None:
        return _show_stored(run_id, screen, settings, after)
    follower = Follower(
        lambda: live_server(settings),
        run_id,
        after=after,
        on_drop=lambda _: screen.beside("connection lost; looking for the server …", "yellow"),
        on_resume=lambda cursor: screen.beside(f"connected again; going on behind event {cursor}", "yellow"),
    )
    try:
        for frame in follower.frames():
            screen.show(frame.data)
    except KeyboardInterrupt:
        cursor = "" if follower.cursor is None else f" --after {follower.cursor}"
        screen.beside(f"left; the run goes on. Back to it: holdfast runs follow {run_id}{cursor}")
        return 130
    return screen.exit_code


def _show_stored(run_id: str, screen: Screen, settings: Any, after: str | None) -> int:
    with open_access(settings) as access:
        run = access.run(run_id)
        for line in access.events(run_id, -1 if after is None else int(after.partition("@")[0])):  # type: ignore[attr-defined]
            screen.show(line)
    if run["completed_at"] is None:
        screen.beside(f"the run is {run['status']}, and no server runs; it goes on when one starts: holdfast serve")
    return screen.exit_code


class Screen:
    """Shows the events of one run, one after the other."""

    def __init__(self, run_id: str, *, as_json: bool = False) -> None:
        self.exit_code = 0
        self._run_id = run_id
        self._as_json = as_json
        self._is_in_text = False

    def show(self, data: str) -> None:
        """One event, as JSON."""
        event: dict[str, Any] = msgspec.json.decode(data)
        kind = event["type"]
        self.exit_code = EXIT_CODES.get(kind, self.exit_code)
        if self._as_json:
            write(f"{data}\n")
        elif kind == "token":
            write(event["content"])
            self._is_in_text = not event["content"].endswith("\n")
        else:
            text, style = described(event, self._run_id)
            if text:
                self.beside(text, style)

    def beside(self, text: str, style: str = "dim") -> None:
        """Something that is no text of the answer, on a line of its own."""
        if self._is_in_text and not self._as_json:
            write("\n")
            self._is_in_text = False
        note(text, style)


def described(event: dict[str, Any], run_id: str) -> tuple[str, str]:
    """An event in a few words, and the style that they are shown in; no words for what is not worth a line."""
    kind = event["type"]
    match kind:
        case "started":
            return f"started {event['run_id']} ({event['agent_name']}, attempt {event['attempt']})", "dim"
        case "thinking" | "usage" | "block_started" | "block_stopped":
            return "", ""
        case "complete":
            return f"completed in {event.get('latency_seconds', 0):.2f} s{_output(event)}", "green"
        case "error":
            return f"failed: {event.get('code')}: {event.get('error')}", "red"
        case "cancelled":
            reason = event.get("reason")
            return f"cancelled{f': {reason}' if reason else ''}", "magenta"
        case "restarted":
            return _restarted(event), "yellow"
        case "gap":
            first = event.get("first_sequence")
            return f"history is missing here ({event.get('reason')}); it goes on with event {first}", "yellow"
        case "interrupt":
            return f"waits: {event.get('question') or event.get('kind')}\n  {how_to_answer(run_id, event)}", "yellow"
        case "interrupt_resolved":
            return f"answered by {event.get('by')}: {_short(event.get('answer'))}", "dim"
        case "tool_call":
            return f"tool {event.get('tool')} {_short(event.get('input'))}", "dim"
        case "tool_result":
            return f"tool {event.get('tool')} → {_short(event.get('output', event.get('error')))}", "dim"
        case "progress":
            return f"{event.get('progress', 0):.0%} {event.get('message') or ''}".rstrip(), "dim"
        case _:
            return _any(event), "dim"


def _any(event: dict[str, Any]) -> str:
    own = {name: value for name, value in event.items() if name not in _FIXED}
    return f"{event['type']} {_short(own) if own else ''}".rstrip()


_FIXED = frozenset({"id", "type", "run_id", "sequence", "timestamp"})


def _restarted(event: dict[str, Any]) -> str:
    since = event.get("discard_from")
    again = "nothing is done again" if since is None else f"what came from event {since} on is done again"
    return f"restarted (attempt {event.get('attempt')}): {again}"


def _output(event: dict[str, Any]) -> str:
    # Text was shown as it came; anything else is shown here.
    output = event.get("output")
    return "" if output is None or isinstance(output, str) else f": {_short(output)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[: VALUE_CHARACTERS_MAX - 1]}…"
