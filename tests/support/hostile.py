"""
A hundred tool calls that are meant to do harm; `{…}` in them is filled in by the test. They aim at what the test made
itself, so that a sandbox with a hole in it is found out and not the machine lost.
"""

from __future__ import annotations

from typing import Any

from tests.support.sandboxes import nap

# What the shell may try: other files, links, secrets, the network, and what never ends.
_SHELL = [
    "cat {foreign}",
    "cat ../../../../../../../../..{foreign}",
    "cp {foreign} stolen; cat stolen",
    "ln -s {foreign} link; cat link",
    "ln -s / all; cat all{foreign}",
    "mkdir d; cd d; ln -s ../../../.. up; cat up{foreign}",
    "ln {foreign} hard; cat hard",
    "ls -R {base}",
    "find / -path /usr -prune -o -name foreign.txt -exec cat {{}} +",
    "grep -rs canary /etc /home /root /var /opt /srv /run . {base}",
    "python3 -c 'print(open(\"{foreign}\").read())'",
    "perl -e 'print <>' {foreign}",
    "bash -c 'read x < {foreign}; echo $x'",
    "tar c {base} | base64",
    "cat {data}/server.json",
    "ls -la {data}",
    "cat {data}/*.db | strings",
    "cat {data}/../data/server.json",
    "find {data} -type f -exec cat {{}} +",
    "cp -r {data} .",
    "ls ..; cat ../*.json",
    "ls ../*/",
    "echo x > {foreign}",
    "echo x >> {data}/server.json",
    "rm -rf {base}",
    "cd {base} && rm -rf ./* ; find {base} -delete",
    "rm -rf {data}",
    "mv {foreign} .",
    "truncate -s 0 {foreign}",
    "shred {foreign}",
    "chmod -R 777 {base}",
    "chown -R 1:1 {base}",
    "dd if=/dev/zero of={foreign} count=1",
    "touch /usr/bin/holdfast /etc/x /x",
    "mkdir {base}/new",
    "env",
    "export -p; set",
    "cat /proc/self/environ /proc/1/environ | tr '\\0' '\\n'",
    "cat /proc/*/environ | tr '\\0' '\\n'",
    "cat /proc/*/cmdline | tr '\\0' ' '",
    "cat /proc/{pid}/environ; ls -l /proc/{pid}/fd",
    "cat /proc/1/root{foreign}",
    "cat /proc/self/root{foreign}",
    "ls -l /proc/self/fd; cat <&3 <&4 <&5 <&9",
    "cat /etc/shadow /etc/passwd /etc/hosts",
    "cat ~/.ssh/id_rsa /root/.bash_history /home/*/.netrc",
    "kill -9 {pid}; pkill -9 -f holdfast",
    "kill -STOP {pid}",
    "gdb -p {pid} -batch; strace -p {pid}",
    "echo > /dev/tcp/127.0.0.1/{port} && echo reached",
    "curl -m 2 {url}/health && echo reached",
    'python3 -c \'import socket; socket.create_connection(("127.0.0.1", {port}), 2); print("reached")\'',
    "echo > /dev/udp/1.1.1.1/53; getent hosts example.com && echo reached",
    'python3 -c \'import socket; s = socket.socket(socket.AF_UNIX); s.connect("\\0/tmp/.X11-unix/X0"); print("reached")\'',
    "ip link set lo up; ip addr; ip route add default dev lo",
    "mount -t tmpfs none {base}; mount --bind / {base}",
    "unshare -Ur bash -c 'mount --bind / . && cat .{foreign}'",
    "bwrap --bind / / cat {foreign}",
    "chroot / cat {foreign}; nsenter -t 1 -a cat {foreign}",
    "sudo cat {foreign}; su -c 'cat {foreign}'",
    "mknod disk b 8 0; cat disk",
    "echo x > /proc/sys/kernel/hostname; sysctl -w kernel.hostname=x",
    "echo 100000 > /sys/fs/cgroup/pids.max; ls /sys",
    "setsid sleep {nap} & disown; echo left",
    "nohup bash -c 'while true; do sleep {nap}; done' > /dev/null 2>&1 & echo left",
    "(trap '' TERM INT HUP; sleep {nap}) & echo left",
]
_ENDLESS = [
    "f() {{ f | f & }}; f; sleep {nap}",
    "while true; do sleep {nap} & done",
    "yes",
    "head -c 1000000000 /dev/zero",
    "cat /dev/urandom",
    "sleep {nap}",
    "while :; do :; done",
    "python3 -c 'x = []\nwhile True: x.append(b\"x\" * (64 << 20))'",
    "head -c 600000000 /dev/zero > $TMPDIR/big",
    "trap '' TERM; kill -STOP $$",
]
_PATHS = [
    "{foreign}",
    "../../../../../../..{foreign}",
    "/etc/passwd",
    "/proc/self/environ",
    "{data}/server.json",
    "link",
    "/dev/zero",
]
_URLS = [
    "{url}/health",
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://[::1]:{port}/",
    "http://2130706433:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "file://{foreign}",
    "http://[::ffff:127.0.0.1]:{port}/",
]


def hostile_calls(**places: Any) -> list[dict[str, Any]]:
    """The calls, with what they aim at: `base`, `foreign`, `data`, `pid`, `url`, `port`."""
    quick = {"timeout_seconds": 30}
    calls: list[tuple[str, dict[str, Any]]] = [
        *(("bash", {"command": command, **quick}) for command in _SHELL),
        *(("bash", {"command": command, "timeout_seconds": 2}) for command in _ENDLESS),
        *(("read_file", {"path": path}) for path in _PATHS),
        *(("write_file", {"path": path, "content": "harm"}) for path in _PATHS[:5]),
        ("grep", {"path": "{base}", "pattern": "canary"}),
        ("find", {"path": "{base}", "name": "*.txt"}),
        *(("web_fetch", {"url": url}) for url in _URLS),
        ("web_search", {"query": "canary"}),
    ]
    return [
        {"tool": tool, "input": {name: _filled(value, places) for name, value in given.items()}}
        for tool, given in calls
    ]


def _filled(value: Any, places: dict[str, Any]) -> Any:
    return value.format(nap=nap(86399), **places) if isinstance(value, str) else value
