"""
Which addresses may be called: a webhook must not reach what only this server can reach. No I/O.

A URL is looked at when it is set (`check_url`) and again at every attempt, when its name is resolved: if any address of
it is not public, nothing is sent (`refused_address`). What `HOLDFAST_WEBHOOK_ALLOW` names is exempt.

Public is what the special-purpose registries of RFC 6890 (IANA, IPv4 and IPv6) list as globally reachable, or do not
list at all; less some that lead elsewhere than they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec

from holdfast.errors import WebhookUrlRefused

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

URL_LENGTH_MAX: Final = 2048

_NOT_PUBLIC: Final = tuple(
    ip_network(text)
    for text in (
        # "Globally reachable: false" in the IPv4 registry.
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
        # Relays to IPv6, groups, and the address at which one cloud answers its guests.
        *("192.88.99.0/24", "224.0.0.0/4", "168.63.129.16/32"),
        # The same in the IPv6 registry.
        *("::1/128", "::/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32"),
        *("3fff::/20", "fc00::/7", "fe80::/10"),
        # IPv4 addresses in disguise, segment routing, what was site-local, groups.
        *("::/96", "::ffff:0:0/96", "64:ff9b::/96", "2002::/16", "5f00::/16", "fec0::/10", "ff00::/8"),
    )
)
# Inside those, what the registries list as globally reachable.
_YET_PUBLIC: Final = tuple(
    ip_network(text)
    for text in (
        *("192.0.0.9/32", "192.0.0.10/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32"),
        *("2001:4:112::/48", "2001:20::/28", "2001:30::/28"),
    )
)

_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
# Where the last label is a number, the name is one of the old spellings of an IPv4 address.
_NUMBER: Final = re.compile(r"([0-9]+|0x[0-9a-f]*)\Z")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public network."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    return not _is_in(address, _NOT_PUBLIC) or _is_in(address, _YET_PUBLIC)


class Allowed(msgspec.Struct, frozen=True):
    """What is exempt: hosts, on one port or on all, and networks."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Allowed:
        """
        Read `localhost`, `localhost:9000`, `10.1.2.3:9000`, `[::1]:9000`, `10.1.0.0/16`.

        Raises:
            ValueError: an entry is none of these; the message names it.
        """
        hosts: set[tuple[str, int | None]] = set()
        networks: list[Network] = []
        for entry in entries:
            try:
                networks.append(ip_network(entry.strip("[]")))  # an address is a network of one
                continue
            except ValueError:
                if "/" in entry:
                    raise ValueError(f"{entry!r} is no network (its host bits must be 0)") from None
            hosts.add(_host_and_port(entry))
        return cls(frozenset(hosts), tuple(networks))

    def has_host(self, host: str, port: int) -> bool:
        return (host, None) in self.hosts or (host, port) in self.hosts

    def has_address(self, address: Address) -> bool:
        return _is_in(address, self.networks)


class Target(msgspec.Struct, frozen=True):
    """A URL that passed."""

    scheme: str
    host: str  # in lower case; an IPv6 address without brackets
    port: int
    path: str  # with the query
    address: Address | None  # the host, where it is an address

    @property
    def authority(self) -> str:
        """The header Host."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS: Final = {"https": 443, "http": 80}


def check_url(url: str, allowed: Allowed, *, needs_tls: bool = True) -> Target:
    """
    The parts of a URL that may be called, as far as it tells by itself.

    Raises:
        WebhookUrlRefused
    """
    parts = _split(url)
    host, port = parts.hostname or "", _port(parts)
    address = _address_of(host, parts.netloc)
    is_exempt = allowed.has_host(host, port) or (address is not None and allowed.has_address(address))
    if needs_tls and parts.scheme != "https" and not is_exempt:
        raise WebhookUrlRefused("the URL of a webhook begins with https://")
    if address is None and ("[" in parts.netloc or not _is_name(host)):
        raise WebhookUrlRefused(f"{host[:80]!r} is no DNS name, nor an IP address in its canonical form")
    if address is not None and not is_exempt and not is_public(address):
        raise WebhookUrlRefused(f"{host} is no public address")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path, address)


def refused_address(target: Target, addresses: Sequence[Address], allowed: Allowed) -> Address | None:
    """The first of the addresses of a target that may not be called; None: all may."""
    if allowed.has_host(target.host, target.port):
        return None
    for address in addresses:
        if not is_public(address) and not allowed.has_address(address):
            return address
    return None


def _host_and_port(entry: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{entry}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{entry!r} is no host, host:port or network") from None
    if not host or "@" in entry or parts.path or parts.query or port == 0:
        raise ValueError(f"{entry!r} is no host, host:port or network")
    return host, port


def _split(url: str) -> SplitResult:
    if len(url) > URL_LENGTH_MAX or not url.isascii() or any(not "!" <= character <= "~" for character in url):
        raise WebhookUrlRefused(f"a URL is up to {URL_LENGTH_MAX} visible ASCII characters")
    try:
        parts = urlsplit(url)
        hostname = parts.hostname
    except ValueError as exc:
        raise WebhookUrlRefused(f"this is no URL: {exc}") from None
    if parts.scheme not in _PORTS or not hostname:
        raise WebhookUrlRefused("the URL of a webhook begins with https:// and names a host")
    if "@" in parts.netloc:
        raise WebhookUrlRefused("a URL with a user or a password in it is not taken")
    if "#" in url:
        raise WebhookUrlRefused("a URL with a fragment is not taken")
    if "\\" in url:
        raise WebhookUrlRefused("a URL with a backslash is not taken")
    return parts


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        raise WebhookUrlRefused("the port of the URL is a number from 1 to 65535") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise WebhookUrlRefused("the port of the URL is a number from 1 to 65535")
    return port or _PORTS[parts.scheme]


def _address_of(host: str, netloc: str) -> Address | None:
    """The address that a host is, written as addresses are; None: it is a name, or another spelling of an address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if str(address) not in netloc or str(address) != host:
        raise WebhookUrlRefused(f"write the address as {address}")
    return address


def _is_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return len(host) <= 253 and all(map(_LABEL.match, labels)) and not _NUMBER.match(labels[-1])


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
