"""Leases shorter than any setting allows, for tests in which a process dies many times and the next one has to wait."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.execution.worker import Worker, WorkerSettings


def shorten(seconds: float) -> None:
    """Let every worker of this process lease for so long, and look more often in proportion."""
    init = Worker.__init__

    def short(self: Worker, journal: Any, programs: Any, clock: Any, ids: Any, settings: WorkerSettings) -> None:
        settings = msgspec.structs.replace(
            settings, lease_seconds=seconds, renew_seconds=seconds / 4, scan_seconds=seconds / 4
        )
        init(self, journal, programs, clock, ids, settings)

    Worker.__init__ = short  # type: ignore[assignment, method-assign]  # that is the point
