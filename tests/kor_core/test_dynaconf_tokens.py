"""dynaconf's tokens in files and variables: what they give, and what is said when they fail."""

import json
from pathlib import Path
from typing import Any

import pytest

from kor_core.adapters.dynaconf import load_settings
from kor_core.errors import ConfigurationError, Problem
from kor_core.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def load(folder: Path, text: str, **environ: str) -> Settings:
    (folder / "config.toml").write_text(f'[llm.default]\nmodel = "gpt-4.1"\n{text}\n')
    return load_settings(environ=environ, home=folder / "home", cwd=folder)


def extra(folder: Path, token: str, **environ: str) -> Any:
    """Return what a token gives, in a table that takes everything."""
    text = f"[llm.default.extra]\nx = {json.dumps(token)}\ny = 'why'\nn = 3"
    return load(folder, text, **environ).llm.default.extra["x"]


def problem(folder: Path, token: str, **environ: str) -> Problem:
    with pytest.raises(ConfigurationError) as caught:
        extra(folder, token, **environ)
    (found,) = caught.value.problems
    return found


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("@int 5", 5),
        ("@float 0.5", 0.5),
        ("@bool yes", True),
        ("@str 5", "5"),
        ("@str @int 5", "@int 5"),
        ("@none", None),
        ('@json {"a": [1, {"b": "@int 1"}]}', {"a": [1, {"b": "@int 1"}]}),
        ("@upper abc", "ABC"),
        ("@format {env[REGION]}-{this.llm.default.extra.y}", "eu-why"),
        ("@format {this.LLM.Default.model}", "gpt-4.1"),
        ("@int @format {this.llm.default.extra.n}", 3),
        ("@jinja {{ this.llm.default.extra.n + 1 }}", "4"),
        ("@jinja {% if env.NOPE %}a{% else %}b{% endif %}", "b"),
        ("@jinja {{ env.NOPE | default('other') }}", "other"),
        ("@get llm.default.extra.y", "why"),
        ("@get nothing 'a b'", "a b"),
        ("@get llm.default.extra.n @int", 3),
        ("@get llm.default.model", "gpt-4.1"),
    ],
)
def test_tokens_resolve(folder: Path, token: str, value: object):
    found = extra(folder, token, REGION="eu")

    assert found == value
    assert type(found) is type(value) or isinstance(value, dict)


def test_tokens_resolve_in_lists_and_through_each_other(folder: Path):
    text = (
        'stop = ["@format {this.llm.default.extra.b}!", "@int 1"]\nextra = '
        '{ a = "@format {env[A]}", b = "@format {this.llm.default.extra.a}b" }'
    )
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, A="a")

    assert [str(p) for p in caught.value.problems] == [
        f"{folder / 'config.toml'}:3: llm.default.stop.1: Expected text, found a whole number."
    ]
    assert load(folder, text.replace(', "@int 1"', ""), A="a").llm.default.stop == ("ab!",)


def test_a_file_is_read_with_its_newline_and_a_key_loses_it(folder: Path):
    (folder / "my key").write_text("sk-1\n")
    path = folder / "my key"
    text = f"[llm.providers.openai]\napi_key = '@read_file \"{path}\"'"

    assert extra(folder, f'@read_file "{path}"') == "sk-1\n"
    assert extra(folder, f'@read_file @format "{folder}/my {{this.llm.default.extra.k}}"' .replace(
        "{this.llm.default.extra.k}", "{env[K]}"), K="key") == "sk-1\n"  # fmt: skip
    assert load(folder, text).llm.providers["openai"].api_key.get_secret_value() == "sk-1"


def test_a_table_can_be_taken_over_whole(folder: Path):
    text = '[llm.providers.a]\nextra = "@get llm.providers.b.extra"\n[llm.providers.b.extra]\nx = 1'

    assert load(folder, text).llm.providers["a"].extra == {"x": 1}


def test_this_is_the_same_file_alone(folder: Path):
    (folder / ".secrets.toml").write_text('[llm.default]\nprovider = "@get llm.default.model"')
    with pytest.raises(ConfigurationError) as caught:
        load(folder, "")

    (found,) = caught.value.problems
    assert found.origin == f"{folder / '.secrets.toml'}:2"
    assert "Key llm.default.model not found" in found.message


