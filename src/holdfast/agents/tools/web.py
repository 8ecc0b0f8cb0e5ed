"""The tools `web_fetch` and `web_search`."""

from __future__ import annotations

import asyncio
import json
import re
from html.parser import HTMLParser
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from holdfast.agents.tools.egress import Egress
from holdfast.agents.tools.tool import Call, Cut, Ground, Reason, Tool, ToolError
from holdfast.webhooks.guard import Allowed
from holdfast.webhooks.post import Resolve, resolve

SECONDS_MAX: Final = 20.0
TEXT_BYTES_MAX: Final = 50 * 1024
RESULTS_MAX: Final = 10

_TEXTUAL: Final = re.compile(r"text/|application/([\w.+-]*\+)?(json|xml|javascript|yaml|x-ndjson)\b|\Z", re.IGNORECASE)
_CHARSET: Final = re.compile(r"charset=[\"']?([\w.-]+)", re.IGNORECASE)


class FetchInput(msgspec.Struct, forbid_unknown_fields=True):
    url: Annotated[
        str, msgspec.Meta(description="An http or https URL of the public internet.", min_length=1, max_length=2048)
    ]


class SearchInput(msgspec.Struct, forbid_unknown_fields=True):
    query: Annotated[str, msgspec.Meta(description="What to search for.", min_length=1, max_length=1_000)]


def web_fetch_tool(egress: Egress, *, resolve: Resolve = resolve, allowed: Allowed | None = None) -> Tool[FetchInput]:
    """Fetches the text of a page; `allowed` names addresses that are taken though they are not public."""
    exempt = Allowed() if allowed is None else allowed

    async def web_fetch(call: Call, input: FetchInput) -> Any:
        from holdfast.agents.tools.fetching import Fetcher

        passed = call.passed

        def check(url: str) -> None:
            reason = egress.reason(url)
            if reason is not None and (passed is None or passed.host != reason.host):
                raise ToolError("permission_denied", f"it leads to {reason.host}, and nobody allowed that")

        fetcher = await asyncio.to_thread(Fetcher, resolve, exempt)
        try:
            async with asyncio.timeout(SECONDS_MAX):
                # The first host passed the gate: the list, a grant, a person or the policy let it.
                first = urlsplit(input.url).hostname
                fetched = await fetcher.fetch(
                    input.url, lambda url: None if urlsplit(url).hostname == first else check(url)
                )
        except TimeoutError:
            raise ToolError("tool_timeout", f"it took more than {SECONDS_MAX:g} s") from None
        except ValueError as exc:
            raise ToolError("invalid_input", f"this is no URL: {exc}") from None
        text = _text_of(fetched.body, fetched.content_type)
        data = text.encode(errors="replace")
        shown = data[:TEXT_BYTES_MAX].decode(errors="ignore")
        value = {"url": fetched.url, "status": fetched.status, "content_type": fetched.content_type, "text": shown}
        return Cut(value, truncated=len(data) > TEXT_BYTES_MAX or not fetched.is_whole)

    def guard(input: FetchInput, _: Ground) -> Reason | None:
        return egress.reason(input.url)

    return Tool(
        name="web_fetch",
        description="Fetches a page of the public internet and gives its text.",
        input=FetchInput,
        function=web_fetch,
        guard=guard,
        timeout_seconds=SECONDS_MAX + 10,
    )


def web_search_tool(search_url: str | None) -> Tool[SearchInput]:
    """Asks the search engine that the operator named."""

    async def web_search(_: Call, input: SearchInput) -> Any:
        if search_url is None:
            raise ToolError("not_configured", "there is no search engine here: HOLDFAST_SEARCH_URL names one")
        import httpx2

        try:
            async with (
                asyncio.timeout(SECONDS_MAX),
                httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=SECONDS_MAX) as client,
            ):
                response = await client.get(_search_url(search_url, input.query))
        except (httpx2.HTTPError, TimeoutError) as exc:
            raise ToolError("search_failed", f"the search engine did not answer: {type(exc).__name__}") from None
        if response.status_code != 200:
            raise ToolError("search_failed", f"the search engine answered {response.status_code}")
        return {"results": _results(response.content)}

    return Tool(
        name="web_search",
        description="Searches the web; each result has a title, a URL and some text.",
        input=SearchInput,
        function=web_search,
        timeout_seconds=SECONDS_MAX + 10,
    )


def _search_url(template: str, query: str) -> str:
    if "{query}" in template:
        return template.replace("{query}", quote(query, safe=""))
    mark = "&" if "?" in template else "?"
    return f"{template}{mark}{urlencode({'q': query, 'format': 'json'})}"


def _results(data: bytes) -> list[dict[str, str]]:
    try:
        found = json.loads(data)
    except ValueError:
        raise ToolError("search_failed", "the search engine answered no JSON") from None
    rows = found.get("results") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise ToolError("search_failed", "the search engine's JSON has no list of results")
    results = []
    for row in [row for row in rows if isinstance(row, dict)][:RESULTS_MAX]:
        texts = [str(row[name]) for name in ("content", "snippet", "description", "text") if row.get(name)]
        results.append(
            {
                "title": str(row.get("title") or "")[:500],
                "url": str(row.get("url") or "")[:2048],
                "text": (texts or [""])[0][:2000],
            }
        )
    return results


def _text_of(body: bytes, content_type: str) -> str:
    if not _TEXTUAL.match(content_type) or b"\0" in body:
        raise ToolError("not_text", f"what is there is no text: {content_type or 'of no type'}")
    charset = _CHARSET.search(content_type)
    try:
        text = body.decode(charset.group(1) if charset else "utf-8", errors="replace")
    except LookupError:
        text = body.decode(errors="replace")
    if "html" not in content_type.lower() and not re.match(r"\s*<(!doctype\s+html|html)\b", text, re.IGNORECASE):
        return text
    page = _Page()
    page.feed(text)
    page.close()
    return page.text


class _Page(HTMLParser):
    """The text of a page, a line for each block."""

    _SILENT: Final = frozenset({"script", "style", "template", "noscript", "svg"})
    _BLOCKS: Final = frozenset(
        {
            "p",
            "div",
            "br",
            "li",
            "tr",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "title",
            "section",
            "article",
            "pre",
            "table",
        }
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._silent = 0

    @property
    def text(self) -> str:
        lines = (" ".join(line.split()) for line in "".join(self._pieces).split("\n"))
        return "\n".join(line for line in lines if line)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self._SILENT
        if tag in self._BLOCKS:
            self._pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in self._SILENT))
        if tag in self._BLOCKS:
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._pieces.append(data.replace("\n", " "))
