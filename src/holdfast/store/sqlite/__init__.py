"""The embedded store, on SQLite."""

from holdfast.store.sqlite.store import SQLiteStore, mark_restored

__all__ = ["SQLiteStore", "mark_restored"]
