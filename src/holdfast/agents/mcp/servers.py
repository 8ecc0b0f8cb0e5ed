"""
The MCP servers that an installation knows: `mcp_servers.json` in the catalog. Whatever does not fit refuses the start.

    {"mcpServers": {"tickets": {"transport": "streamable_http", "url": "https://…/mcp", "auth_method": "api_key"}}}
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from holdfast.agents.tools.secrets import named_secrets
from holdfast.settings import InvalidSetting

FILE: Final = "mcp_servers.json"

# It stands before the dot in the names of tools, and models take short names only.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")


class OAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the consent of a person is asked for, and by whom. `client_secret_env` names a variable of the server."""

    authorization_url: str
    token_url: str
    client_id: str
    client_secret_env: str | None = None
    scopes: tuple[str, ...] = ()

    @property
    def client_secret(self) -> str | None:
        return None if self.client_secret_env is None else os.environ.get(self.client_secret_env)


class McpServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    One server. Over HTTP the credential is sent in `key_header` behind `key_prefix`; one that is started (`stdio`) finds
    it in the variable `key_env`, and of the environment of this process only what every program needs.
    """

    name: str = ""
    display_name: str = ""
    transport: Literal["stdio", "streamable_http", "sse"]
    auth_method: Literal["none", "api_key", "oauth"] = "none"
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    url: str | None = None
    headers: Mapping[str, str] = {}
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    key_env: str | None = None
    oauth: OAuth | None = None

    @property
    def secrets(self) -> list[str]:
        """What the file says and nobody is to be told: from its variables and headers, and of its address."""
        password = urlsplit(self.url or "").password
        return [*named_secrets(self.env), *named_secrets(self.headers), *([unquote(password)] if password else ())]

    def defect(self) -> str | None:
        """Why it cannot be used; None: it can."""
        if not _NAME.match(self.name):
            return "a name has at most 32 lower-case letters, digits, _ and -, and begins with a letter or digit"
        if self.transport == "stdio":
            if not self.command or self.url is not None:
                return "a stdio server has a command and no url"
            if self.auth_method != "none" and not self.key_env:
                return "a stdio server with a credential says in key_env which variable it reads it from"
        elif not _is_url(self.url) or self.command is not None:
            return f"a {self.transport} server has an http or https url and no command"
        if (self.auth_method == "oauth") != (self.oauth is not None):
            return "oauth is there exactly where auth_method is oauth"
        if self.oauth is not None and not (_is_url(self.oauth.authorization_url) and _is_url(self.oauth.token_url)):
            return "authorization_url and token_url are http or https URLs"
        return None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    mcpServers: dict[str, dict[str, Any]]  # noqa: N815 - the name that other programs give it


def load_servers(catalog: str | None) -> Mapping[str, McpServer]:
    """
    The servers of a catalog directory, by name; none without a catalog or its file.

    Raises:
        InvalidSetting: the file is not what it has to be.
    """
    if catalog is None:
        return {}
    path = Path(catalog) / FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise InvalidSetting(f"{path} cannot be read: {exc.strerror}", "catalog") from exc
    servers = {}
    try:
        given = msgspec.json.decode(data, type=_File).mcpServers
        for name, fields in given.items():
            server = msgspec.convert({"display_name": name, **fields, "name": name}, McpServer)
            if defect := server.defect():
                raise InvalidSetting(f"{path}: {name}: {defect}", "catalog")
            servers[name] = server
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidSetting(f"{path}: {exc}", "catalog") from exc
    return servers


def _is_url(text: str | None) -> bool:
    try:
        parts = urlsplit(text or "")
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc != ""
