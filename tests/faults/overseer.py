"""A reader of everything: all tasks of the tenant in the order of time, at any server, its cursor is a timestamp."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from tests.support.recorder import KNOCK_SECONDS, Cut, Frame, Reading, Target


class Overseer(Reading):
    """
    Reads until it is cancelled, and keeps how far it got in each run. Each event has to come once, in order, however
    the commits of several servers overlap: who reads by time must not be shown one before all older ones.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target, "")
        self.sequences: dict[str, int] = {}  # by run
        self.taken = 0
        self._last_timestamp = 0.0
        self._erring: set[str] = set()  # runs whose `error` was read, and not yet its twin

    def request(self) -> tuple[str, dict[str, str]]:
        return f"/execute/replay?after={self._last_timestamp:.3f}", {}

    async def read(self) -> None:
        """A stream ends when the runs are over that were active when it began; another one goes on."""
        while not self.faults:
            await self.target.up.wait()
            with contextlib.suppress(Cut, OSError):
                await self.read_once()
            await asyncio.sleep(KNOCK_SECONDS)

    def take(self, frame: Frame) -> None:
        if frame.event == "heartbeat":
            return
        value = frame.json()
        if frame.event == "replay_gap":
            self.faults.append(f"behind {self._last_timestamp}: {frame.data.decode()}")
            return
        run_id, sequence = value["turn_id"], value["sequence"]
        # Two processes may give the same microsecond to events of two runs.
        if value["timestamp"] < self._last_timestamp:
            self.faults.append(f"timestamp {value['timestamp']} of {run_id} behind {self._last_timestamp}")
        last = self.sequences.get(run_id, -1)
        is_twin = frame.event == "thread_lifecycle" and run_id in self._erring
        if sequence != last + (0 if is_twin else 1):
            self.faults.append(f"{run_id}: sequence {sequence} behind {last}")
        if frame.event == "error":
            self._erring.add(run_id)
        self.sequences[run_id] = sequence
        self._last_timestamp = value["timestamp"]
        self.taken += 1

    def lacks(self, tails: Mapping[str, int]) -> list[str]:
        """The runs of which it was not shown everything, by the sequences in which they end."""
        return [
            f"{run_id} to {self.sequences.get(run_id, -1)} of {tail}"
            for run_id, tail in tails.items()
            if self.sequences.get(run_id, -1) != tail
        ]
