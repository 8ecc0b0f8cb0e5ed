"""
From variables, flags and a Dockfile to settings: which variable gives which, and what wins.

Flags come first, then `HOLDFAST_<NAME>`, then other documented names, then what a Dockfile says, then the default. Nothing else
reads the environment for settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from holdfast.settings import InvalidSetting, Settings

PREFIX: Final = "HOLDFAST_"

# Names under which users of the documented APIs know a setting. Ours wins.
ALIASES: Final[Mapping[str, str]] = {
    "store": "SQLITE_DB_PATH",
    "model_key": "LLM_API_KEY",
    "model_url": "LLM_BASE_URL",
    "model_fallback": "FALLBACK_MODEL",
    "model_light": "LIGHT_MODEL",
    "model_planner": "PLANNER_MODEL",
    "max_tokens": "MAX_TOKENS",
    "tool_concurrency": "*_MAX_TOOL_USE_CONCURRENCY",  # whatever stands before it; of several the smallest counts
    "hitl_expires_seconds": "CHANNEL_STATE_TTL_HITL",
    "compaction": "REACTIVE_COMPACT_ENABLED",
    "embedding_model": "EMBEDDING_MODEL",
    "log_level": "ENGINE_LOG_LEVEL",
    "catalog": "CATALOG_DIR",
    "roots": "ALLOWED_ROOTS",
    "key_overlap_seconds_max": "BAP_KEY_ROTATION_MAX_OVERLAP_SECONDS",
    "asset_key": "AD_ENCRYPTION_KEY",
    "public_url": "OAUTH_REDIRECT_BASE_URL",
}

# Names that are put together to a setting, or added to it.
_MODEL: Final = ("LLM_PROVIDER", "LLM_MODEL")
_KEYS: Final = ("ENGINE_API_KEY", "ENGINE_KEY_HASH")

# Variables of clients, of Dockfiles and of the tests: known, but nothing to this server.
_OTHERS: Final = re.compile(r"ENGINE_URL|ENGINE_KEY|HOLDFAST_(URL|KEY|API_KEY.*|FAULTS_.*|FLOOR_FILE)")
_OURS: Final = re.compile(r"(HOLDFAST|ENGINE|LLM|BAP|CHANNEL_STATE|REACTIVE)_[A-Z0-9_]+")

_FLAGS: Final = {"keys": "--key"}

NOTHING: Final[Mapping[str, Any]] = {}

_NONE: Final = type(None)


class Described(msgspec.Struct, frozen=True):
    """One setting, for the documentation and `--help`."""

    name: str
    variable: str
    default: Any
    text: str
    aliases: tuple[str, ...] = ()


def described() -> list[Described]:
    """All settings, in the order of the struct."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(Settings):
        meta = next(item for item in get_args(hints[field.name])[1:] if isinstance(item, Meta))
        aliases = [ALIASES[field.name]] if field.name in ALIASES else []
        aliases += {"keys": ["ENGINE_API_KEY"], "key_hashes": ["ENGINE_KEY_HASH"], "model": ["LLM_PROVIDER"]}.get(
            field.name, []
        )
        variable = PREFIX + field.name.upper()
        rows.append(Described(field.name, variable, field.default, meta.description or "", tuple(aliases)))
    return rows


def load_settings(environ: Mapping[str, str], *, file: Mapping[str, Any] = NOTHING, **flags: Any) -> Settings:
    """
    Settings from flags (None: not given) over the environment over what a Dockfile says over the defaults.

    Raises:
        InvalidSetting: the message names the variable or the flag.
    """
    hints = get_type_hints(Settings)
    values: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    for field in msgspec.structs.fields(Settings):
        name = field.name
        if flags.get(name) is not None:
            values[name], given_as[name] = flags[name], _FLAGS.get(name, f"--{name.replace('_', '-')}")
            continue
        variable = next((variable for variable in _variables(name, environ) if environ.get(variable)), None)
        if variable is not None:
            values[name], given_as[name] = _read(variable, environ[variable], hints[name]), variable
        elif name in file:
            values[name] = file[name]
    _add_engine_keys(environ, values)
    _add_engine_model(environ, values)
    try:
        return msgspec.convert(values, Settings, strict=True)
    except msgspec.ValidationError as exc:
        name = _field_of(str(exc))
        raise InvalidSetting(f"{given_as.get(name, name)}: expected {_expected(str(exc))}", name) from None
    except InvalidSetting as exc:
        raise InvalidSetting(f"{given_as.get(exc.setting, exc.setting)}: {exc}", exc.setting) from None


