"""
OAuth 2.1's authorization code flow with PKCE (RFC 7636, S256), as a client of the server that an MCP server trusts.

Nothing of what that server answers gets into a message: it may repeat what it was sent.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from holdfast.agents.mcp.servers import OAuth
from holdfast.agents.mcp.vault import Credential
from holdfast.errors import McpConnectionFailed, McpTokenExpired

TIMEOUT_SECONDS: Final = 20.0


class Tokens(msgspec.Struct, frozen=True):
    """What the token endpoint gave."""

    credential: Credential
    expires_in: float | None = None  # seconds
    scopes: tuple[str, ...] = ()


def challenge_of(verifier: str) -> str:
    """The S256 challenge."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def authorization_url(oauth: OAuth, *, redirect_uri: str, state: str, verifier: str) -> str:
    """Where the person goes to consent."""
    query = {
        "response_type": "code",
        "client_id": oauth.client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        **({"scope": " ".join(oauth.scopes)} if oauth.scopes else {}),
    }
    url = urlsplit(oauth.authorization_url)
    return urlunsplit(url._replace(query="&".join(part for part in (url.query, urlencode(query)) if part)))


async def exchange_code(oauth: OAuth, *, code: str, redirect_uri: str, verifier: str) -> Tokens:
    """
    Tokens for a code.

    Raises:
        McpConnectionFailed
    """
    status, body = await _post(
        oauth,
        {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier},
    )
    if status != 200:
        raise McpConnectionFailed(f"the token endpoint refused the code with status {status}")
    return _tokens(body, None, oauth.scopes)


async def renew(oauth: OAuth, refresh_token: str) -> Tokens:
    """
    New tokens for a refresh token; it stays good where no new one comes.

    Raises:
        McpTokenExpired: it was refused.
        McpConnectionFailed
    """
    status, body = await _post(oauth, {"grant_type": "refresh_token", "refresh_token": refresh_token})
    if status in (400, 401, 403):
        raise McpTokenExpired("the token could not be renewed: connect again")
    if status != 200:
        raise McpConnectionFailed(f"the token endpoint answered with status {status}")
    return _tokens(body, refresh_token, oauth.scopes)


async def _post(oauth: OAuth, form: Mapping[str, str]) -> tuple[int, bytes]:
    import httpx2

    client_secret = oauth.client_secret
    sent = {**form, "client_id": oauth.client_id, **({"client_secret": client_secret} if client_secret else {})}
    try:
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client:
            response = await client.post(oauth.token_url, data=sent, headers={"Accept": "application/json"})
        return response.status_code, response.content
    except httpx2.HTTPError as exc:
        raise McpConnectionFailed(f"the token endpoint cannot be reached ({type(exc).__name__})") from None


def _tokens(body: bytes, refresh_token: str | None, scopes: tuple[str, ...]) -> Tokens:
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("access_token"), str) or not found["access_token"]:
        raise McpConnectionFailed("the token endpoint's answer has no access_token")
    expires_in, renewed, scope = found.get("expires_in"), found.get("refresh_token"), found.get("scope")
    return Tokens(
        Credential(found["access_token"], renewed if isinstance(renewed, str) and renewed else refresh_token),
        float(expires_in) if isinstance(expires_in, int | float) and not isinstance(expires_in, bool) else None,
        tuple(scope.split()) if isinstance(scope, str) else scopes,
    )
