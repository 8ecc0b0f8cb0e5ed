"""
Where the assistant's shell runs: in bubblewrap, with the roots and nothing else to write to, no network, no process and no
variable of the server. What cannot be seen cannot be read: of the machine there are the programs, and no one's files.

Without bubblewrap there is no shell, unless the operator said that he wants one nevertheless.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.agents.tools.tool import Ground

Health: TypeAlias = Literal["ok", "off", "error", "unknown"]

PROBE_SECONDS: Final = 10.0
# Files in memory count as memory, which is limited; so they are, too.
TEMPORARY_BYTES_MAX: Final = 256 * 1024 * 1024
SHARED_BYTES_MAX: Final = 64 * 1024 * 1024

# What stands in the place of a hidden directory can hold no more.
HIDDEN_BYTES: Final = 4096

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER_ID: Final = 1000

_ALL: Final = Path("/")
_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs need of /etc; names and addresses of people and machines are in other files.
_ETC: Final = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
_PASSWD: Final = f"shell:x:{USER_ID}:{USER_ID}:shell:{{home}}:/bin/bash\n"
_GROUP: Final = f"shell:x:{USER_ID}:\n"


class Shelter(msgspec.Struct, frozen=True):
    """What was found: how a shell may be run here. `reason` says why not."""

    health: Health
    reason: str = ""
    program: str = ""  # bubblewrap, where it is
    options: tuple[str, ...] = ()  # of bubblewrap, that not every version has


class Sandbox:
    """Finds out once how shells are run here. Its methods may be called from any thread."""

    def __init__(self, *, is_unsandboxed: bool = False, program: str = "bwrap") -> None:
        """
        Args:
            is_unsandboxed: without bubblewrap, run shells as they are.
        """
        self._is_unsandboxed = is_unsandboxed
        self._program = program
        self._shelter: Shelter | None = None
        self._lock = threading.Lock()

    @property
    def health(self) -> Health:
        """As far as it was looked at."""
        return "unknown" if self._shelter is None else self._shelter.health

    def shelter(self) -> Shelter:
        """How shells are run here; the first call starts a program and waits for it."""
        with self._lock:
            if self._shelter is None:
                self._shelter = self._found()
            return self._shelter

    def command(self, shelter: Shelter, ground: Ground, inner: Sequence[str], data: Mapping[str, int]) -> list[str]:
        """
        The command that runs another one in the workspace of a ground.

        `data` are file descriptors from which files are filled, by the paths at which they are then seen.
        """
        if shelter.health == "off":
            return list(inner)
        return [shelter.program, *shelter.options, *_isolation(), *_mounts(ground, data), "--", *inner]

    def _found(self) -> Shelter:
        program = shutil.which(self._program)
        reason = f"{self._program} (bubblewrap) is not installed"
        if program is not None:
            # An old bubblewrap cannot forbid namespaces inside; all else holds.
            for options in (("--unshare-user", "--disable-userns"), ("--unshare-user",)):
                reason = _fault_of(program, options)
                if not reason:
                    return Shelter("ok", program=program, options=options)
        return Shelter("off" if self._is_unsandboxed else "error", reason)


def _fault_of(program: str, options: tuple[str, ...]) -> str:
    """Why a shell does not run in bubblewrap; empty: it does."""
    command = [program, *options, *_isolation(), *_system(), "--remount-ro", "/dev", "--", "bash", "-c", ":"]
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": PATH},
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"bubblewrap does not run: {exc}"
    if ran.returncode == 0:
        return ""
    told = ran.stderr.decode(errors="replace").strip()[:300]
    return f"bubblewrap does not work here: {told or f'exit status {ran.returncode}'}"


def environment(home: Path) -> dict[str, str]:
    """All variables of a shell."""
    return {"HOME": str(home), "LANG": "C.UTF-8", "PATH": PATH, "TERM": "dumb", "TMPDIR": "/tmp", "USER": "shell"}  # noqa: S108 - its own


def people(home: Path) -> dict[str, str]:
    """Files that name the only user."""
    return {"/etc/passwd": _PASSWD.format(home=home), "/etc/group": _GROUP}


def _mounts(ground: Ground, data: Mapping[str, int]) -> Iterator[str]:
    is_all_bound = _ALL in ground.roots
    if is_all_bound:
        yield from ("--bind", str(_ALL), str(_ALL))
    yield from _system()
    for path, descriptor in data.items():
        yield from ("--ro-bind-data", str(descriptor), path)
    yield from _roots(ground)
    # The directories above the mounts are made in memory; nobody is to fill it.
    yield from ("--remount-ro", "/dev")
    if not is_all_bound:
        yield from ("--remount-ro", "/")
    yield from ("--chdir", str(ground.roots[0]))


def _roots(ground: Ground) -> Iterator[str]:
    """The roots, and over them what is hidden or kept; what lies deeper comes later and wins."""
    roots = [root for root in ground.roots if root != _ALL]
    walled = [
        path for path in (*ground.hidden, *ground.kept) if any(path.is_relative_to(root) for root in ground.roots)
    ]
    for path in sorted({*roots, *walled}, key=lambda path: len(path.parts)):
        # Nothing that is the server's own is in a workspace, though this may be in what is hidden.
        if path in roots and (path not in walled or path == ground.roots[0]):
            yield from ("--bind", str(path), str(path))
        elif path not in ground.hidden:
            yield from ("--ro-bind-try", str(path), str(path))
        elif path.is_dir():
            yield from ("--size", str(HIDDEN_BYTES), "--tmpfs", str(path))
        elif path.exists():
            yield from ("--ro-bind", os.devnull, str(path))


def _isolation() -> Iterator[str]:
    for namespace in ("ipc", "pid", "net", "uts"):
        yield f"--unshare-{namespace}"
    yield from ("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
    yield from ("--uid", str(USER_ID), "--gid", str(USER_ID), "--hostname", "sandbox")


def _system() -> Iterator[str]:
    """Programs and libraries, and the places that every program expects."""
    yield from ("--ro-bind", "/usr", "/usr")
    for path in _SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for path in _ETC:
        yield from ("--ro-bind-try", path, path)
    yield from ("--proc", "/proc", "--dev", "/dev")
    yield from ("--size", str(SHARED_BYTES_MAX), "--tmpfs", "/dev/shm")  # noqa: S108 - the sandbox's own
    yield from ("--size", str(TEMPORARY_BYTES_MAX), "--tmpfs", "/tmp")  # noqa: S108 - likewise
