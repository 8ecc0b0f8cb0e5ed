"""
Connections to the database, and the driver's errors as ours. The only module that knows asyncpg.

Two things can go wrong with a call: the database refuses it, or the connection is lost and nobody knows. The second
kind is `is_lost`; whoever calls decides whether asking again is safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import asyncpg

from holdfast.errors import (
    HoldfastError,
    JournalCorrupt,
    MigrationRequired,
    StorageFull,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Record = asyncpg.Record

# A connection that broke while something was under way; it is of no use any more, also where it does not know that.
BrokenConnection: Final = asyncpg.InternalClientError
DriverError: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, BrokenConnection)

CONNECT_SECONDS: Final = 5.0

# Longer than any statement of ours takes; then the other end is taken for gone. Below the length of a lease, so that
# whoever holds one still has time to ask again.
CALL_SECONDS: Final = 5.0

# Server processes ask for their client in this time. Without it, locks of one that vanished are held for two hours.
# And all is found by its key: a plan that was made while a table was small must not read it whole when it is big.
SESSION: Final = {
    "application_name": "holdfast",
    "jit": "off",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
}

# Before it is promoted: the one that writes is about to move.
StandbyAnswers: Final = asyncpg.ReadOnlySQLTransactionError

# Raised by our procedures.
RACED: Final = "HF001"  # somebody was there at the same moment: look again
UNKNOWN_PROCESS: Final = "HF002"

_LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby answers: the one that writes has moved
    BrokenConnection,
)
# What a query of ours meets in a database that another version migrated, or that an older backup took the place of.
_OTHER_SCHEMA: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)

_AGAIN: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)

# A NUL cannot be kept as text by Postgres. It becomes ESC 0, and an ESC becomes ESC 1.
_ESC: Final = "\x1b"

# One or several, as libpq takes them.
_HOST: Final = r"(\[[0-9a-fA-F:.]+\]|[^:\[\],]*)(:\d+)?"
_HOSTS: Final = re.compile(f"{_HOST}(,{_HOST})*")

T = TypeVar("T")


class Connector:
    """Makes connections to one database."""

    def __init__(self, url: str, *, is_pooled: bool, call_seconds: float = CALL_SECONDS) -> None:
        self.url = url
        self.location = location_of(url)
        self.is_pooled = is_pooled
        self._call_seconds = call_seconds

    async def connect(self) -> Connection:
        """A connection; raises the driver's errors."""
        return await asyncpg.connect(self.url, **self._options())

    async def pool(
        self, size_max: int, *, on_connect: Callable[[Connection], Awaitable[None]]
    ) -> asyncpg.Pool[asyncpg.Record]:
        """A pool that connects when it is first used; `on_connect` is called with each connection before that."""

        async def prepare(connection: Any) -> None:
            await _prepare(connection)
            await on_connect(connection)

        async def leave(_: Any) -> None:
            """Our statements change nothing of a session, so there is nothing to reset."""

        pool: asyncpg.Pool[asyncpg.Record] = asyncpg.create_pool(
            self.url, min_size=0, max_size=size_max, init=prepare, reset=leave, **self._options()
        )
        return await pool

    async def prepared(self) -> Connection:
        """A connection on which our texts pass."""
        connection = await self.connect()
        try:
            await _prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    @contextlib.asynccontextmanager
    async def in_one_place(self, connection: Connection) -> AsyncIterator[None]:
        """Let all that is said inside reach the same session, also behind a pooler."""
        if not self.is_pooled:
            yield
            return
        async with connection.transaction():
            yield

    def _options(self) -> dict[str, Any]:
        if self.is_pooled:  # such a one knows no settings of sessions and no prepared statements
            return {"timeout": CONNECT_SECONDS, "command_timeout": self._call_seconds, "statement_cache_size": 0}
        return {
            "timeout": CONNECT_SECONDS,
            "command_timeout": self._call_seconds,
            "server_settings": SESSION,
            "max_cached_statement_lifetime": 0,
        }


async def _prepare(connection: Any) -> None:
    async with connection.transaction():
        await connection.set_type_codec(
            "text", schema="pg_catalog", encoder=kept_text, decoder=given_text, format="text"
        )


def kept_text(text: str) -> str:
    """A text as it is kept."""
    if "\x00" in text or _ESC in text:
        return text.replace(_ESC, "\x1b1").replace("\x00", "\x1b0")
    return text


