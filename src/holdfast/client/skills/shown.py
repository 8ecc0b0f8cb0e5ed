"""
What the steps at work have shown so far, so that a step which begins anew can be told to be void. No I/O.

A step that is tried again voids what it showed since its last `step_start`; where one item of a `foreach` is tried
again, only what is of that item. After a crash the server says itself what is void (`restarted`), and that is told once.
"""

from __future__ import annotations

Range = tuple[int, int]
Item = int | str | None


class ShownSteps:
    """Ranges of sequences, by step and item. Neighbours are one range, so a step that streams alone has a single one."""

    def __init__(self) -> None:
        self._ranges: dict[str, dict[Item, list[Range]]] = {}

    def add(self, step_id: str, item: Item, sequence: int) -> None:
        """The step showed this event."""
        ranges = self._ranges.setdefault(step_id, {}).setdefault(item, [])
        if ranges and ranges[-1][1] == sequence - 1:
            ranges[-1] = (ranges[-1][0], sequence)
        else:
            ranges.append((sequence, sequence))

    def take(self, step_id: str, item: Item) -> list[Range]:
        """What the step, or one item of it, showed; from now on it has shown nothing."""
        if item is not None:
            return self._ranges.get(step_id, {}).pop(item, [])
        return sorted(one for ranges in self._ranges.pop(step_id, {}).values() for one in ranges)

    def forget(self, first: int, last: int) -> None:
        """These events are known to be void."""
        for items in self._ranges.values():
            for item, ranges in items.items():
                items[item] = [left for one in ranges for left in _without(one, first, last)]


def _without(one: Range, first: int, last: int) -> list[Range]:
    """What is left of a range outside of another one."""
    before, behind = (one[0], min(one[1], first - 1)), (max(one[0], last + 1), one[1])
    if one[1] < first or one[0] > last:
        return [one]
    return [left for left in (before, behind) if left[0] <= left[1]]
