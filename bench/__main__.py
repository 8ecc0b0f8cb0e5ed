"""`python -m bench`: measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bench import clients, memory, postgres, runtime, skill_files, skills, sockets, workflow
from bench import rows as sqlite
from bench.rows import Row

ROWS = {
    **sqlite.ROWS,
    **postgres.ROWS,
    **runtime.ROWS,
    **sockets.ROWS,
    **memory.ROWS,
    **workflow.ROWS,
    **skills.ROWS,
    **skill_files.ROWS,
    **clients.ROWS,
}


async def measure(names: list[str]) -> list[Row]:
    """All rows of these benchmarks, in order."""
    rows: list[Row] = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
            Console(stderr=True).print(f"{name}: {ROWS[name].__doc__}")
            (Path(directory) / "floor.bin").write_bytes(b"\n")
            rows += await ROWS[name](Path(directory))
    return rows


def show(rows: list[Row]) -> None:
    """The table for people."""
    table = Table(title="Holdfast beside the floor of the same run")
    for heading in ("", "what", "value", "floor", "ratio", "target", ""):
        table.add_column(heading, justify="right" if heading in ("value", "floor", "ratio") else "left")
    for item in rows:
        digits = ",.0f" if item["value"] >= 1000 else ",.2f"
        base = "" if item["floor"] is None else format(item["floor"], digits)
        ratio = "" if item["ratio"] is None else f"{item['ratio']:.2f}"
        value = f"{item['value']:{digits}} {item['unit']}"
        mark = {True: "ok", False: "[red]missed[/red]", None: "not decided"}[item["ok"]]
        table.add_row(item["name"], item["what"], value, base, ratio, item["target"], mark)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(ROWS), help="comma list of " + ", ".join(ROWS) + " (B4 is in B1)")
    parser.add_argument("--json", default="bench/results/latest.json", help="where to write the rows")
    arguments = parser.parse_args()
    rows = uvloop.run(measure(arguments.only.split(",")))
    show(rows)
    target = Path(arguments.json)
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    target.write_text(json.dumps({"at": at, **machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
