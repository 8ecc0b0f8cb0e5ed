"""The tools `web_fetch` and `web_search`, and the list of hosts that may be called unasked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from holdfast.agents.tools import Call, Ground, Reason, Tool, ToolError
from holdfast.agents.tools.egress import Egress
from holdfast.agents.tools.tool import Cut
from holdfast.agents.tools.web import TEXT_BYTES_MAX, web_fetch_tool, web_search_tool
from holdfast.webhooks.guard import Address, Allowed

NO_CONTEXT: Any = None
ANY: Any = Allowed.parse(["127.0.0.0/8"])


async def local(host: str, port: int) -> Sequence[Address]:
    """Every name is on this machine."""
    return [ip_address("127.0.0.1")]


Answer = Callable[[str], bytes]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP server: what it answers to a path. Gives its `host:port` and the requests that came."""
    seen: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head)
        writer.write(answer(head.split(" ")[1]))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


def page(body: bytes, kind: str = "text/plain", status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}connection: close\r\n\r\n".encode() + body


def moved(to: str) -> bytes:
    return page(b"", status="302 Found", more=f"location: {to}\r\n")


async def fetched(tool: Tool[Any], url: str, passed: Reason | None = None) -> Cut:
    call = Call(context=NO_CONTEXT, tool_call_id="c", key="c", passed=passed)
    result: Cut = await tool.function(call, tool.read({"url": url}))
    return result


async def refused(work: Awaitable[Any]) -> str:
    with pytest.raises(ToolError) as caught:
        await work
    return caught.value.code


async def test_a_page_gives_its_text() -> None:
    html = b"<html><title>T</title><script>evil()</script><p>Caf\xc3\xa9 &amp; more<p>Two</html>"

    async with serving(lambda _: page(html, "text/html; charset=utf-8")) as (at, seen):
        result = await fetched(web_fetch_tool(Egress(), allowed=ANY), f"http://{at}/x?y=1#part")

    assert result.value == {
        "url": f"http://{at}/x?y=1",
        "status": 200,
        "content_type": "text/html; charset=utf-8",
        "text": "T\nCafé & more\nTwo",
    }
    assert seen[0].startswith("GET /x?y=1 HTTP/1.1\r\n")


async def test_long_text_is_cut_and_endless_text_is_not_read_to_its_end() -> None:
    async with serving(lambda _: page("é".encode() * 2_000_000)) as (at, _):
        result = await fetched(web_fetch_tool(Egress(), allowed=ANY), f"http://{at}/")

    assert result.truncated
    assert result.value["text"] == "é" * (TEXT_BYTES_MAX // 2)


async def test_what_is_no_text_is_not_shown() -> None:
    async with serving(lambda path: page(b"\x89PNG\0", "image/png" if path == "/p" else "text/plain")) as (at, _):
        tool = web_fetch_tool(Egress(), allowed=ANY)
        assert [await refused(fetched(tool, f"http://{at}{path}")) for path in ("/p", "/t")] == ["not_text"] * 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://10.1.2.3/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://internal.example/",
        "https://user:pass@example.com/",
    ],
)
async def test_addresses_that_are_not_public_are_refused(url: str) -> None:
    assert await refused(fetched(web_fetch_tool(Egress(), resolve=local), url)) == "address_refused"


async def test_no_list_and_no_permission_opens_the_network_inside() -> None:
    tool = web_fetch_tool(Egress(["127.0.0.1", "localhost"]), resolve=local)

    for host in ("127.0.0.1", "localhost"):
        assert await refused(fetched(tool, f"http://{host}/", Reason("egress", host=host))) == "address_refused"


async def test_a_redirect_to_what_is_not_public_is_refused() -> None:
    async with serving(lambda _: moved("http://10.0.0.1/")) as (at, seen):
        code = await refused(fetched(web_fetch_tool(Egress(), allowed=Allowed.parse(["127.0.0.1"])), f"http://{at}/"))

    assert (code, len(seen)) == ("address_refused", 1)


