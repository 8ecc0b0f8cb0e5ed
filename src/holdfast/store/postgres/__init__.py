"""The scale-out store, on Postgres."""

from holdfast.store.postgres.connection import location_of
from holdfast.store.postgres.copying import PostgresEnd
from holdfast.store.postgres.schema import migrate, status
from holdfast.store.postgres.store import PostgresStore

__all__ = ["PostgresEnd", "PostgresStore", "location_of", "migrate", "status"]
