"""From settings to a model, and what is said when that cannot work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.models import ModelNotConfigured, build_model, check_model


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_without_settings_it_is_the_offline_model() -> None:
    assert build_model(None).model_name == "offline"
    assert build_model("offline").model_name == "offline"
    assert AssistantProgram().is_offline


def test_the_delay_between_words_is_a_setting() -> None:
    assert vars(build_model(None, word_delay_seconds=0.25))["_word_delay_seconds"] == 0.25


@pytest.mark.parametrize(
    ("name", "key", "url", "system", "model"),
    [
        ("anthropic:claude-x", "k", None, "anthropic", "claude-x"),
        ("openai:gpt-x", "k", None, "openai", "gpt-x"),
        ("openrouter:a/b", "k", None, "openrouter", "a/b"),
        ("openai:gpt-x", None, "http://127.0.0.1:1/v1", "openai-compatible", "gpt-x"),
        ("llama3:8b", None, "http://127.0.0.1:1/v1", "openai-compatible", "llama3:8b"),
        ("mistral:7b", None, "http://127.0.0.1:1/v1", "openai-compatible", "mistral:7b"),
        ("mistral:mistral-large", "k", "http://127.0.0.1:1/v1", "openai-compatible", "mistral-large"),
        ("anthropic:claude-x", "k", "http://127.0.0.1:1", "anthropic", "claude-x"),
    ],
)
def test_a_name_and_maybe_a_url_make_a_model(
    name: str, key: str | None, url: str | None, system: str, model: str
) -> None:
    built = build_model(name, key, url)

    assert (built.system, built.model_name) == (system, model)
    if url is not None:
        assert (built.base_url or "").startswith(url)


@pytest.mark.parametrize(
    ("name", "key", "url", "setting", "message"),
    [
        ("claude-x", "k", None, "HOLDFAST_MODEL", "it must be provider:model"),
        (None, "k", "http://127.0.0.1:1", "HOLDFAST_MODEL", "which model"),
        ("anthropic:claude-x", None, None, "HOLDFAST_MODEL_KEY", "ANTHROPIC_API_KEY"),
        ("openai:gpt-x", None, None, "HOLDFAST_MODEL_KEY", "OPENAI_API_KEY"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_loaded(
    name: str | None, key: str | None, url: str | None, setting: str, message: str
) -> None:
    with pytest.raises(ModelNotConfigured, match=message) as refused:
        check_model(name, key, url)

    assert refused.value.details == {"setting": setting}


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.agents.models.build.find_spec", lambda _: None)

    with pytest.raises(ModelNotConfigured, match=r"pip install 'holdfast\[anthropic\]'"):
        AssistantProgram("anthropic:claude-x", key="k")


@pytest.mark.parametrize("name", ["nobody:model", "bedrock:model", "groq:model"])
def test_what_only_the_library_knows_is_said_in_our_words(name: str) -> None:
    with pytest.raises(ModelNotConfigured, match=name):
        build_model(name, "k")


def test_making_an_assistant_does_not_load_the_model_library() -> None:
    code = (
        "import sys, holdfast.agents, holdfast.agents.models, holdfast.agents.tools\n"
        "from holdfast.agents.assistant import AssistantProgram\n"
        "AssistantProgram('openai:gpt-x', key='k')\n"
        "sys.exit('pydantic_ai' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
