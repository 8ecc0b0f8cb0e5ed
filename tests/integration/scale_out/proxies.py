"""The proxies of docs/guides/scale-out.md, run with the configuration that is printed there."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.cli.commands import until

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "scale-out.md"
NAME = "agents.example.com"
PROXIES = ("nginx", "caddy")


def program(name: str) -> str:
    """Where a program is; the test is skipped where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def snippet(heading: str, **puts: str) -> str:
    """The block that follows a line of the guide that begins so, with these things put in; each has to be there."""
    lines = iter(GUIDE.read_text().splitlines())
    next(line for line in lines if line.startswith(heading))
    next(lines)
    block = []
    for line in lines:
        if line and not line.startswith("    "):
            break
        block.append(line.removeprefix("    "))
    return put_in("\n".join(block), puts)


def put_in(text: str, puts: Mapping[str, str]) -> str:
    for old, new in puts.items():
        assert old in text, f"{old!r} is not in the guide any more"
        text = text.replace(old, new)
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def running_proxy(kind: str, folder: Path, first: str, second: str) -> Iterator[str]:
    """The URL of a proxy before these two servers, given as host and port."""
    port = free_port()
    folder.mkdir()
    backends = {"10.0.0.11:8000": first, "10.0.0.12:8000": second}
    command, url = _nginx(folder, port, backends) if kind == "nginx" else _caddy(folder, port, backends)
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as popen:
        try:
            until(lambda: listens(port) or popen.poll() is not None, (folder / "log").read_text)
            assert popen.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            popen.terminate()


def _nginx(folder: Path, port: int, backends: Mapping[str, str]) -> tuple[list[str], str]:
    certificate = folder / "certificate.pem"
    subprocess.run(
        [
            *(
                program("openssl"),
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "1",
                "-subj",
                f"/CN={NAME}",
            ),
            *("-keyout", folder / "key.pem", "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    puts = {
        "listen 443": f"listen 127.0.0.1:{port}",
        f"/etc/ssl/{NAME}.pem": str(certificate),
        f"/etc/ssl/{NAME}.key": str(folder / "key.pem"),
    }
    places = "".join(
        f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"daemon off; pid {folder / 'pid'}; error_log stderr; {'user root;' if os.geteuid() == 0 else ''}\n"
        f"events {{}}\nhttp {{ access_log off; {places}\n{put_in(snippet('nginx, within'), {**backends, **puts})}\n}}\n"
    )
    (folder / "nginx.conf").write_text(whole)
    return [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")], f"https://127.0.0.1:{port}"


def _caddy(folder: Path, port: int, backends: Mapping[str, str]) -> tuple[list[str], str]:
    # Without TLS: a certificate for that name is for those to get who own it.
    puts = {f"{NAME} {{": f"http://{NAME}:{port} {{\n    bind 127.0.0.1"}
    whole = f"{{\n    admin off\n    storage file_system {folder}\n}}\n" + put_in(
        snippet("Caddy:"), {**backends, **puts}
    )
    (folder / "Caddyfile").write_text(whole)
    command = [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    return command, f"http://127.0.0.1:{port}"


def listens(port: int) -> bool:
    """Whether something takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