@pytest.mark.parametrize("text", ["@cf/meta/llama-3-8b", "@all users", "@", "me@int 5", "@x"])
def test_text_that_merely_begins_so_is_left_alone(folder: Path, text: str):
    assert extra(folder, text) == text


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("@int many", "The token '@int' cannot be resolved: the value does not fit it."),
        ("@json {", "the value does not fit it"),
        ("@json " + "[" * 100 + "]" * 100, "the value does not fit it"),
        ("@int @format {env[REGION]}", "the value does not fit it"),
        ("@format {env[NOPE]}", "the environment variable 'NOPE' is not set"),
        ("@format {this.llm.nope}", "there is no 'llm.nope' in the same source"),
        ("@format {", "the value does not fit it"),
        ("@format {this.llm.default.extra.x}", "it refers to itself"),
        ("@jinja {{ env.NOPE }}", "has no attribute 'NOPE'"),
        ("@jinja {{ nope.x }}", "'nope' is undefined"),
        ("@jinja {% if", "unexpected 'end of template'"),
        ("@jinja {{ ''.__class__.__mro__ }}", "unsafe"),
        ("@jinja {{ 1 / 0 }}", "the value does not fit it"),
        ("@get nope", "Key nope not found"),
        ("@read_file /nowhere/key", "File /nowhere/key does not exist"),
        ("@read_file /", "the value does not fit it"),
        ("@merge a", "'@merge' is not supported: tables merge and lists replace"),
        ("@insert 0 a", "'@insert' is not supported"),
        ("@del", "'@del' is not supported"),
        ("@reset a", "'@reset' is not supported"),
        ("@empty", "'@empty' is not supported"),
    ],
)
def test_a_token_that_cannot_be_resolved_says_where_and_why(folder: Path, token: str, reason: str):
    found = problem(folder, token, REGION="eu")

    assert found.origin == f"{folder / 'config.toml'}:4"
    assert found.key == "llm.default.extra.x"
    assert reason in found.message


def test_a_misspelt_token_has_the_nearest_one(folder: Path):
    found = problem(folder, "@fromat {env[HOME]}")

    assert found.suggestion == "@format"
    assert "'@str @fromat'" in found.message


def test_two_tokens_that_refer_to_each_other_are_both_reported(folder: Path):
    text = "[llm.default.extra]\na = '@get llm.default.extra.b'\nb = '@get llm.default.extra.a'"
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)

    assert [p.key for p in caught.value.problems] == ["llm.default.extra.a", "llm.default.extra.b"]


def test_sections_that_differ_in_case_are_refused_not_merged(folder: Path):
    with pytest.raises(ConfigurationError) as caught:
        load(folder, "seed = '@int 5'\n[LLM.default]\nmodel = '@upper x'")

    assert [(p.key, p.suggestion) for p in caught.value.problems] == [("LLM", "llm")]


def test_tokens_resolve_in_variables_and_are_typed_by_their_field(folder: Path):
    found = load(
        folder,
        "",
        N="7",
        KOR_LLM__DEFAULT__SEED="@format {env[N]}",
        KOR_LLM__DEFAULT__MAX_TOKENS="@int 5",
    )

    assert (found.llm.default.seed, found.llm.default.max_tokens) == (7, 5)
    assert found.origin("llm", "default", "seed") == "KOR_LLM__DEFAULT__SEED"


def test_an_unresolvable_token_in_a_variable_names_it(folder: Path):
    with pytest.raises(ConfigurationError) as caught:
        load(folder, "", KOR_LLM__PROVIDERS__OPENAI__API_KEY="@format {env[NOPE]}")

    (found,) = caught.value.problems
    assert found.origin == "KOR_LLM__PROVIDERS__OPENAI__API_KEY"
    assert found.key == "llm.providers.openai.api_key"


def test_the_given_environment_is_read_not_the_processs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REGION", "process")

    assert extra(folder, "@format {env[REGION]}", REGION="given") == "given"
    assert extra(folder, "@jinja {{ env.REGION }}", REGION="given") == "given"
    assert "'REGION' is not set" in problem(folder, "@format {env[REGION]}").message
