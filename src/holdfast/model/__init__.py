"""What the kernel speaks of, as frozen data. No I/O anywhere below."""

from holdfast.model.interrupt import Interrupt, Kind, Part
from holdfast.model.lifecycle import Restart, Status
from holdfast.model.record import Delivery, Record
from holdfast.model.run import (
    DEFAULT_TENANT,
    ApiKey,
    Cancel,
    Failure,
    File,
    Message,
    Run,
    Segment,
    Step,
    Thread,
)

__all__ = [
    "DEFAULT_TENANT",
    "ApiKey",
    "Cancel",
    "Delivery",
    "Failure",
    "File",
    "Interrupt",
    "Kind",
    "Message",
    "Part",
    "Record",
    "Restart",
    "Run",
    "Segment",
    "Status",
    "Step",
    "Thread",
]
