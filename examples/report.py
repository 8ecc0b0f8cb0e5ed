"""
A report in plain sync code, which runs in a thread: steps, progress, events of its own, and a long loop that ends
when the run is cancelled.

    holdfast serve examples/report.py
"""

from typing import Any

from holdfast import SyncContext, agent


def load(rows: int) -> list[int]:
    """A real one would ask a database here, with any blocking library."""
    return [row * row for row in range(rows)]


@agent("report", restart="always")
def report(context: SyncContext, input: dict[str, Any]) -> dict[str, Any]:
    """Add up rows and tell the sum."""
    rows = context.step("load", load, input.get("rows", 10), attempts=3, side_effects=False)
    context.checkpoint("loaded", {"rows": len(rows)})
    total = 0
    for number, row in enumerate(rows, 1):
        if context.cancelled:
            break
        total += row
        context.progress(number / len(rows), f"row {number}")
    context.emit("chart", {"kind": "bar", "values": rows[-3:]})
    context.token(f"The sum of {len(rows)} rows is {total}.")
    return {"rows": len(rows), "sum": total}
