"""What the assistant remembers of a tenant: items in stores, their search, its soul, working memory, feedback."""

from holdfast.memory.items import EXPORTED, STORES, Draft, shown_item
from holdfast.memory.meaning import Embedder
from holdfast.memory.memory import Memory, MemoryWrite, Merging, SoulVersion, version_of

__all__ = [
    "EXPORTED",
    "STORES",
    "Draft",
    "Embedder",
    "Memory",
    "MemoryWrite",
    "Merging",
    "SoulVersion",
    "shown_item",
    "version_of",
]
