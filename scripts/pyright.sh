#!/usr/bin/env bash
# Check the types of the examples with pyright too, for that is what many editors ask. mypy sees to everything else.
#
# basedpyright is pyright in a wheel, with a Node of its own: 75 MB to load and 300 MB on disk, so it is installed by
# the first `make check`, and not by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.pyright
wanted=$(cksum <requirements/pyright.lock)
if ! { [ -x .venv/bin/basedpyright ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; }; then
    echo "pyright: installing what requirements/pyright.lock pins (75 MB, once)" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/pyright.lock
    echo "$wanted" >"$stamp"
fi
exec .venv/bin/basedpyright "$@"
