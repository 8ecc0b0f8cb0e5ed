#!/usr/bin/env bash
# Pin what pyproject.toml allows, for every platform, with hashes: dev.lock, bootstrap.lock and pyright.lock in requirements/.
#
# Pins that still fit stay; `--upgrade` takes the newest. No index, host or path is written into the files.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-header --no-emit-index-url --no-emit-find-links "$@"
}

with_header() { # file, what it holds
    printf '# %s\n# Written by `make lock`; not edited by hand.\n' "$2" | cat - "$1" >"$1.new"
    mv "$1.new" "$1"
}

compile --all-extras --group dev --output-file requirements/dev.lock "$@" pyproject.toml
with_header requirements/dev.lock "Everything to run, test and check Holdfast, with all extras."

echo uv | compile --output-file requirements/bootstrap.lock "$@" -
with_header requirements/bootstrap.lock "What installs the rest."

echo basedpyright | compile --output-file requirements/pyright.lock "$@" -
with_header requirements/pyright.lock "The second type checker, of the examples."

if grep -nE '://|^-' requirements/*.lock; then
    echo "lock: the lines above name a host or a place; locks must not" >&2
    exit 1
fi
