"""Append to journals, commit them, follow them."""

from holdfast.journal.chunk import Chunk, chain, chunk_of
from holdfast.journal.journal import Journal
from holdfast.journal.reader import END, GAP, ROLLED_BACK, WOKEN, Reader, Signal
from holdfast.journal.tail import Tail, Tails
from holdfast.journal.watch import Watcher
from holdfast.journal.writer import Writer

__all__ = [
    "END",
    "GAP",
    "ROLLED_BACK",
    "WOKEN",
    "Chunk",
    "Journal",
    "Reader",
    "Signal",
    "Tail",
    "Tails",
    "Watcher",
    "Writer",
    "chain",
    "chunk_of",
]
