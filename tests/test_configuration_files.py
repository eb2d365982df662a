"""What stands beside the code: examples, JSON Schema and reference fit the models."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from kor_cli.main import main
from kor_core.adapters.dynaconf import load_settings
from kor_core.settings import (
    LLMSettings,
    ModelSettings,
    NetworkSettings,
    PluginSettings,
    ProviderSettings,
    StateSettings,
)

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
TABLES = [
    LLMSettings,
    ModelSettings,
    NetworkSettings,
    PluginSettings,
    ProviderSettings,
    StateSettings,
]


@pytest.fixture(scope="module")
def generated() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "generate_reference.py"))


def test_there_are_examples():
    assert len(CONFIGS) > 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_example_loads_and_names_built_in_providers(path: Path, clean_machine: Path):
    settings = load_settings(path)

    assert settings.llm.default is not None
    assert settings.problems_with_providers(["echo", "litellm", "openai"]) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_example_says_which_schema_describes_it(path: Path):
    assert path.read_text().startswith("#:schema schema.json\n")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_example_passes_kor_check_once_the_keys_are_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for vendor in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{vendor}_API_KEY", "sk-planted")

    assert (0, "") == (main(["check", "--config", str(path)]), capsys.readouterr().err)


def test_one_example_mentions_every_key():
    text = (ROOT / "configs" / "everything.toml").read_text()
    keys = sorted(name for table in TABLES for name in table.model_fields)

    assert [name for name in keys if f"{name} =" not in text and f"[llm.{name}" not in text] == []


def test_the_schema_is_current(generated: dict[str, Any]):
    """If this fails: python docs/generate_reference.py."""
    expected = generated["schema"]()

    assert json.loads((ROOT / "configs" / "schema.json").read_text()) == expected


def test_the_reference_is_current(generated: dict[str, Any]):
    """If this fails: python docs/generate_reference.py."""
    expected = generated["reference"]()

    assert (ROOT / "docs" / "configuration-reference.md").read_text() == expected


def test_both_files_are_written(generated: dict[str, Any], tmp_path: Path):
    names = ("reference.md", "schema.json")
    write = generated["main"]
    write.__globals__.update(REFERENCE=tmp_path / names[0], SCHEMA=tmp_path / names[1])
    write()

    assert (tmp_path / names[0]).read_text() == generated["reference"]()
    assert json.loads((tmp_path / names[1]).read_text()) == generated["schema"]()
