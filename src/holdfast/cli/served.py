"""
From TARGETs, options and the environment to what a server is started with.

A TARGET is Python, or Dockfiles; a Dockfile brings settings and callers along, and variables for its agents' code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.access import Access
from holdfast.agents.assistant.limits import Limits
from holdfast.agents.assistant.program import AssistantProgram
from holdfast.agents.models import check_model, credentials_of
from holdfast.agents.registry import Registry, registry_of, registry_with
from holdfast.agents.target import TargetError, is_dockfile
from holdfast.cli.env_file import read_env_file
from holdfast.settings import Settings
from holdfast.variables import PREFIX, load_settings, unknown_variables

NO_FLAGS: Final[Mapping[str, Any]] = {}


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is started with. `load` imports the agents' code."""

    settings: Settings
    load: Callable[[], Registry]
    access: Access = Access()
    notices: tuple[str, ...] = ()


def read_served(
    targets: Sequence[str],
    flags: Mapping[str, Any] = NO_FLAGS,
    *,
    env_file: Path | None = None,
    settings: Settings | None = None,
) -> Served:
    """
    Read what is to be served. Variables of Dockfiles are set in this process, where they are unset.

    Args:
        settings: those that another process read from the same; then only the rest is taken.

    Raises:
        TargetError, InvalidSetting, InvalidDockfile: nothing was started.
    """
    if targets and is_dockfile(targets[0]):
        return _of_dockfiles(targets, flags, env_file, settings)
    if len(targets) > 1:
        raise TargetError("several TARGETs can be served only as Dockfiles; name one file.py, module or module:agent")
    if env_file is not None:
        raise TargetError("--env-file goes with a Dockfile; set the variables in the environment")
    read_env_file()
    found = settings or load_settings(os.environ, **flags)
    target = targets[0] if targets else None
    return Served(
        settings=found,
        load=lambda: registry_of(target, lambda: assistant_of(found), default=found.agent, catalog=found.catalog),
        notices=tuple(_notices(found)),
    )


def _notices(settings: Settings) -> list[str]:
    """What was set and has no effect, or not the one that it seems to have."""
    found = [
        f"{name} is set, but there is no such setting (docs/settings.md)" for name in unknown_variables(os.environ)
    ]
    found += [
        f"HOLDFAST_SKILLS_ROOTS: {root} is no directory, so it has no skills"
        for root in settings.skills_roots
        if not Path(root).is_dir()
    ]
    if settings.no_auth and (settings.keys or settings.key_hashes):
        found.append("--no-auth: no key is asked for, so the keys that are set have no effect")
    return found


def _of_dockfiles(
    targets: Sequence[str], flags: Mapping[str, Any], env_file: Path | None, settings: Settings | None
) -> Served:
    from holdfast.dockfile.loading import load_dockfiles
    from holdfast.dockfile.programs import program_of

    for target in targets:
        if not is_dockfile(target):
            raise TargetError(f"{target} beside a Dockfile: serve either Dockfiles or Python")
    has_keys = bool(flags.get("keys")) or (settings is not None and bool(settings.keys or settings.key_hashes))
    loaded = load_dockfiles([Path(target) for target in targets], os.environ, env_file=env_file, has_keys=has_keys)
    for name, text in loaded.environment.items():
        os.environ.setdefault(name, text)
    found = settings or load_settings(os.environ, file=loaded.settings, **flags)

    def load() -> Registry:
        programs = [program_of(plan, folder, file, found.restart) for plan, folder, file in loaded.agents]
        return registry_with(programs, lambda: assistant_of(found), default=found.agent, catalog=found.catalog)

    return Served(settings=found, load=load, access=loaded.access, notices=(*loaded.notices, *_notices(found)))


def assistant_of(settings: Settings) -> AssistantProgram:
    """
    The assistant as it is set.

    Raises:
        ModelNotConfigured: it, or a model beside it, cannot work.
    """
    main, main_key, main_url = settings.model, settings.model_key, settings.model_url
    for setting in ("model_light", "embedding_model"):
        name = getattr(settings, setting)
        if name is not None:
            access = credentials_of(name, main, main_key, main_url)
            check_model(name, *access, setting=f"{PREFIX}{setting.upper()}", embeds=setting == "embedding_model")
    return AssistantProgram(
        settings.model,
        key=settings.model_key,
        url=settings.model_url,
        fallback=settings.model_fallback,
        planner=settings.model_planner,
        max_tokens=settings.max_tokens,
        limits=Limits(
            iterations_max=settings.iterations_max,
            tokens_max=settings.turn_tokens_max,
            compaction=settings.compaction,
            tools_at_once=settings.tool_concurrency,
            hitl_expires_seconds=settings.hitl_expires_seconds,
        ),
        offline_word_delay_seconds=settings.offline_word_delay_seconds,
    )
