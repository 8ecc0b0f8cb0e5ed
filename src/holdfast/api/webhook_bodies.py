"""Which API makes the bodies of an endpoint's webhooks."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.api.skills.webhook_body import encode_skills_webhook
from holdfast.api.workflow.webhook_body import encode_webhook
from holdfast.model import Run
from holdfast.runs import Runs
from holdfast.webhooks.endpoint import SKILLS
from holdfast.webhooks.sender import Encoded


async def encode_for(runs: Runs, run: Run, sequence: int, shape: str) -> Sequence[Encoded]:
    """
    What an event of a run is told as to endpoints of this shape.

    Raises:
        JournalCorrupt, StoreUnavailable
    """
    if shape == SKILLS:
        return await encode_skills_webhook(runs, run, sequence)
    encoded = await encode_webhook(runs, run, sequence)
    return [] if encoded is None else [encoded]
