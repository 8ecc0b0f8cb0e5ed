"""Pages for people: the front page, and the reference made of the OpenAPI document. No I/O, no script, no other host."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#0a7d6c}
@media (prefers-color-scheme:dark){:root{--accent:#4fd1bd}}
body{font:16px/1.55 system-ui,sans-serif;max-width:60rem;margin:2.5rem auto;padding:0 1rem}
h1{margin:0 0 .25rem}h2{margin:2.5rem 0 .5rem}
a{color:var(--accent)}code,pre{font:13px/1.5 ui-monospace,monospace}
pre{background:var(--soft);padding:.75rem;border-radius:.4rem;overflow:auto}
details{border:1px solid var(--line);border-radius:.4rem;margin:.35rem 0}
summary{padding:.5rem .75rem;cursor:pointer;display:flex;gap:.75rem;align-items:baseline;flex-wrap:wrap}
summary b{font:600 12px ui-monospace,monospace;min-width:3.8rem;color:var(--accent)}
summary span{opacity:.75;flex:1;min-width:12rem}summary i{font-size:13px;opacity:.7}
details>div{padding:.25rem .9rem .9rem}table{border-collapse:collapse;width:100%;font-size:14px}
td,th{text-align:left;padding:.3rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
"""

_KEYS: Final = (
    "Send a key along in the header <code>X-API-Key</code>, or as <code>Authorization: Bearer</code>. On the right stands "
    "the role that it needs at least, of reader, executor, operator and admin; what is public needs none."
)


def front_page(version: str, agents: Sequence[str], default_agent: str | None, url: str) -> str:
    """Who opened the server in a browser, at this URL, sees what it is, and where to go."""
    listed = "".join(
        f"<li><code>{_text(name)}</code>{' (default)' if name == default_agent else ''}: "
        f'<a href="/agents/{_text(name)}/info">info</a>, <a href="/agents/{_text(name)}/schema">schema</a></li>'
        for name in agents
    )
    example = (
        f"curl -N {url}/invoke/stream -H 'X-API-Key: …' \\\n"
        "  -H 'Content-Type: application/json' -d '{\"message\": \"Hello!\"}'"
    )
    return _page(
        "Holdfast",
        f"<h1>Holdfast {_text(version)}</h1><p>Agents behind HTTP whose runs outlive connections and processes.</p>"
        f"<h2>Agents</h2><ul>{listed}</ul>"
        '<h2>Where to go</h2><ul><li><a href="/docs">the calls of this server</a>, also as '
        '<a href="/openapi.json">OpenAPI</a></li><li><a href="/health">health</a>, <a href="/ready">ready</a>, '
        '<a href="/metrics">metrics</a>, <a href="/agents">agents</a></li></ul>'
        f"<h2>A first call</h2><pre>{_text(example)}</pre>",
    )


def reference_page(document: Mapping[str, Any]) -> str:
    """All calls of the document, by API, each with its parameters, body, answers and examples."""
    titles = [*(f"{tag['name'].title()} API" for tag in document["tags"]), "Schemas"]
    parts = [
        f"<h1>Holdfast {_text(document['info']['version'])}</h1>",
        '<p>Every call of this server. The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>',
        f"<p>{_KEYS}</p>" if "security" in document else "",
        f"<p>{' · '.join(_link(title) for title in titles)}</p>",
    ]
    for tag in document["tags"]:
        parts.append(_heading(f"{tag['name'].title()} API"))
        parts += [
            _call(method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
    schemas = document["components"]["schemas"]
    parts.append(_heading("Schemas"))
    parts += [
        f'<details id="{_text(name)}"><summary><code>{_text(name)}</code></summary><div>{_json(schema)}</div></details>'
        for name, schema in schemas.items()
    ]
    return _page("Holdfast: reference", "".join(parts))


def _heading(title: str) -> str:
    return f'<h2 id="{_anchor(title)}">{_text(title)}</h2>'


def _link(title: str) -> str:
    return f'<a href="#{_anchor(title)}">{_text(title)}</a>'


def _anchor(title: str) -> str:
    return _text(title.lower().replace(" ", "-"))


def _call(method: str, path: str, operation: Mapping[str, Any]) -> str:
    role = operation.get("x-role", "public")
    return (
        f'<details id="{_text(operation["operationId"])}"><summary><b>{_text(method.upper())}</b>'
        f"<code>{_text(path)}</code><span>{_prose(operation['summary'])}</span><i>{_text(role)}</i></summary><div>"
        + "".join(_parts(operation))
        + "</div></details>"
    )


def _parts(operation: Mapping[str, Any]) -> Iterator[str]:
    if "description" in operation:
        yield f"<p>{_prose(operation['description'])}</p>"
    if operation["parameters"]:
        yield "<table><tr><th>parameter</th><th>in</th><th>value</th><th></th></tr>"
        for item in operation["parameters"]:
            yield (
                f"<tr><td><code>{_text(item['name'])}</code></td><td>{_text(item['in'])}</td>"
                f"<td><code>{_text(json.dumps(item['schema']))}</code></td><td>{_prose(item.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield f"<h4>Body</h4>{_json(content['schema'])}{_json(content['example']) if 'example' in content else ''}"
    yield "<h4>Answers</h4><table>"
    for status, answer in operation["responses"].items():
        shown = "".join(_content(media_type, content) for media_type, content in answer.get("content", {}).items())
        yield f"<tr><td><code>{status}</code></td><td>{_prose(answer['description'])}{shown}</td></tr>"
    yield "</table>"


def _content(media_type: str, content: Mapping[str, Any]) -> str:
    example = content.get("example")
    if example is None:
        return ""
    shown = f"<pre>{_text(example)}</pre>" if isinstance(example, str) else _json(example)
    return f"<br><code>{_text(media_type)}</code>{shown}"


def _json(value: Any) -> str:
    return f"<pre>{_text(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _prose(text: str) -> str:
    """Text in which names of code stand in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _text(value: Any) -> str:
    return html.escape(str(value))


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
