"""Settings of the Engine API's page: both names, `.env`, what refuses the start and what is only warned about (check 32)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.models import ModelNotConfigured, check_model, credentials_of
from holdfast.agents.models.names import PROVIDERS
from holdfast.cli.env_file import read_env_file
from holdfast.cli.served import assistant_of, read_served
from holdfast.dockfile.problems import InvalidDockfile
from holdfast.settings import InvalidSetting, Settings
from holdfast.variables import load_settings, unknown_variables, with_env_file

FERNET = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

# Our name, the documented one, the name of the field, a text and what it means, and another text.
BOTH_NAMES: list[tuple[str, str, str, str, Any, str]] = [
    ("HOLDFAST_MODEL_KEY", "LLM_API_KEY", "model_key", "k", "k", "other"),
    ("HOLDFAST_MODEL_URL", "LLM_BASE_URL", "model_url", "http://x/v1", "http://x/v1", "http://y"),
    ("HOLDFAST_MODEL_FALLBACK", "FALLBACK_MODEL", "model_fallback", "openai:a", "openai:a", "openai:b"),
    ("HOLDFAST_MODEL_LIGHT", "LIGHT_MODEL", "model_light", "openai:a", "openai:a", "openai:b"),
    ("HOLDFAST_MODEL_PLANNER", "PLANNER_MODEL", "model_planner", "openai:a", "openai:a", "openai:b"),
    ("HOLDFAST_MAX_TOKENS", "MAX_TOKENS", "max_tokens", "100", 100, "200"),
    ("HOLDFAST_ROOTS", "ALLOWED_ROOTS", "roots", "/srv/a, /srv/b", ("/srv/a", "/srv/b"), "/srv/c"),
    ("HOLDFAST_EMBEDDING_MODEL", "EMBEDDING_MODEL", "embedding_model", "openai:e", "openai:e", "openai:f"),
    ("HOLDFAST_STORE", "SQLITE_DB_PATH", "store", "dir", "dir", "other"),
    ("HOLDFAST_CATALOG", "CATALOG_DIR", "catalog", "dir", "dir", "other"),
    ("HOLDFAST_ASSET_KEY", "AD_ENCRYPTION_KEY", "asset_key", FERNET, FERNET, FERNET[:-2] + "A="),
    ("HOLDFAST_PUBLIC_URL", "OAUTH_REDIRECT_BASE_URL", "public_url", "https://x", "https://x", "https://y"),
    ("HOLDFAST_HITL_EXPIRES_SECONDS", "CHANNEL_STATE_TTL_HITL", "hitl_expires_seconds", "60", 60.0, "61"),
    ("HOLDFAST_TOOL_CONCURRENCY", "CLAUDE_MAX_TOOL_USE_CONCURRENCY", "tool_concurrency", "3", 3, "4"),
    ("HOLDFAST_COMPACTION", "REACTIVE_COMPACT_ENABLED", "compaction", "false", False, "true"),
    ("HOLDFAST_LOG_LEVEL", "ENGINE_LOG_LEVEL", "log_level", "debug", "debug", "error"),
    (
        "HOLDFAST_KEY_OVERLAP_SECONDS_MAX",
        "BAP_KEY_ROTATION_MAX_OVERLAP_SECONDS",
        "key_overlap_seconds_max",
        "9",
        9.0,
        "8",
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "field", "text", "value", "other"), BOTH_NAMES)
def test_a_setting_works_under_both_names_and_ours_wins(
    ours: str, theirs: str, field: str, text: str, value: Any, other: str
) -> None:
    assert getattr(load_settings({ours: text}), field) == value
    assert getattr(load_settings({theirs: text}), field) == value
    assert getattr(load_settings({ours: text, theirs: other}), field) == value
    assert getattr(Settings(), field) != value


@pytest.mark.parametrize(
    ("environ", "model"),
    [
        ({"LLM_PROVIDER": "anthropic", "LLM_MODEL": "claude-x"}, "anthropic:claude-x"),
        ({"LLM_PROVIDER": "OpenAI", "LLM_MODEL": "gpt-x"}, "openai:gpt-x"),
        ({"LLM_PROVIDER": "openai", "LLM_MODEL": "x", "HOLDFAST_MODEL": "anthropic:y"}, "anthropic:y"),
        ({"LLM_MODEL": "llama3:8b"}, "llama3:8b"),
        ({"LLM_MODEL": "llama3", "LLM_BASE_URL": "http://x"}, "llama3"),
    ],
)
def test_provider_and_model_make_the_model(environ: dict[str, str], model: str) -> None:
    assert load_settings(environ).model == model


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"LLM_PROVIDER": "openai"}, "LLM_MODEL"),
        ({"LLM_MODEL": "gpt-x"}, "LLM_PROVIDER"),
        ({"REACTIVE_COMPACT_ENABLED": "yes"}, "REACTIVE_COMPACT_ENABLED"),
        ({"HOLDFAST_COMPACTION": "1"}, "HOLDFAST_COMPACTION"),
        ({"HOLDFAST_LEARNING": "TRUE"}, "HOLDFAST_LEARNING"),
        ({"MAX_TOKENS": "many"}, "MAX_TOKENS"),
        ({"X_MAX_TOOL_USE_CONCURRENCY": "0"}, "tool_concurrency"),
        ({"X_MAX_TOOL_USE_CONCURRENCY": "few", "Y_MAX_TOOL_USE_CONCURRENCY": "3"}, "X_MAX_TOOL_USE_CONCURRENCY"),
    ],
)
def test_a_value_that_does_not_fit_refuses_the_start(environ: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        load_settings(environ)

    assert raised.value.setting == named


def test_of_several_limits_for_tools_the_smallest_counts() -> None:
    environ = {"A_MAX_TOOL_USE_CONCURRENCY": "20", "B_MAX_TOOL_USE_CONCURRENCY": "5"}

    assert load_settings(environ).tool_concurrency == 5


def test_what_is_set_and_has_no_effect_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_SKILLS_ROOTS", f"{tmp_path},{tmp_path}/gone")

    served = read_served([], {"no_auth": True, "keys": ("k",)})

    assert served.notices == (
        f"HOLDFAST_SKILLS_ROOTS: {tmp_path}/gone is no directory, so it has no skills",
        "--no-auth: no key is asked for, so the keys that are set have no effect",
    )


def test_names_that_no_setting_has_are_told() -> None:
    environ = dict.fromkeys(
        (
            "HOLDFAST_PROT",
            "LLM_TEMPERATURE",
            "ENGINE_KEY",
            "HOLDFAST_URL",
            "HOLDFAST_API_KEY_USER",
            "LLM_MODEL",
            "PATH",
        ),
        "x",
    )

    assert unknown_variables(environ) == ["HOLDFAST_PROT", "LLM_TEMPERATURE"]


# .env


def test_the_environment_wins_over_the_file_under_whichever_name() -> None:
    environ = {"LLM_API_KEY": "e", "LLM_PROVIDER": "openai", "LLM_MODEL": "m", "ENGINE_KEY_HASH": "ab" * 32}
    file = {
        "HOLDFAST_MODEL_KEY": "f",
        "HOLDFAST_MODEL": "anthropic:f",
        "ENGINE_API_KEY": "f",
        "HOLDFAST_MAX_TOKENS": "7",
        "LLM_API_KEY": "f",
    }

    settings = load_settings(with_env_file(environ, file))

    assert (settings.model_key, settings.model, settings.keys, settings.max_tokens) == ("e", "openai:m", (), 7)


def test_the_file_of_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("# mine\nexport MAX_TOKENS=7\nSOME_OTHER_THING='a b'\nHOLDFAST_PORT=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"HOLDFAST_PORT": "2"})

    read_env_file()

    assert os.environ == {"HOLDFAST_PORT": "2", "MAX_TOKENS": "7", "SOME_OTHER_THING": "a b"}


def test_a_file_that_is_no_list_of_variables_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MAX_TOKENS=7\nthis is prose\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {})

    with pytest.raises(InvalidDockfile, match=r"\.env:2"):
        read_env_file()

    assert os.environ == {}


# Models and what opens them


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_TOKEN")):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_keys")
def test_a_model_with_neither_key_nor_url_refuses_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for model, variable in (
        ("anthropic:x", "ANTHROPIC_API_KEY"),
        ("openai-responses:x", "OPENAI_API_KEY"),
        ("gemini:x", "GEMINI_API_KEY"),
        ("groq:x", "GROQ_API_KEY"),
        ("azure_openai:x", "AZURE_OPENAI_API_KEY"),
    ):
        with pytest.raises(ModelNotConfigured):
            check_model(model)
        check_model(model, "key")
        check_model(model, None, "http://127.0.0.1:1")
        monkeypatch.setenv(variable, "k")
        check_model(model)
    check_model("ollama:x")
    check_model("voyageai:x", "key", embeds=True)
    check_model("bedrock:x")


def test_a_provider_that_does_not_exist_refuses_the_start() -> None:
    with pytest.raises(ModelNotConfigured, match="no provider 'antropic'"):
        check_model("antropic:x", "key")


def test_all_providers_are_those_of_the_model_library() -> None:
    from pydantic_ai.providers import infer_provider_class

    for provider in PROVIDERS:
        with contextlib.suppress(ImportError):  # a provider whose package is not installed here
            infer_provider_class(provider)


@pytest.mark.parametrize(
    ("name", "main", "url", "shared"),
    [
        ("anthropic:b", "anthropic:a", None, True),
        ("openai-responses:b", "openai:a", None, True),
        ("openai:b", "anthropic:a", None, False),
        ("qwen:7b", "llama3:8b", "http://x", True),
        ("qwen", "openai:a", "http://x", True),
        ("anthropic:b", "llama3:8b", "http://x", False),
    ],
)
def test_a_model_beside_the_main_one_has_its_key_if_it_is_of_the_same_provider(
    name: str, main: str, url: str | None, shared: bool
) -> None:
    assert credentials_of(name, main, "key", url) == (("key", url) if shared else (None, None))


@pytest.mark.usefixtures("no_keys")
def test_an_embedding_model_that_cannot_work_refuses_the_start() -> None:
    with pytest.raises(ModelNotConfigured, match="OPENAI_API_KEY") as raised:
        assistant_of(Settings(embedding_model="openai:text-embedding-3-small"))

    assert raised.value.details["setting"] == "HOLDFAST_EMBEDDING_MODEL"


@pytest.mark.usefixtures("no_keys")
def test_a_fallback_that_cannot_work_refuses_the_start() -> None:
    settings = Settings(model="anthropic:a", model_key="k", model_fallback="openai:b")

    with pytest.raises(ModelNotConfigured, match="OPENAI_API_KEY") as raised:
        assistant_of(settings)

    assert raised.value.details["setting"] == "HOLDFAST_MODEL_FALLBACK"
