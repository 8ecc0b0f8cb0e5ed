"""
A database that a test has used, made as new again.

Copying the template and dropping the copy takes Postgres 0.4 s, for both end in checkpoints; emptying what a test has
filled takes a twentieth of that. What a test may have changed besides rows is looked at: a database whose schema or
settings are not those of the template is not renewed, and its user drops it. The clock of leases, which many tests
hold, is put back.
"""

from __future__ import annotations

from typing import Final

import asyncpg
import msgspec

# Everything that is not a row of a table: names, columns, functions, constraints, triggers, indexes, settings. Rows of the
# catalogue have the same ids in every copy of the template; statistics and places of files are left out, for they change by themselves.
_SCHEMA: Final = """
SELECT md5(concat_ws('|',
    (SELECT string_agg(n::text, ',' ORDER BY n.oid) FROM pg_namespace n WHERE nspname !~ '^pg_'),
    (SELECT string_agg(concat_ws(',', c.oid, relname, relkind, relpersistence, reloptions, relacl), ';' ORDER BY c.oid)
     FROM pg_class c WHERE c.oid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_'),
    (SELECT string_agg(a::text, ',' ORDER BY attrelid, attnum)
     FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
     WHERE attrelid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_'),
    (SELECT string_agg(d::text, ',' ORDER BY d.oid) FROM pg_attrdef d),
    (SELECT string_agg(p::text, ',' ORDER BY p.oid) FROM pg_proc p WHERE p.oid >= 16384),
    (SELECT string_agg(k::text, ',' ORDER BY k.oid) FROM pg_constraint k WHERE k.oid >= 16384),
    (SELECT string_agg(t::text, ',' ORDER BY t.oid) FROM pg_trigger t),
    (SELECT string_agg(i::text, ',' ORDER BY indexrelid) FROM pg_index i WHERE indexrelid >= 16384),
    (SELECT string_agg(e::text, ',' ORDER BY e.oid) FROM pg_extension e),
    (SELECT string_agg(setconfig::text, ',') FROM pg_db_role_setting
     WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
))
"""

_LEASE_CLOCK: Final = "SELECT pg_get_functiondef('holdfast.lease_clock'::regproc)"

_OTHERS: Final = """
SELECT bool_and(pg_terminate_backend(pid, 20000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

_TABLES: Final = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'holdfast'"
_SEQUENCES: Final = """
SELECT setval(format('%I.%I', schemaname, sequencename), start_value, false) FROM pg_sequences
WHERE schemaname = 'holdfast' AND last_value IS NOT NULL
"""
_META: Final = "SELECT key, value FROM holdfast.meta ORDER BY key"


class Template(msgspec.Struct, frozen=True):
    """What a new database has: the schema by its hash, the clock of leases as it is made, the rows of `meta`."""

    schema: str
    lease_clock: str
    meta: list[tuple[str, str]]


async def template_at(url: str) -> Template:
    """How this database is, from which others are copied."""
    connection = await asyncpg.connect(url)
    try:
        return Template(
            schema=await connection.fetchval(_SCHEMA),
            lease_clock=await connection.fetchval(_LEASE_CLOCK),
            meta=[tuple(row) for row in await connection.fetch(_META)],
        )
    finally:
        await connection.close()


async def is_renewed(url: str, template: Template) -> bool:
    """End all other connections, and make the database what its template is; False if it is of no use any more."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval(_OTHERS) is False:
            return False
        if await connection.fetchval(_LEASE_CLOCK) != template.lease_clock:
            await connection.execute(template.lease_clock)
        if await connection.fetchval(_SCHEMA) != template.schema:
            return False
        async with connection.transaction():
            await _empty(connection, template)
        return True
    finally:
        await connection.close()


async def _empty(connection: asyncpg.Connection[asyncpg.Record], template: Template) -> None:
    tables = [f"holdfast.{row[0]}" for row in await connection.fetch(_TABLES)]
    asked = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)
    filled = [row[0] for row in await connection.fetch(asked)]
    # Not TRUNCATE, which makes all files of a table anew: these rows are few. Keys that refer to others need no order then.
    await connection.execute("SET LOCAL session_replication_role = replica")
    await connection.execute(";".join(f"DELETE FROM {table}" for table in filled))
    await connection.executemany("INSERT INTO holdfast.meta (key, value) VALUES ($1, $2)", template.meta)
    await connection.fetch(_SEQUENCES)
