#!/usr/bin/env bash
# Make .venv: the pinned uv, everything in requirements/dev.lock by hash, and this project, editable.
#
# Nothing is done when .venv was made from the same files in the same place. PYTHON=… chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.setup
wanted="$PWD $(cat pyproject.toml requirements/bootstrap.lock requirements/dev.lock scripts/setup.sh | cksum)"
if [ -x .venv/bin/holdfast ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
    exit 0
fi

say() { printf 'setup: %s\n' "$*" >&2; }

# Tried by running it: a name on the PATH may be a stub, too old, or without the parts that a venv needs.
usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    say "no Python >= 3.11 with venv and pip was found (tried: ${PYTHON:-python3.13 python3.12 python3.11 python3 python})."
    say "Install one (on Debian and Ubuntu also the package python3-venv), or name it: make setup PYTHON=/path/to/python"
    return 1
}

# A .venv of another place has scripts that point there; one without its interpreter is of no use.
if [ -e .venv ] && ! { usable .venv/bin/python && [ "$(cut -d' ' -f1 "$stamp" 2>/dev/null)" = "$PWD" ]; }; then
    say "making .venv again"
    rm -rf .venv
fi
if [ ! -e .venv ]; then
    python=$(find_python)
    say "creating .venv with $("$python" --version)"
    "$python" -m venv .venv
    echo "$PWD unfinished" >"$stamp"
fi

say "installing what requirements/ pins (the first time takes a minute)"
export PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV="$PWD/.venv"
pip() { .venv/bin/python -m pip --quiet "$@"; }

if pip install --require-hashes -r requirements/bootstrap.lock &&
    .venv/bin/uv pip sync --quiet --compile-bytecode --require-hashes requirements/bootstrap.lock requirements/dev.lock; then
    .venv/bin/uv pip install --quiet --offline --no-deps --no-build-isolation --editable .
else
    # uv reads no pip configuration (mirrors, certificates), so pip may succeed where uv cannot.
    say "uv could not install here; trying pip"
    pip install --require-hashes -r requirements/dev.lock
    pip install --no-deps --no-build-isolation --editable .
fi

echo "$wanted" >"$stamp"
say "done: .venv/bin/holdfast"