def with_env_file(environ: Mapping[str, str], file: Mapping[str, str]) -> dict[str, str]:
    """The environment, and what a file adds to it: nothing that the environment has set, be it under another name."""
    hidden = set(_KEYS if any(environ.get(name) for name in _KEYS) else ())
    for field in Settings.__struct_fields__:
        ours, *others = _variables(field, environ)
        if any(environ.get(name) for name in (*others, *(_MODEL if field == "model" else ()))):
            hidden.add(ours)
    return {**{name: text for name, text in file.items() if name not in hidden}, **environ}


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that look as if they were meant for this server, and which it does not know."""
    known = {name for field in Settings.__struct_fields__ for name in _variables(field, environ)}
    known |= {*_MODEL, *_KEYS}
    return sorted(
        name for name in environ if name not in known and _OURS.fullmatch(name) and not _OTHERS.fullmatch(name)
    )


def _variables(field: str, environ: Mapping[str, str]) -> list[str]:
    """The variables that give a setting, those that win first."""
    alias = ALIASES.get(field)
    found = [PREFIX + field.upper()]
    if alias is not None and alias.startswith("*"):
        # Of several the one that asks for least; what is no number is refused when it is read.
        some = [name for name in environ if name.endswith(alias[1:])]
        return found + sorted(some, key=lambda name: (_number(environ[name]), name))
    return found if alias is None else [*found, alias]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _add_engine_keys(environ: Mapping[str, str], values: dict[str, Any]) -> None:
    plain, hashed = environ.get("ENGINE_API_KEY"), environ.get("ENGINE_KEY_HASH")
    if plain and hashed:
        raise InvalidSetting("ENGINE_API_KEY and ENGINE_KEY_HASH are both set; set one", "ENGINE_KEY_HASH")
    if plain:
        values["keys"] = (*values.get("keys", ()), plain)
    if hashed:
        values["key_hashes"] = (*values.get("key_hashes", ()), *_comma_list(hashed))


def _add_engine_model(environ: Mapping[str, str], values: dict[str, Any]) -> None:
    provider, model = environ.get("LLM_PROVIDER"), environ.get("LLM_MODEL")
    if "model" in values or not (provider or model):
        return
    if provider and model:
        values["model"] = f"{provider.lower()}:{model}"
    elif model and (":" in model or "model_url" in values):
        values["model"] = model
    else:
        missing, given = ("LLM_MODEL", "LLM_PROVIDER") if provider else ("LLM_PROVIDER", "LLM_MODEL")
        raise InvalidSetting(f"{given} needs {missing} too: together they name the model", missing)


def _read(variable: str, text: str, type: Any) -> Any:
    """A value of the environment, as the field's type wants it."""
    options = [item for item in get_args(type) if item is not _NONE] if _is_union(type) else [type]
    wanted = options[0]
    if wanted is bool:
        if text not in ("true", "false"):
            raise InvalidSetting(f"{variable} is true or false, not {text!r}", variable)
        return text == "true"
    if variable == "ENGINE_LOG_LEVEL":
        return text.lower()
    if get_origin(wanted) is tuple:
        return _comma_list(text)
    if wanted in (int, float):
        try:
            return wanted(text)
        except ValueError:
            raise InvalidSetting(f"{variable} is a number, not {text!r}", variable) from None
    return text


def _is_union(type: Any) -> bool:
    return type.__class__.__name__ in ("UnionType", "_UnionGenericAlias")


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _expected(message: str) -> str:
    """What msgspec expected, in the words of whoever sets it."""
    text = re.sub(r" - at `.*`$", "", message).removeprefix("Expected ")
    if choices := re.fullmatch(r"`str` matching regex '\^\(([a-z|]+)\)\$'", text):
        return f"one of {choices[1].replace('|', ', ')}"
    text = text.replace("`int`", "a whole number").replace("`float`", "a number").replace("`str`", "a text")
    return text.replace("`bool`", "true or false").replace(".0", "")


def _field_of(message: str) -> str:
    found = re.search(r"\$\.([a-z_]+)", message)
    return found.group(1) if found else ""
