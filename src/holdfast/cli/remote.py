"""Calls to a running server, with the token that it left for its own CLI."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from holdfast.cli.screen import CliError

if TYPE_CHECKING:
    import httpx2

    from holdfast.cli.access import ServerAt

# The server is on this machine; what takes longer than this to connect is not there.
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
PAGE = 200


def answers(server: ServerAt) -> bool:
    """Whether something that takes our token listens where the file says."""
    import httpx2

    if not _is_alive(server.pid):
        return False
    try:
        reply = httpx2.get(
            f"{server.url}/_holdfast/keys",
            headers={"X-API-Key": server.token},
            timeout=CONNECT_SECONDS,
            trust_env=False,
        )
    except httpx2.TransportError:
        return False
    # Another server on that port by now does not know the token; one of ours that is starting says 503.
    return reply.status_code in (200, 503)


def _is_alive(pid: int) -> bool:
    # Without this, a server without authentication that has the dead one's port by now would be taken for it.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def client_of(server: ServerAt, *, read_seconds: float = ANSWER_SECONDS) -> httpx2.Client:
    """A client that calls the server as its own CLI. No proxy comes between them."""
    import httpx2

    return httpx2.Client(
        base_url=server.url,
        headers={"X-API-Key": server.token},
        timeout=httpx2.Timeout(read_seconds, connect=CONNECT_SECONDS),
        trust_env=False,
    )


class Remote:
    """The access through a running server; see `Access`."""

    is_live = True

    def __init__(self, server: ServerAt) -> None:
        self.server = server
        self._client = client_of(server)

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def runs(self, filters: Mapping[str, str], limit: int) -> Iterator[dict[str, Any]]:
        left, cursor = limit, None
        while left > 0:
            parameters = {**filters, "limit": str(min(left, PAGE)), **({"cursor": cursor} if cursor else {})}
            page = self._call("GET", "/runs", params=parameters)
            yield from page["runs"]
            left -= len(page["runs"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def run(self, run_id: str) -> dict[str, Any]:
        return self._call("GET", _path(run_id))

    def interrupts(self, run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", _path(run_id, "interrupts"))["interrupts"]
        return found

    def answer(self, run_id: str, interrupt_id: str, answer: Any) -> dict[str, Any]:
        return self._call("POST", _path(run_id, "interrupts", interrupt_id), json={"answer": answer})

    def cancel(self, run_id: str, reason: str | None) -> dict[str, Any]:
        return self._call("POST", _path(run_id, "cancel"), json={} if reason is None else {"reason": reason})

    def export(self, run_id: str) -> Iterator[bytes]:
        import httpx2

        try:
            with self._client.stream("GET", _path(run_id, "export")) as reply:
                if reply.is_error:
                    reply.read()
                    raise refusal(reply)
                yield from reply.iter_bytes()
        except httpx2.TransportError as error:
            raise self._lost(error) from error

    def verify(self, run_id: str) -> dict[str, Any]:
        return self._call("GET", _path(run_id, "verify"), timeout=None)

    def keys(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", "/_holdfast/keys")["keys"]
        return found

    def add_key(self, name: str, role: str, tenant: str) -> dict[str, Any]:
        return self._call("POST", "/_holdfast/keys", json={"name": name, "role": role, "tenant": tenant})

    def rotate_key(self, name: str, overlap_seconds: float | None) -> dict[str, Any]:
        body = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
        return self._call("POST", f"/_holdfast/keys/{quote(name, safe='')}/rotate", json=body)

    def revoke_key(self, name: str) -> dict[str, Any]:
        return self._call("DELETE", f"/_holdfast/keys/{quote(name, safe='')}")

    def backup(self, target: Path) -> None:
        # A large store takes its time; whether it is done, only the answer says.
        self._call("POST", "/_holdfast/backup", json={"target": str(target)}, timeout=None)

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        import httpx2

        try:
            reply = self._client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise self._lost(error) from error
        if reply.is_error:
            raise refusal(reply)
        answer: dict[str, Any] = reply.json()
        return answer

    def _lost(self, error: Exception) -> CliError:
        reason = str(error) or type(error).__name__
        return CliError(f"the server at {self.server.url} (pid {self.server.pid}) did not answer: {reason}")


def refusal(reply: httpx2.Response) -> CliError:
    """What the server has against a call, in its own words."""
    try:
        body = reply.json()
    except ValueError:
        body = {}
    message = body.get("detail") or body.get("message") or f"the server answered {reply.status_code}"
    winner = {name: body[name] for name in ("answer", "by") if name in body}
    return CliError(str(message), status=reply.status_code, **winner)


def _path(run_id: str, *rest: str) -> str:
    return "/".join(["/runs", *(quote(part, safe="") for part in (run_id, *rest))])
