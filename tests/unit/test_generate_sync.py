"""`make check` fails where the committed sync client is not what its generator writes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sync", ROOT / "scripts/generate_sync.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["generate_sync.py", "--check"])
    return int(generator.main())


def test_what_is_committed_is_what_is_generated(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(generator, monkeypatch) == 0


def test_a_change_by_hand_is_found_and_not_overwritten(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target: Path = generator.TARGET
    before = target.read_text()
    changed = before.replace("timeout: float = 30.0", "timeout: float = 31.0")
    assert changed != before
    monkeypatch.setattr(Path, "read_text", lambda path: changed if path == target else path.read_bytes().decode())

    assert checked(generator, monkeypatch) == 1
    assert "run `make fix`" in capsys.readouterr().err
    assert target.read_bytes().decode() == before


def test_a_method_of_the_async_client_that_has_no_twin_is_found(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Path = generator.FOLDER / "client.py"
    text = source.read_text()
    grown = text.replace("    # Webhooks\n", "    async def added(self) -> int:\n        return 1\n\n    # Webhooks\n")
    assert grown != text
    monkeypatch.setattr(Path, "read_text", lambda path: grown if path == source else path.read_bytes().decode())

    assert checked(generator, monkeypatch) == 1


def test_a_method_of_another_async_client_that_has_no_twin_is_found(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source: Path = generator.CLIENT / "runtime/client.py"
    grown = source.read_text().replace(
        "    # The server\n",
        '    async def added(self) -> int:\n        """One."""\n        return 1\n\n    # The server\n',
    )
    assert grown != source.read_text()
    monkeypatch.setattr(Path, "read_text", lambda path: grown if path == source else path.read_bytes().decode())

    assert checked(generator, monkeypatch) == 1
    assert "runtime/sync.py is not" in capsys.readouterr().err
