"""The scale-out store, on Postgres."""

from holdfast.store.postgres.copying import PostgresEnd
from holdfast.store.postgres.schema import SchemaStatus, migrate, status
from holdfast.store.postgres.store import PostgresStore

__all__ = ["PostgresEnd", "PostgresStore", "SchemaStatus", "migrate", "status"]
