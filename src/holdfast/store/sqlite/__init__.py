"""The embedded store, on SQLite."""

from holdfast.store.sqlite.copying import SQLiteEnd
from holdfast.store.sqlite.schema import status
from holdfast.store.sqlite.store import SQLiteStore, mark_restored

__all__ = ["SQLiteEnd", "SQLiteStore", "mark_restored", "status"]
