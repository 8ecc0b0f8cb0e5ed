"""
Builds everything from settings and runs it: the only module that chooses a store.

Start: the port is bound, `/health` answers, then the store is opened, the worker begins, `server.json` is written.
Stop (SIGTERM or SIGINT): streams end, executing runs get their time to finish or to reach a step, what is pending is
committed, the store is closed. uvicorn by itself waits for open streams for ever, so the signals are ours.

A process may be one of several behind the same port (`Shared`), or have no port at all and only execute (`work`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
import uvicorn

from holdfast.access import Access
from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.registry import Registry, check_ids
from holdfast.agents.target import load_reference
from holdfast.api.http.app import build_app
from holdfast.api.http.auth import (
    DEVELOPMENT_KEY,
    Authenticator,
    Grant,
    create_first_key,
    declared_grants,
    environment_grants,
    key_hash,
)
from holdfast.api.http.bearers import Bearers
from holdfast.api.http.call import Services
from holdfast.api.http.door import Door
from holdfast.api.http.origins import Origins
from holdfast.api.http.protocol import LimitedProtocol
from holdfast.api.http.routing import Api
from holdfast.api.http.subscribers import Subscribers
from holdfast.api.webhook_bodies import encode_for
from holdfast.api.workflow.webhook_body import body_of_test
from holdfast.clock import Clock, SystemClock
from holdfast.equipping import Equipping
from holdfast.errors import StoreError
from holdfast.execution.neighbours import Neighbours
from holdfast.execution.worker import Worker, WorkerSettings
from holdfast.exporting import close_exporter, open_exporter
from holdfast.ids import RandomIds
from holdfast.journal import Journal
from holdfast.listening import bind, url_of
from holdfast.logs import configure_logging
from holdfast.rates import RateLimiter
from holdfast.runs import Caller, Runs
from holdfast.server_file import ServerFile
from holdfast.settings import InvalidSetting, Settings
from holdfast.shutdown import Shutdown
from holdfast.skilled import Skilled, http_allowed
from holdfast.store.base import Store, StoreInfo
from holdfast.webhooks import Webhooks
from holdfast.webhooks.guard import Allowed
from holdfast.webhooks.post import Poster
from holdfast.webhooks.signing import is_secret

if TYPE_CHECKING:
    from holdfast.execution.tracing import Tracing

log = structlog.get_logger(__name__)

EMBEDDED = "sqlite"
PRUNE_SECONDS = 3600.0
DAY_MICROSECONDS = 24 * 3600 * 1_000_000
# What uvicorn gives open requests once the worker has stopped; streams ended long before.
CLOSE_SECONDS = 1
KEEP_ALIVE_SECONDS = 30
BACKLOG = 2048
# With Python's 700, a server with a thousand runs spends an eighth of its time looking for cycles that are not there.
GC_THRESHOLDS = (50_000, 20, 50)


OPEN_TO_KEYS: Final = Access()
"""No Dockfile: whoever has a key of the settings or of the store may call."""


class Listening(msgspec.Struct, frozen=True):
    """What a server says once it answers. `first_key` is the plain text of a key that was made just now, else None."""

    url: str  # empty where there is no HTTP
    first_key: str | None
    location: str  # of the store, without secrets


class Shared(msgspec.Struct, frozen=True):
    """What the processes behind one port have in common. Whoever started them looks after `server.json`."""

    listener: socket.socket
    token: str  # of the CLI; any of them may get its calls


def serve(
    settings: Settings,
    programs: Registry,
    *,
    on_listening: Callable[[Listening], None] | None = None,
    shared: Shared | None = None,
    access: Access = OPEN_TO_KEYS,
) -> None:
    """
    Run a server until it is told to stop by SIGTERM or SIGINT. A second SIGINT ends the process at once.

    `on_listening` is called once everything is up.

    Raises:
        CannotListen, InvalidSetting
        StoreError: the store cannot be opened; it was left untouched.
    """
    if settings.no_worker:
        require_shared_store(settings, "no_worker", "a server that executes nothing")
    # What these refuse is told before the port opens.
    _allowed(settings)
    http_allowed(settings)
    listener = shared.listener if shared is not None else bind(settings)
    token = None if shared is None else shared.token
    _run(Server(settings, programs, listener, on_listening, token=token, access=access))


def work(settings: Settings, programs: Registry, *, on_ready: Callable[[Listening], None] | None = None) -> None:
    """
    Execute runs that other processes accepted, until SIGTERM or SIGINT. Nothing listens.

    Raises:
        InvalidSetting: the store belongs to one process alone.
        StoreError: the store cannot be opened; it was left untouched.
    """
    require_shared_store(settings, "store", "a worker of its own")
    _run(Server(msgspec.structs.replace(settings, no_worker=False), programs, None, on_ready))


def require_shared_store(settings: Settings, setting: str, what: str) -> None:
    """
    Raises:
        InvalidSetting: the store belongs to one process alone, so that there is nobody to share the work with.
    """
    if settings.is_embedded:
        raise InvalidSetting(
            f"{what} needs a Postgres store, for an embedded one belongs to exactly one process; name it with "
            "--store postgresql://… or HOLDFAST_STORE",
            setting,
        )


def _run(server: Server) -> None:
    configure_logging(server.settings)
    gc.set_threshold(*GC_THRESHOLDS)
    with contextlib.closing(server), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(server.run())


class Server:
    """One process: a server, or without a listener a worker."""

    def __init__(
        self,
        settings: Settings,
        programs: Registry,
        listener: socket.socket | None,
        on_listening: Callable[[Listening], None] | None,
        *,
        token: str | None = None,
        access: Access = OPEN_TO_KEYS,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self._programs = programs
        self._listener = listener
        self._on_listening = on_listening or (lambda _: None)
        self._clock = clock or SystemClock()
        self._ids = RandomIds(self._clock, make_run_id=_id_generator(settings))
        self._shutdown = Shutdown()
        self._store = choose_store(settings, self._clock)
        self._file = None if listener is None or token is not None else ServerFile(Path(settings.data))
        self._token = token
        self._access = access
        self._spans = open_exporter(settings)
        self._authenticator = Authenticator(
            [*environment_grants(settings.keys, settings.key_hashes), *declared_grants(access)],
            header=settings.key_header,
            is_open=settings.no_auth,
            allow_bearer=access.allow_bearer,
            trust=settings.trust_of_keys,
            bearers=None if access.tokens is None else Bearers(access, access.tokens, self._clock),
        )
        self._services = Services(
            settings=settings,
            access=access,
            authenticator=self._authenticator,
            registry=programs,
            clock=self._clock,
            ids=self._ids,
            shutdown=self._shutdown,
            subscribers=Subscribers(settings.subscribers_max),
            rates=RateLimiter(self._clock),
            started_at=self._clock.now(),
        )
        self._skilled = Skilled(settings)
        self._equipping = Equipping(settings, programs)
        self._poster = Poster(_allowed(settings))
        self._webhooks: Webhooks | None = None
        self._stop = asyncio.Event()
        self._neighbours: Neighbours | None = None
        self._http: _Http | None = None
        self._serving: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._info: StoreInfo | None = None  # of the opened store
        self._first_key: str | None = None  # that was made at this start

    @property
    def url(self) -> str:
        """Where this server is reached from the same machine; a worker is not."""
        return "" if self._listener is None else url_of(self.settings, self._listener)

    def close(self) -> None:
        """Let go of the port."""
        if self._listener is not None:
            self._listener.close()

    async def run(self) -> None:
        """Start, serve until the stop, and clean up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        if self._listener is None:
            await self._run_until_stop()
            return
        http = self._http = _Http(self.http_config())
        try:
            # By itself it says from its first moment that it starts. On a shared port others take the calls until then.
            if self._token is None:
                await self._answer(http)
            await self._run_until_stop()
        finally:
            http.should_exit = True
            if self._serving is not None:
                await self._serving

    async def _answer(self, http: _Http) -> None:
        """Begin to take calls."""
        assert self._listener is not None
        self._serving = asyncio.create_task(http.serve(sockets=[self._listener]), name="http")
        await http.is_up.wait()

    async def _run_until_stop(self) -> None:
        async with self.opened() as worker:
            if not self.settings.no_worker:
                self._preload()
            # Everything up to here lives as long as the process; the collector need not look at it again.
            gc.collect()
            gc.freeze()
            if self._http is not None and self._serving is None:
                await self._answer(self._http)
            self._tell_listening()
            await self._stop.wait()
            log.info("stopping", executing=worker.executing)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Worker]:
        """The store is open, runs are executed, and the door lets calls in; at the end all of it is stopped in order."""
        try:
            journal, worker = await self._open()
            try:
                yield worker
            finally:
                self._shutdown.set()
                self._remove_server_file()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await worker.stop()
                await self._skilled.close()
                if self._webhooks is not None:
                    await self._webhooks.stop()
                if self._neighbours is not None:
                    await self._neighbours.stop()
                await journal.stop()
                await self._authenticator.stop()
        finally:
            await self._store.close()
            if self._spans is not None:
                await asyncio.to_thread(close_exporter, self._spans)

    async def _open(self) -> tuple[Journal, Worker]:
        """Open the store, begin to work, and let the door open."""
        info = self._info = await self._store.open()
        self._services.notices = info.notices
        self._authenticator.use_secret(info.secret)
        for notice in info.notices:
            log.warning("store_notice", message=notice)
        journal = Journal(self._store, self._clock, last_timestamp=info.last_timestamp)
        journal.on_failure = self._on_failure
        worker = self._make_worker(journal)
        if self._programs.catalog is not None:
            await self._programs.catalog.remember(self._store, self._clock)
        runs = self._make_runs(journal, worker, info)
        if self._services.library is None:
            assert self._services.mcp is not None
            await self._skilled.open(self._programs, self._store, self._services.mcp)
            self._services.library = self._skilled.library
        self._first_key = await self._make_first_key()
        await journal.start()
        await worker.start()
        if info.kind != EMBEDDED:
            self._neighbours = Neighbours(journal, worker)
            await self._neighbours.start()
        await self._authenticator.start(self._store, journal.guard)
        webhooks = self._webhooks = Webhooks(
            self._store,
            self._clock,
            self._ids,
            encode=functools.partial(encode_for, runs),
            encode_test=body_of_test,
            poster=self._poster,
            secret=self.settings.webhook_secret,
        )
        await webhooks.start(journal)
        self._services.webhooks = webhooks
        self._services.opened = runs
        self._let_in_cli()
        self._tasks.append(asyncio.create_task(self._prune_forever(), name="retention"))
        if self._programs.catalog is not None and info.kind != EMBEDDED:
            following = self._programs.catalog.follow(self._store, self._clock)
            self._tasks.append(asyncio.create_task(following, name="catalog"))
        return journal, worker

    def _make_worker(self, journal: Journal) -> Worker:
        settings = self.settings
        worker = Worker(
            journal,
            self._programs,
            self._clock,
            self._ids,
            WorkerSettings(
                runs_max=0 if settings.no_worker else settings.runs_max,
                threads_max=settings.threads_max,
                tenant_runs_max=settings.tenant_runs_max,
                agent_runs_max=settings.agent_runs_max,
                drain_seconds=settings.drain_seconds,
                lease_seconds=settings.lease_seconds,
                tool_expires_seconds=settings.tool_expires_seconds,
                renew_seconds=settings.lease_seconds / 4,
                events_allowed=settings.events_allowed,
            ),
        )
        worker.tracing = self._tracing()
        return worker

    def _make_runs(self, journal: Journal, worker: Worker, info: StoreInfo) -> Runs:
        """The door to the runs, and what assistants get by it."""
        settings = self.settings
        runs = Runs(
            journal,
            worker,
            self._clock,
            self._ids,
            self._shutdown,
            default_agent=self._programs.default,
            timeout_seconds=settings.run_seconds_max,
            queued_max=settings.queue_max,
            tenant_queued_max=settings.tenant_queue_max,
            namespace=info.store_id,
        )
        equipment = self._equipping.equip(runs, self._store, self._clock, self._ids)
        services = self._services
        services.mcp, services.gate, services.sandbox = equipment.mcp, equipment.gate, equipment.sandbox
        services.prompt_skills, services.calling = equipment.prompt_skills, equipment.calling
        services.catalog = self._programs.catalog
        check_ids(self._programs.names(), runs.agent_id)
        return runs

    def _tell_listening(self) -> None:
        assert self._info is not None
        facts = {"store": self._info.kind, "location": self._info.location, "agents": self._programs.listed()}
        if self._listener is None:
            log.info("working", **facts)
        else:
            log.info("listening", url=self.url, **facts)
        self._on_listening(Listening(self.url, self._first_key, self._info.location))

    async def _make_first_key(self) -> str | None:
        settings = self.settings
        has_keys = settings.keys or settings.key_hashes or self._access.mode in ("api_key", "jwt")
        if self._listener is None or settings.no_auth or has_keys:
            return None
        return await create_first_key(self._store, self._clock, self._ids)

    # Parts

    def _tracing(self) -> Tracing | None:
        if not self.settings.tracing:
            return None
        from holdfast.execution.tracing import Tracing

        return Tracing(self._spans)

    def http_config(self) -> uvicorn.Config:
        """How uvicorn speaks HTTP for the door."""
        return uvicorn.Config(
            self.door(),
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=CLOSE_SECONDS,
            backlog=BACKLOG,
        )

    def door(self) -> Door:
        """The ASGI application; it refuses calls until the server is opened."""
        settings = self.settings
        is_development = settings.no_auth or key_hash(DEVELOPMENT_KEY) in {
            *map(key_hash, settings.keys),
            *settings.key_hashes,
        }
        # Any page may call only where a key stands in between that no page can guess.
        allowed = [origin for origin in settings.cors_origins if origin != "*" or not is_development]
        origins = Origins(
            is_loopback=settings.is_loopback,
            allowed_hosts=settings.allowed_hosts,
            origins=allowed,
            methods=settings.cors_methods,
        )
        return build_app(served_apis(settings), self._authenticator, origins, self._services)

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set() and number == signal.SIGINT:
            self._remove_server_file()
            os._exit(130)
        self._shutdown.set()
        self._stop.set()

    def _on_failure(self) -> None:
        """Nothing can be made durable any more. Dying is safe and waiting is not: the next process goes on."""
        self._remove_server_file()
        os._exit(70)

    # Beside the requests

    def _preload(self) -> None:
        """Load what agents need for their first run, in the background: a model library takes seconds."""
        for program in self._programs:
            preload = getattr(program, "preload", None)
            if preload is not None:
                work = functools.partial(_preload, program.name, preload)
                threading.Thread(target=work, name=f"preload {program.name}", daemon=True).start()
        if self._services.sandbox is not None and any(isinstance(one, AssistantProgram) for one in self._programs):
            threading.Thread(target=self._services.sandbox.shelter, name="sandbox", daemon=True).start()

    async def _prune_forever(self) -> None:
        settings = self.settings
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            now = self._clock.now()
            try:
                gone = await self._store.prune(
                    ended_before=now - int(settings.retention_days * DAY_MICROSECONDS),
                    rows_before=now - int(settings.run_retention_days * DAY_MICROSECONDS),
                    now=now,
                )
                gone += 0 if self._webhooks is None else await self._webhooks.prune()
                await self._sweep_workspaces()
            except StoreError as error:
                log.warning("not_pruned", reason=error.code, message=str(error))
                continue
            if gone:
                log.info("pruned", events_and_rows=gone)

    async def _sweep_workspaces(self) -> None:
        """Remove what tasks left behind that are gone."""
        gate = self._services.gate
        if gate is None or gate.workspaces is None:
            return
        try:
            await gate.workspaces.sweep()
        except OSError as error:
            log.warning("workspaces_not_swept", message=str(error))

    # server.json: how the CLI finds this process, and the token it may call it with

    def _let_in_cli(self) -> None:
        if self._listener is None:
            return
        token = self._token or self._ids.secret("hfs")
        self._authenticator.add(Grant(Caller("cli"), key_hash(token)))
        if self._file is not None:
            self._file.write(self.url, token)

    def _remove_server_file(self) -> None:
        if self._file is not None:
            self._file.remove()


