"""
A real browser for tests: headless Chromium, driven over the DevTools protocol by as little code as will do.

It asks no other host for anything. Where there is no Chromium the tests skip and say so.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)
SECONDS = 60.0


class Page:
    """One open page. What it asks of the network is in `answers`, as it came in so far."""

    def __init__(self, connection: ClientConnection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._last = 0
        self._requests: dict[str, str] = {}
        self.answers: list[tuple[str, int]] = []  # path and query, and status

    def run(self, script: str) -> Any:
        """The value of an expression, or of its promise."""
        reply = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def until(self, condition: str, timeout_ms: int = 30_000) -> Any:
        """The value of an expression, once it is true."""
        return self.run(
            "new Promise((resolve, reject) => {"
            f" const ends = performance.now() + {timeout_ms};"
            f" const look = () => {{ const found = {condition}; if (found) resolve(found);"
            f" else if (performance.now() > ends) reject(new Error({json.dumps('never: ' + condition)}));"
            " else setTimeout(look, 5); };"
            " look(); })"
        )

    def call(self, method: str, **parameters: Any) -> Any:
        """A call of the protocol, in this page."""
        self._last += 1
        message = {"id": self._last, "sessionId": self._session, "method": method, "params": parameters}
        self._connection.send(json.dumps(message))
        while True:
            reply = json.loads(self._connection.recv(timeout=SECONDS))
            if reply.get("id") == self._last:
                assert "error" not in reply, reply["error"]
                return reply["result"]
            self._note(reply)

    def _note(self, event: dict[str, Any]) -> None:
        found = event.get("params", {})
        if event.get("method") == "Network.responseReceived":
            url = found["response"]["url"].split("/", 3)
            self.answers.append(("/" + url[3], found["response"]["status"]))


@contextlib.contextmanager
def running_browser() -> Iterator[ClientConnection]:
    """A browser with an empty profile of its own; gone at the end."""
    assert CHROMIUM is not None
    # Its helpers may write into the profile until the last moment.
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        popen = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with connect(_address(popen), max_size=None, proxy=None, compression=None) as connection:
                yield connection
        finally:
            popen.kill()
            popen.wait()
            assert popen.stderr is not None
            popen.stderr.close()


def _address(popen: subprocess.Popen[str]) -> str:
    """Where it listens: it says so on standard error."""
    assert popen.stderr is not None
    said = []
    for line in popen.stderr:
        said.append(line)
        if line.startswith("DevTools listening on "):
            return line.removeprefix("DevTools listening on ").strip()
    raise RuntimeError(f"Chromium did not start: {''.join(said)}")


@contextlib.contextmanager
def open_page(browser: ClientConnection, url: str) -> Iterator[Page]:
    """A page, once it is loaded; without cookies of others."""
    context = _ask(browser, "Target.createBrowserContext")["browserContextId"]
    target = _ask(browser, "Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
    session = _ask(browser, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    page = Page(browser, session)
    page.call("Network.enable")
    page.call("Page.navigate", url=url)
    page.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")
    try:
        yield page
    finally:
        _ask(browser, "Target.disposeBrowserContext", browserContextId=context)


_asked = 1_000_000


def _ask(browser: ClientConnection, method: str, **parameters: Any) -> Any:
    global _asked
    _asked += 1
    browser.send(json.dumps({"id": _asked, "method": method, "params": parameters}))
    while True:
        reply = json.loads(browser.recv(timeout=SECONDS))
        if reply.get("id") == _asked:
            assert "error" not in reply, reply["error"]
            return reply["result"]
