"""What the assistant remembers of a tenant: items in stores, their search, its soul, working memory, feedback."""

from holdfast.memory.items import EXPORTED, STORES, Draft, shown_item
from holdfast.memory.meaning import Embedder
from holdfast.memory.memory import NO_SOUL, Memory, MemoryWrite, Merging, SoulVersion

__all__ = [
    "EXPORTED",
    "NO_SOUL",
    "STORES",
    "Draft",
    "Embedder",
    "Memory",
    "MemoryWrite",
    "Merging",
    "SoulVersion",
    "shown_item",
]