class _Http(uvicorn.Server):
    """uvicorn's server without its signal handlers; `is_up` tells when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


def _preload(name: str, preload: Callable[[], object]) -> None:
    try:
        preload()
    except Exception as error:  # noqa: BLE001  # the first run meets it again and says so to its caller
        log.warning("not_preloaded", agent=name, message=str(error))


def _id_generator(settings: Settings) -> Callable[[], object] | None:
    if settings.id_generator is None:
        return None
    made = load_reference(settings.id_generator, Path.cwd())
    if not callable(made):
        raise InvalidSetting(f"HOLDFAST_ID_GENERATOR: {settings.id_generator} is no function", "id_generator")
    generator: Callable[[], object] = made
    return generator


def _allowed(settings: Settings) -> Allowed:
    """Where webhooks may go though it is not public; with a look at the secret that signs them."""
    if settings.webhook_secret is not None and not is_secret(settings.webhook_secret):
        raise InvalidSetting(
            "HOLDFAST_WEBHOOK_SECRET: expected whsec_ and the base64 of 24 to 64 bytes: printf whsec_; openssl rand -base64 32",
            "webhook_secret",
        )
    try:
        return Allowed.parse(settings.webhook_allow)
    except ValueError as error:
        raise InvalidSetting(f"webhook_allow: {error}", "webhook_allow") from None


def choose_store(settings: Settings, clock: Clock | None = None) -> Store:
    """
    The store that the settings name. An embedded one goes by this clock, others by that of their database.

    Raises:
        InvalidSetting: there is no such kind of store.
    """
    place = settings.store or settings.data
    scheme, is_url, _ = place.partition("://")
    if is_url and scheme in ("postgresql", "postgres"):
        return _postgres_store(place, settings)
    if is_url:
        raise InvalidSetting(f"there is no store for {scheme}://; give a directory or a postgresql:// URL", "store")
    from holdfast.store.sqlite import SQLiteStore

    return SQLiteStore(Path(place), clock=clock)


def _postgres_store(url: str, settings: Settings) -> Store:
    try:
        from holdfast.store.postgres import PostgresStore
    except ImportError as exc:
        raise InvalidSetting("a Postgres store needs asyncpg: pip install 'holdfast[postgres]'", "store") from exc
    return PostgresStore(url, allow_unsafe=settings.store_unsafe, is_pooled=settings.store_pooled)


def served_apis(settings: Settings) -> list[Api]:
    """The APIs that the settings select. The Runtime API's public calls are always there."""
    from holdfast.api import control, engine, runtime, skills, workflow

    apis = [runtime.api(public_only="runtime" not in settings.apis), control.api()]
    if "engine" in settings.apis:
        apis.append(engine.api())
    if "workflow" in settings.apis:
        apis.append(workflow.api())
    if "skills" in settings.apis:
        apis.append(skills.api())
    return apis


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