async def test_a_redirect_is_followed_five_times() -> None:
    def answer(path: str) -> bytes:
        return page(b"there") if path == "/5" else moved(f"/{int(path[1:]) + 1}")

    async with serving(answer) as (at, seen):
        tool = web_fetch_tool(Egress(), allowed=ANY)
        assert (await fetched(tool, f"http://{at}/0")).value["text"] == "there"
        assert await refused(fetched(tool, f"http://{at}/-1")) == "fetch_failed"

    assert len(seen) == 12


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/", "gopher://example.com", "example.com"])
async def test_other_schemes_are_no_input(url: str) -> None:
    assert await refused(fetched(web_fetch_tool(Egress()), url)) == "invalid_input"


async def test_the_name_is_told_and_the_checked_address_is_called() -> None:
    async with serving(lambda _: page(b"here")) as (at, seen):
        port = at.partition(":")[2]
        tool = web_fetch_tool(Egress(), resolve=local, allowed=ANY)
        assert (await fetched(tool, f"http://shop.example:{port}/")).value["text"] == "here"

    assert f"host: shop.example:{port}\r\n" in seen[0].lower()


# The list


@pytest.mark.parametrize(
    ("entries", "url", "host"),
    [
        ([], "https://anywhere.example/", None),
        (["a.example"], "https://A.example./x", None),
        (["a.example"], "https://b.a.example/", "b.a.example"),
        (["*.a.example"], "https://c.b.a.example/", None),
        (["*.a.example"], "https://a.example/", "a.example"),
        (["a.example:8443"], "https://a.example:8443/", None),
        (["a.example:8443"], "https://a.example/", "a.example"),
        (["a.example:443"], "https://a.example/", None),
        (["a.example"], "https://a.example.evil.example/", "a.example.evil.example"),
        (["a.example"], "https://a.example@evil.example/", "evil.example"),
    ],
)
def test_hosts_that_are_not_in_the_list_are_asked_about(entries: list[str], url: str, host: str | None) -> None:
    tool = web_fetch_tool(Egress(entries))
    assert tool.guard is not None

    found = tool.guard(tool.read({"url": url}), Ground())

    assert found == (None if host is None else Reason("egress", host=host))


async def test_a_redirect_to_a_host_that_nobody_allowed_is_not_followed() -> None:
    async with serving(lambda path: page(b"there") if path == "/there" else moved(path[1:])) as (at, seen):
        port = at.partition(":")[2]
        tool = web_fetch_tool(Egress(["a.example"]), resolve=local, allowed=ANY)
        away = f"http://a.example:{port}/http://b.example:{port}/there"
        assert await refused(fetched(tool, away)) == "permission_denied"
        assert len(seen) == 1
        stays = f"http://a.example:{port}/http://a.example:{port}/there"
        assert (await fetched(tool, stays)).value["text"] == "there"


# Searching


async def search(url: str | None, query: str = "tea & cakes") -> Any:
    tool = web_search_tool(url)
    return await tool.function(Call(context=NO_CONTEXT, tool_call_id="c", key="c"), tool.read({"query": query}))


async def test_a_search_gives_titles_urls_and_texts() -> None:
    found = {"results": [{"title": "Tea", "url": "https://tea.example", "content": "All about it", "score": 3}, 7]}

    async with serving(lambda _: page(json.dumps(found).encode(), "application/json")) as (at, seen):
        results = [await search(f"http://{at}/search"), await search(f"http://{at}/s?find={{query}}")]

    assert results == [{"results": [{"title": "Tea", "url": "https://tea.example", "text": "All about it"}]}] * 2
    assert [head.split(" ")[1] for head in seen] == ["/search?q=tea+%26+cakes&format=json", "/s?find=tea%20%26%20cakes"]


async def test_a_search_that_does_not_work_says_so() -> None:
    answers = iter([page(b"no"), page(b"{}"), page(b"", status="500 Oops")])

    async with serving(lambda _: next(answers)) as (at, _):
        codes = [await refused(search(f"http://{at}/")) for _ in range(3)]

    assert codes == ["search_failed"] * 3
    assert await refused(search(None)) == "not_configured"
    assert await refused(search(f"http://{at}/")) == "search_failed"