def given_text(text: str) -> str:
    """A kept text as it was."""
    return text.replace("\x1b0", "\x00").replace("\x1b1", _ESC) if _ESC in text else text


# Errors


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke, so that it is unknown what became of the call."""
    if isinstance(error, asyncpg.InterfaceError):  # of any kind; the one for bad parameters is a ValueError too
        return "connection" in str(error) and not isinstance(error, ValueError)
    return isinstance(error, _LOST)


def is_pooler(error: BaseException) -> bool:
    """Whether a pooler answers, which knows no settings of sessions, where a database was expected."""
    return isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error)


def is_raced(error: BaseException) -> bool:
    """Whether nothing happened because somebody else was at the same place, and the next try may go through."""
    return isinstance(error, _AGAIN) or getattr(error, "sqlstate", None) == RACED


def is_forbidden(error: BaseException) -> bool:
    """Whether the user of the database may not do this."""
    return isinstance(error, asyncpg.InsufficientPrivilegeError)


def is_unknown_process(error: BaseException) -> bool:
    return getattr(error, "sqlstate", None) == UNKNOWN_PROCESS


def translate(error: BaseException, location: str) -> HoldfastError:
    """The driver's error as one of ours."""
    if isinstance(error, HoldfastError):
        return error
    if isinstance(error, asyncpg.DiskFullError):
        return StorageFull(f"{location}: the disk of the database is full; nothing was written")
    if isinstance(error, asyncpg.DataCorruptedError | asyncpg.IndexCorruptedError):
        return JournalCorrupt(f"{location}: {error}; restore a backup")
    if isinstance(error, _OTHER_SCHEMA):
        return MigrationRequired(f"{location}: {error}; its schema is not that of this version: restart the server")
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if is_lost(error):
        return StoreUnavailable(f"the database at {location} cannot be reached: {told}")
    if is_raced(error):
        return StoreUnavailable(f"{location}: {told}")
    return StoreError(f"{location}: {error}")


def translate_refusal(error: BaseException, location: str) -> HoldfastError:
    """As `translate`, for the first call: what will not pass by itself is a refusal."""
    refusals = (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.InsufficientPrivilegeError,
        asyncpg.ClientConfigurationError,
        ValueError,
    )
    if is_pooler(error):
        hint = "this is a pooler in transaction mode; set HOLDFAST_STORE_POOLED=true, or go to the database directly"
        return StoreRefused(f"{location}: {error}: {hint}")
    if isinstance(error, refusals):
        return StoreRefused(f"{location}: {error}")
    return translate(error, location)


# Asking again


class Backoff:
    """Pauses that grow, with some chance in them, until the time is over."""

    def __init__(self, seconds_max: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds_max
        self._pause = 0.02

    async def pause(self) -> bool:
        """Wait; False, at once, when the time is over."""
        left = self._deadline - self._loop.time()
        if left <= 0:
            return False
        await asyncio.sleep(min(self._pause * random.uniform(0.5, 1.0), left))
        self._pause = min(self._pause * 2, 1.0)
        return True


async def persist(call: Callable[[], Awaitable[T]], *, seconds_max: float, location: str) -> T:
    """
    Call, and call again after a lost connection; only for what may be done twice.

    Raises:
        StoreUnavailable: there was no answer in that time.
    """
    backoff = Backoff(seconds_max)
    while True:
        try:
            return await call()
        except (OSError, *DriverError) as error:
            if not (is_lost(error) or is_raced(error)) or not await backoff.pause():
                raise translate(error, location) from error


def location_of(url: str) -> str:
    """
    Where a database is, without secrets.

    Raises:
        StoreRefused: a password that is not written as URLs want it would be taken for something else, and be shown.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    user, _, hosts = parts.netloc.rpartition("@")
    if (
        "@" in user
        or not parts.scheme
        or not _HOSTS.fullmatch(hosts)
        or "@" in parts.path + parts.query + parts.fragment
    ):
        raise StoreRefused(
            "the URL of the store cannot be read; inside a user's name or password, letters such as / ? # @ : are "
            "written as %2F %3F %23 %40 %3A"
        )
    return f"postgresql://{hosts or 'localhost'}{parts.path}"
