"""`holdfast runs …`: what happened, what happens, and what is to be answered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.options import DataOption, JsonOption, RunArgument
from holdfast.cli.screen import CliError, note, out, print_facts, print_json, print_table

app = typer.Typer(
    help="List, show, follow, answer, cancel, export and verify runs.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

STATUSES = ("accepted", "running", "waiting", "completed", "failed", "cancelled")


@app.command("list", epilog="Example:  holdfast runs list --status waiting,running --limit 20")
def list_runs(
    status: Annotated[
        str | None, typer.Option(help=f"Only these, comma-separated: {', '.join(STATUSES)}.", show_default=False)
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent.", show_default=False)] = None,
    thread: Annotated[str | None, typer.Option(help="Only runs of this thread.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List runs, newest first."""
    from holdfast.cli.access import open_access, settings_for

    filters = {"status": _statuses(status), "agent": agent, "thread_id": thread}
    with open_access(settings_for(data)) as access:
        found = list(access.runs({name: value for name, value in filters.items() if value}, limit))
    if json:
        print_json(found)
    elif not found:
        note("no runs" + (" like that" if status or agent or thread else " yet"))
    else:
        columns = ("RUN", "STATUS", "AGENT", "EVENTS", "STARTED", "TOOK", "THREAD")
        print_table(columns, [_row(run) for run in found])


@app.command("show")
def show(run: RunArgument, json: JsonOption = False, data: DataOption = None) -> None:
    """Show one run: status, input, output, error, and what it waits for."""
    from holdfast.cli.access import open_access, settings_for

    with open_access(settings_for(data)) as access:
        found = access.run(run)
        pending = access.interrupts(run) if found["interrupts"] else []
    if json:
        print_json({**found, "pending": pending})
        return
    print_facts(_facts(found))
    for interrupt in pending:
        out().print()
        _print_pending(run, interrupt)


@app.command(
    "follow", epilog="The text goes to stdout, everything else to stderr:  holdfast runs follow RUN > answer.txt"
)
def follow(
    run: RunArgument,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Begin behind this event's sequence.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write the events as they are stored, one a line.")] = False,
    data: DataOption = None,
) -> None:
    """Follow a run from its first event to its end. A dropped connection or a server's restart is only a pause."""
    from holdfast.cli.watching import follow_run

    raise typer.Exit(follow_run(run, after=after, as_json=json, data=data))


@app.command("cancel")
def cancel(
    run: RunArgument,
    reason: Annotated[str | None, typer.Option(help="Kept with the run.", show_default=False)] = None,
    data: DataOption = None,
) -> None:
    """Cancel a run. It is over within five seconds, whatever its code does."""
    from holdfast.cli.access import open_access, settings_for

    with open_access(settings_for(data)) as access:
        receipt = access.cancel(run, reason)
    if receipt["status"] == "cancelled":
        out().print(f"{run} is cancelled", markup=False)
    else:
        out().print(f"{run} is being cancelled; it is {receipt['status']} now", markup=False)


