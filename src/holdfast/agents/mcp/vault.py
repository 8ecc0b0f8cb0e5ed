"""Credentials at rest: Fernet (AES-128-CBC, HMAC-SHA256) under the setting `asset_key`."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.errors import McpConnectionFailed, NotConfigured

SETTING: Final = "HOLDFAST_ASSET_KEY"


class Credential(msgspec.Struct, frozen=True, omit_defaults=True):
    """What opens a server: an API key or tokens. It is in nothing that leaves this process but the calls to it."""

    secret: str
    refresh_token: str | None = None

    def __repr__(self) -> str:
        return "Credential(…)"

    def secrets(self) -> list[str]:
        """What must be in no text, the longest first."""
        found = [text for text in (self.secret, self.refresh_token) if text]
        return sorted(found, key=len, reverse=True)


class Vault:
    """Seals and opens texts. Without a key it does neither."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def check(self) -> None:
        """
        Raises:
            NotConfigured: there is no key.
        """
        if not self._key:
            raise NotConfigured(f"connecting needs {SETTING}, with which credentials are encrypted", setting=SETTING)

    def seal(self, text: bytes) -> str:
        """
        Raises:
            NotConfigured
        """
        from cryptography.fernet import Fernet

        self.check()
        return Fernet(self._key or "").encrypt(text).decode()

    def open(self, sealed: str) -> bytes:
        """
        Raises:
            NotConfigured
            McpConnectionFailed: it was sealed with another key.
        """
        from cryptography.fernet import Fernet, InvalidToken

        self.check()
        try:
            return Fernet(self._key or "").decrypt(sealed)
        except InvalidToken:
            raise McpConnectionFailed(
                f"the credential was encrypted with another key than that of {SETTING}: disconnect, and connect again"
            ) from None

    def seal_credential(self, credential: Credential) -> str:
        return self.seal(msgspec.json.encode(credential))

    def open_credential(self, sealed: str) -> Credential:
        return msgspec.json.decode(self.open(sealed), type=Credential)
