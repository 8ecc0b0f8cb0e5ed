"""Which commands for a shell a person is asked about: `classify`, its table, and what no spelling hides."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.agents.tools.shell_rules import classify
from holdfast.agents.tools.shell_syntax import commands_of
from holdfast.agents.tools.shell_words import Unparsed

BASH = shutil.which("bash")

DESTRUCTIVE = "destructive_shell"
UNPARSED = "unparsed_shell"

FILLED = frozenset({"/w/full", "/w/a b", "/etc/hosts", "/w/sub/full"})


class FakeDisk:
    """Two roots, a link out of the first one, some files with something in them."""

    def resolve(self, path: str) -> str:
        path = os.path.normpath(path)
        return f"/srv{path.removeprefix('/w/link')}" if path == "/w/link" or path.startswith("/w/link/") else path

    def is_filled(self, path: str) -> bool:
        return os.path.normpath(path) in FILLED


def rule_of(command: str) -> str | None:
    return classify(command, ["/w", "/data"], files=FakeDisk())


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /srv/old",
        "rm -r /srv",
        "rm --recursive /srv",
        "rm --rec /srv",
        "rm /srv -fR",
        "rm -rf build /srv",
        "rm -rf ../x",
        "rm -rf /w/../srv",
        "rm -rf link/x",
        "rm -rf link/.",
        "rm -rf /proc/self/cwd/x",
        "rm -rf /srv/*",
        "rm -rf /sr*",
        "rm -rf link/*",
        "/bin/rm -rf /srv",
        "\\rm -rf /srv",
        "r'm' -r\"\"f $'/srv'",
        "X=1 rm -rf /srv",
        "cd /srv && rm -rf old",
        "cd ..; rm -rf x",
        "cd sub && cd .. && cd .. && rm -rf x",
        "ls; rm -rf /srv",
        "ls & rm -rf /srv",
        "ls\nrm -rf /srv",
        "ls | rm -rf /srv",
        "ls |& rm -rf /srv",
        "true || rm -rf /srv",
        "! rm -rf /srv",
        "time -p rm -rf /srv",
        "{ rm -rf /srv; }",
        "(rm -rf /srv)",
        "( (rm -rf /srv) )",
        "if true; then rm -rf /srv; fi",
        "if rm -rf /srv; then :; fi",
        "for f in a b; do rm -rf /srv; done",
        "for ((i = 0; i < 3; i++)); do rm -rf /srv; done",
        "while rm -rf /srv; do ls; done",
        "case $x in a | b) rm -rf /srv ;; *) ls ;; esac",
        "case x in (a) ls ;; esac; rm -rf /srv",
        "f() { rm -rf /srv; }",
        "function f { rm -rf /srv; }",
        "echo $(rm -rf /srv)",
        "echo `rm -rf /srv`",
        "echo \"a $(rm -rf '/srv') b\"",
        'echo "`rm -rf /srv`"',
        "echo ${x:-$(rm -rf /srv)}",
        "echo $((1 + $(rm -rf /srv)))",
        "diff <(ls) <(rm -rf /srv)",
        "x=$(rm -rf /srv)",
        "a=(1 $(rm -rf /srv))",
        "[[ -n $(rm -rf /srv) ]]",
        "[[ -f x && $y == a ]] && rm -rf /srv",
        "(( x > 3 )) && rm -rf /srv",
        "cat <<EOF\n$(rm -rf /srv)\nEOF\n",
        "cat <<A <<B\nx\nA\ny\nB\nrm -rf /srv",
        "cat <<-'EOF'\n\tx\n\tEOF\nrm -rf /srv",
        "ls # here\nrm -rf /srv",
        "ls \\\n  -la; rm -rf /srv",
        "sh -c 'rm -rf /srv'",
        "bash -lc 'rm -rf /srv' name",
        "bash -o pipefail -c 'rm -rf /srv'",
        "bash -c 'sh -c \"rm -rf /srv\"'",
        "bash <<EOF\nrm -rf /srv\nEOF",
        "bash <<< 'rm -rf /srv'",
        "eval 'rm -rf' /srv",
        "eval -- 'rm -rf /srv'",
        "trap 'rm -rf /srv' EXIT",
        "sudo -u root rm -rf /srv",
        "env A=1 rm -rf /srv",
        "env -S 'rm -rf /srv'",
        "env '--split-string=rm -rf /srv'",
        "nohup nice -n 5 timeout -k 5 10 rm -rf /srv",
        "command rm -rf /srv",
        "exec rm -rf /srv",
        "busybox rm -rf /srv",
        "su root -c 'rm -rf /srv'",
        "chroot / rm -rf /srv",
        "find /srv -delete",
        "find /srv -name x -exec rm -rf {} \\;",
        "find . -exec rm -rf /srv +",
        "find . -exec sh -c 'rm -rf /srv' \\;",
        "xargs rm -rf /srv",
        "shred x",
        "chmod -R 777 .",
        "chmod --recursive 777 .",
        "chown -hR a b",
        "chgrp -R a b",
        ": > full",
        "> full",
        ">| full",
        "true &> full",
        "echo -n > full",
        "printf '' > full",
        "cat /dev/null > full",
        "cat < /dev/null > full",
        "echo x > full > other",
        "cd sub; > full",
        "echo x > /etc/hosts",
        "echo x 2> /etc/hosts",
        "{ echo x; } > /etc/hosts",
        "truncate -s 0 full",
        "truncate -cs 0 full",
        "truncate --size=0 'a b'",
        "cp /dev/null full",
        "dd if=/dev/null of=full",
    ],
)
def test_what_destroys_is_destructive_wherever_it_stands(command: str) -> None:
    assert rule_of(command) == DESTRUCTIVE


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf $x",
        'rm -rf "$x"',
        "rm -r -- $x",
        "rm $x",
        'rm "$a" "$b"',
        'rm "$@"',
        'rm "${names[@]}"',
        "rm -rf {/srv,/etc}",
        "rm -rf ~/x",
        "rm -rf */x",
        "rm -rf $'\\x2fsrv'",
        "rm * /srv/x",
        "chmod $x",
        'chmod 644 "$a" "$b"',
        ": > $f",
        "> *.log",
        "truncate -s 0 $f",
        "cp /dev/null $f",
        "cd $d; rm -rf x",
        "cd; rm -rf x",
        "cd -; rm -rf x",
        "pushd sub; rm -rf x",
        "CDPATH=/srv; cd sub; rm -rf x",
        "for i in 1 2; do rm -rf x; cd ..; done",
        "f() { rm -rf x; }; cd sub; f",
        "env -C sub rm -rf x",
        'f() { rm -rf "$1"; }; f /srv',
        "while read -r l; do rm -rf $l; done",
        "$x",
        "$(echo rm) -rf /srv",
        "/bin/r? -rf /srv",
        "sudo $x -rf /srv",
        "eval $x",
        'bash -c "$x"',
        'bash -c "rm -rf $x"',
        "echo hi | sh",
        "bash -s < $x",
        "bash <<EOF\nrm -rf $x\nEOF",
        ". <(echo hi)",
        "source /dev/stdin",
        "alias ls='rm -rf'",
        "hash -p /bin/rm ls",
        "find . | xargs rm -rf",
        "find . | xargs -I{} rm -rf {}",
        "find . -exec $x \\;",
        "find . $x",
        "find . -name $x",
        "find -L . -delete",
        "find . -name '*.log' -exec truncate -s 0 {} +",
        "coproc rm -rf x",
        # No shell text, or nothing that is read here.
        "'open",
        '"open',
        "`open",
        "$(open",
        "${open",
        "echo ${x:-'}'}",
        "${ rm -rf /srv; }",
        "( open",
        "ls )",
        "ls ;; ls",
        "case x in a) ls",
        "cat <<EOF\nopen",
        "cat <<EOF",
        "echo \\",
        "ls; ; ls",
        "if\\\n rm -rf /srv; then ls; fi",
        'echo "$\\\n(rm -rf /srv)"',
        "a=(x)#b; rm -rf /srv",
        "ls\0",
        "( " * 200 + "ls" + " )" * 200,
        "x" * 70_000,
    ],
)
def test_what_cannot_be_known_is_asked_about(command: str) -> None:
    assert rule_of(command) == UNPARSED


@pytest.mark.parametrize(
    "command",
    [
        "",
        "  \n",
        "# rm -rf /srv",
        "ls -la; grep -r foo . | head",
        "rm -rf build",
        "rm -rf /data/x /w/y",
        "rm -rf link",  # the link itself
        "rm -rf *",
        "rm -rf sub/*.o",
        "rm -f /srv/x",
        "rm *.log",
        'rm -f -- "$a" "$b"',
        "cd sub; rm -rf x",
        "cd /data && rm -rf x",
        'for f in *.log; do rm "$f"; done',
        "echo 'rm -rf /srv'",
        "echo rm -rf /srv",
        "cat <<'EOF' > x.sh\nrm -rf /srv\n$(rm -rf /srv)\nEOF\n",
        "git commit -m \"$(cat <<'EOF'\nit's done\nEOF\n)\"",
        "timeout 5 rm -rf build",
        "sh script.sh",
        "bash --version",
        "python x.py > out.txt 2>&1",
        "echo x > full",
        "echo x >> /etc/hosts",
        "ls 2>/dev/null >&2",
        "> new",
        ": >> full",
        "truncate -s +5 full",
        "truncate -s 0 new",
        "cp a b",
        "chmod 644 f",
        "chmod -rwx f",
        'chmod 644 "$f"',
        "chown me: *.txt",
        "find . -name x -delete",
        "find . -name node_modules -exec rm -rf {} +",
        "find . -type f -name '*.py' | xargs wc -l",
        "find . | xargs grep x",
        "trap - EXIT",
        'source "$HOME/.venv/bin/activate"',
        'export X=1 && make -j4 && ./run --flag="$X"',
        "a=(1 2 3); echo ${a[@]} ${#a} ${x//a/b} $((3 * (2 + 1)))",
        "if [ -f x ]; then\n  ls\nelif [[ $x == a* ]]; then\n  ls\nfi",
        'while read -r l; do echo "$l"; done < f',
        "for ((i = 0; i < 3; i++)); do echo $i; done",
        "f() {\n  local x=1\n  echo $x\n}\nf",
        "case $x in a | b) ls ;; *) : ;; esac",
    ],
)
def test_all_else_runs(command: str) -> None:
    assert rule_of(command) is None


# What is put around a command without changing what it does.
AROUND = [
    "{}",
    "ls; {}",
    "ls && {}",
    " ({})",  # a blank before it, for two in a row are arithmetic
    "{{ {}; }}",
    "if true; then {}; fi",
    "while true; do {}; done",
    "x=$({})",
    'echo "$({})"',
    "ls | {}",
    "f() {{ {}; }}; f",
    "case a in a) {} ;; esac",
    "! {}",
    "cat <(\n{}\n)",
    "ls <<EOF\ntext\nEOF\n{}",
    "ls # comment\n{}",
    "ls > out 2>&1; {}",
    "for i in 1; do ls; done; {}",
]


def spelled(text: str, marks: list[str]) -> str:
    """A word whose characters are quoted in some of the ways in which they may be."""
    ways = {"plain": "{}", "single": "'{}'", "double": '"{}"', "backslash": "\\{}", "empty": "''{}"}
    return "".join(ways[mark].format(character) for character, mark in zip(text, marks, strict=False))


@given(
    marks=st.lists(st.sampled_from(["plain", "single", "double", "backslash", "empty"]), min_size=4, max_size=4),
    around=st.lists(st.sampled_from(AROUND), max_size=4),
)
def test_no_spelling_and_no_surroundings_hide_what_destroys(marks: list[str], around: list[str]) -> None:
    command = f"{spelled('rm', marks)} {spelled('-rf', marks)} {spelled('/srv', marks)}"

    for template in around:
        command = template.format(command)

    assert rule_of(command) == DESTRUCTIVE


@given(st.text(alphabet="rm -/'\"$`\\(){}[]<>|&;\n#=*~xiftdone\0é", max_size=60))
def test_any_text_is_classified_and_none_is_an_error(text: str) -> None:
    assert rule_of(text) in (None, DESTRUCTIVE, UNPARSED)


# fmt: off
PIECES = [
    " ", "; ", "\n", " && ", " | ", "(", ")", "{ ", "; }", "'", '"', "`", "$(", "$((", "))", "${x", "}", "\\", "#", "if ", "; then ",
    "; fi", "for x in ", "; do ", "; done", "case x in ", "x) ", ";; ", " esac", "f() ", "<<E\n", "\nE\n", "<(", "[[ ", " ]]", "((",
    "x=", "! ", "time ", "a", "$x", "mark", " mark ", "mark", "<<<", "=(", "in ",
]
# fmt: on
FRAGMENTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
@settings(max_examples=30, deadline=None)
@given(st.lists(FRAGMENTS, min_size=20, max_size=20))
def test_bash_runs_no_command_that_was_not_seen(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """`mark` is a command; whenever bash runs it, the text was refused or the command was found."""
    directory = tmp_path_factory.mktemp("bash")
    unseen = [text for text in texts if "mark" in text and not _sees_mark(text)]

    ran = [text for text in unseen if _runs_mark(text, directory)]

    assert ran == []


def _sees_mark(text: str) -> bool:
    try:
        commands = commands_of(text)
    except Unparsed:
        return True
    # A word that is computed may be anything.
    return any(command.words and command.words[0].literal in ("mark", None) for command in commands)


def _runs_mark(text: str, directory: Path) -> bool:
    assert BASH is not None
    script = f"mark() {{ echo ran > ran; }}\n{text}"
    subprocess.run(
        [BASH, "--norc", "-c", script],
        cwd=directory,
        env={"PATH": "/nowhere"},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    ran = directory / "ran"
    if not ran.exists():
        return False
    ran.unlink()
    return True


HEAVY = [
    "(",
    "$((",
    '"$(',
    "{",
    "`",
    "! ",
    "if ",
    "time ",
    "${x:-",
    "$(( ) ",
    "f() ",
    "case x in ",
    '"',
    "<(",
    "a=(",
    "<<E ",
]


@pytest.mark.parametrize("text", [*HEAVY, "sudo ", "bash -c ", "cd a; "])
def test_text_that_is_made_to_be_heavy_is_read_with_bounded_effort(text: str) -> None:
    command = text * (60_000 // len(text))

    assert rule_of(f"{command}; rm -rf /srv") is not None
