"""Files that runs are given, as agent code sees them."""

from __future__ import annotations

import msgspec


class GivenFile(msgspec.Struct, frozen=True):
    """A file of a run: its name as the caller gave it, its media type, its bytes."""

    name: str
    media_type: str
    content: bytes
