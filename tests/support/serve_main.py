"""`python -m tests.support.serve_main [AGENTS]`: a server that says on standard output, as JSON, when it listens."""

from __future__ import annotations

import os
import sys

import msgspec

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.registry import registry_of
from holdfast.server import Listening, serve
from holdfast.settings import Settings
from holdfast.variables import load_settings


def main() -> None:
    settings = load_settings(os.environ)
    target = sys.argv[1] if len(sys.argv) > 1 else None
    programs = registry_of(target, lambda: _assistant(settings), default=settings.agent, catalog=settings.catalog)
    serve(settings, programs, on_listening=tell)


def _assistant(settings: Settings) -> AssistantProgram:
    """The offline one, or the one that is set, as the command line makes it."""
    if settings.model is None:
        return AssistantProgram()
    from holdfast.cli.served import assistant_of

    return assistant_of(settings)


def tell(listening: Listening) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(listening) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