@app.command(
    "answer",
    epilog="Examples:  holdfast runs answer RUN yes     holdfast runs answer RUN --json '{\"amount\": 12}'",
)
def answer(
    run: RunArgument,
    answer: Annotated[
        str, typer.Argument(metavar="ANSWER", help="Text; for an approval yes or no.", show_default=False)
    ],
    interrupt: Annotated[
        str | None, typer.Option(metavar="ID", help="Which question, if there are several.", show_default=False)
    ] = None,
    comment: Annotated[str | None, typer.Option("--note", help="A note with an approval.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="ANSWER is a JSON value.")] = False,
    data: DataOption = None,
) -> None:
    """Answer what a run waits for. The first answer counts; the same one again is fine."""
    from holdfast.cli.access import open_access, settings_for
    from holdfast.cli.answers import answer_to, choose

    with open_access(settings_for(data)) as access:
        chosen = choose(run, access.interrupts(run), interrupt)
        # One that is not pending any more is still named, so that the server can say what became of it.
        interrupt_id = interrupt or chosen["interrupt_id"]
        value = answer_to(chosen, answer, is_json=json, note=comment)
        access.answer(run, interrupt_id, value)
    out().print(f"answered {interrupt_id}", markup=False)
    if not access.is_live:
        note("No server runs; the run goes on when one starts: holdfast serve")


@app.command("export", epilog="Example:  holdfast runs export RUN -o run.ndjson; holdfast verify run.ndjson")
def export(
    run: RunArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file; else stdout.", show_default=False)
    ] = None,
    data: DataOption = None,
) -> None:
    """Write a run's journal, byte for byte as it is stored, with its hash chain."""
    from holdfast.cli.access import open_access, settings_for
    from holdfast.cli.files import write_new

    with open_access(settings_for(data)) as access:
        pieces = access.export(run)
        if output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            size = write_new(output, pieces)
            note(f"{output}: {size:,} bytes")


@app.command("verify")
def verify(run: RunArgument, data: DataOption = None) -> None:
    """Check a stored journal: every byte, by its hash chain. Exit status 0 if it is whole, 1 if not."""
    from holdfast.cli.access import open_access, settings_for

    with open_access(settings_for(data)) as access:
        found = access.verify(run)
    problem = None if found["ok"] else f"event {found.get('first_bad_sequence')} is the first that cannot be trusted"
    print_verified(found["run_id"], found["ok"], found["events"], found["segments"], found["hash"], problem)


def print_verified(run_id: str | None, ok: bool, events: int, segments: int, hash: str, problem: str | None) -> None:
    """Say what a check found; exit with 1 if the journal is not whole."""
    if not ok:
        raise CliError(f"the journal{f' of {run_id}' if run_id else ''} is damaged: {problem}")
    out().print(f"{run_id} is whole: {events:,} events in {segments:,} segments, hash {hash}", markup=False)


def _statuses(given: str | None) -> str | None:
    wanted = [item.strip() for item in (given or "").split(",") if item.strip()]
    unknown = [item for item in wanted if item not in STATUSES]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(STATUSES)}", param_hint="--status")
    return ",".join(wanted)


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    from holdfast.cli.times import local_time, took

    return (
        run["run_id"],
        run["status"],
        run["agent"],
        f"{run['tail_sequence'] + 1:,}",
        local_time(run["created_at"]),
        took(run["created_at"], run["completed_at"]),
        _thread(run),
    )


def _facts(run: dict[str, Any]) -> list[tuple[str, str]]:
    from holdfast.cli.times import local_time, took

    kept = "" if run["first_sequence"] == 0 else f", kept from event {run['first_sequence']} on"
    facts = [
        ("run", run["run_id"]),
        ("status", run["status"]),
        ("agent", run["agent"]),
        ("thread", _thread(run)),
        ("started", local_time(run["created_at"])),
        ("took", took(run["created_at"], run["completed_at"])),
        ("events", f"{run['tail_sequence'] + 1:,}{kept}"),
        ("attempt", str(run["attempt"])),
        ("input", _json_text(run.get("input"))),
        ("output", _json_text(run.get("output"))),
    ]
    if run.get("error"):
        facts.append(("error", f"{run['error']['code']}: {run['error']['message']}"))
    if run.get("cancel"):
        facts.append(("reason", run["cancel"].get("reason") or ""))
    return [(name, value) for name, value in facts if value]


def _thread(run: dict[str, Any]) -> str:
    """Empty for a run that stands alone: its thread is called as itself."""
    return str(run["thread_id"]) if run["thread_id"] != run["run_id"] else ""


def _json_text(value: Any) -> str:
    import msgspec

    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _print_pending(run_id: str, interrupt: dict[str, Any]) -> None:
    from holdfast.cli.answers import how_to_answer

    out().print(f"waits ({interrupt['kind']}): {interrupt['question'] or ''}", style="yellow", markup=False)
    hint = how_to_answer(run_id, interrupt)
    if hint:
        out().print(f"  {hint}", markup=False)
