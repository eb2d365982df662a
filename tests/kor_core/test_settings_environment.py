"""Environment variables: matched to names that exist, typed by their field, or left alone."""

from typing import Any

import pytest

from kor_core.errors import Problem
from kor_core.settings import Settings
from kor_core.settings.environment import matched, typed
from kor_core.settings.provenance import Sourced


def read(below: dict[str, Any] | None = None, /, **environ: str) -> dict[str, Any]:
    source, unclear = matched(environ, Settings, Sourced(below))
    values, wrong = typed(source, Settings)
    assert [*unclear, *wrong] == []
    return values.data


def problem(below: dict[str, Any] | None = None, /, **environ: str) -> Problem:
    source, unclear = matched(environ, Settings, Sourced(below))
    _, wrong = typed(source, Settings)
    (found,) = [*unclear, *wrong]
    return found


def test_a_double_underscore_nests():
    found = read(KOR_LLM__DEFAULT__MODEL="gpt-4o", KOR_LLM__DEFAULT__MAX_TOKENS="5")

    assert found == {"llm": {"default": {"model": "gpt-4o", "max_tokens": 5}}}


@pytest.mark.parametrize(
    "name",
    [
        "KOR_ENV",
        "KOR_CONFIG",
        "KOR_LLM",
        "KOR_LLM_SERVICE_HOST",
        "KOR_NETWORK_PORT_80_TCP",
        "KOR_SERVICE_PORT",
        "KOR_OTHER__THING",
        "KOR__LLM__DEFAULT__MODEL",
        "XKOR_LLM__DEFAULT__MODEL",
        "LLM__DEFAULT__MODEL",
        "MERGE_ENABLED_FOR_DYNACONF",
        "DYNACONF_LLM__DEFAULT__MODEL",
    ],
)
def test_other_variables_are_left_alone(name: str):
    assert read(**{name: "x"}) == {}


@pytest.mark.parametrize("segment", ["CODE_REVIEW", "code_review", "Code-Review"])
def test_names_that_exist_keep_their_spelling(segment: str):
    below = {"llm": {"purposes": {"code-review": {}, "gpt-4.1": {}}}}
    found = read(below, **{f"KOR_LLM__PURPOSES__{segment}__TEMPERATURE": "0"})

    assert found == {"llm": {"purposes": {"code-review": {"temperature": 0.0}}}}


@pytest.mark.parametrize(("segment", "name"), [("FAST", "fast"), ("Fast", "Fast"), ("a-B", "a-B")])
def test_new_names_are_lower_case_unless_written_otherwise(segment: str, name: str):
    found = read(**{f"KOR_LLM__PURPOSES__{segment}__MODEL": "m"})

    assert found == {"llm": {"purposes": {name: {"model": "m"}}}}


def test_an_exact_name_wins_over_a_similar_one():
    below = {"llm": {"purposes": {"Coding": {}, "coding": {}}}}
    found = read(below, KOR_LLM__PURPOSES__Coding__MODEL="m")

    assert found == {"llm": {"purposes": {"Coding": {"model": "m"}}}}


def test_a_name_that_fits_two_is_a_problem_that_names_both():
    below = {"llm": {"purposes": {"Coding": {}, "coding": {}}}}
    found = problem(below, KOR_LLM__PURPOSES__CODING__MODEL="m")

    assert found.origin == "KOR_LLM__PURPOSES__CODING__MODEL"
    assert found.key == "llm.purposes"
    assert "'Coding' and 'coding'" in found.message


@pytest.mark.parametrize("name", ["KOR_LLM__", "KOR_LLM__DEFAULT__", "KOR_LLM____MODEL"])
def test_a_name_that_is_missing_is_a_problem(name: str):
    found = problem(**{name: "x"})

    assert found.origin == name
    assert "Expected a name" in found.message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("KOR_LLM__DEFAULT__MODEL", "KOR_LLM__DEFAULT__model"),
        ("KOR_LLM__DEFAULT", "KOR_LLM__DEFAULT__MODEL"),
    ],
)
def test_variables_that_contradict_each_other_are_a_problem(first: str, second: str):
    found = problem(**{first: "{}", second: "x"})

    assert found == Problem(f"Contradicts {first}: remove one.", second, "llm.default.model")


def test_a_value_inside_a_value_is_a_problem_for_the_model():
    assert read(KOR_LLM__DEFAULT__MODEL__X="1") == {"llm": {"default": {"model": {"x": "1"}}}}


def test_unknown_names_are_kept_for_the_models_to_refuse():
    assert read(KOR_LLM__DEFALT__MODEL="x") == {"llm": {"defalt": {"model": "x"}}}


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("LLM__DEFAULT__MODEL", " 007 ", "007"),
        ("LLM__DEFAULT__TEMPERATURE", "0.5", 0.5),
        ("LLM__DEFAULT__SEED", "-7", -7),
        ("NETWORK__TRUST_ENV", "No", False),
        ("NETWORK__TRUST_ENV", "1", True),
        ("LLM__DEFAULT__STOP", "END", ["END"]),
        ("PLUGINS__DISABLED", "a, b", ["a", "b"]),
        ("PLUGINS__DISABLED", '["a,b", "c"]', ["a,b", "c"]),
        ("PLUGINS__DISABLED", "['a']", ["a"]),
        ("PLUGINS__DISABLED", "[]", []),
        ("PLUGINS__DISABLED", "", []),
        ("LLM__PROVIDERS__OPENAI", '{"timeout": 5}', {"timeout": 5}),
        ("LLM__DEFAULT__EXTRA", "{ drop_params = true }", {"drop_params": True}),
        ("LLM__DEFAULT__EXTRA__DROP_PARAMS", "true", True),
        ("LLM__DEFAULT__EXTRA__TOP_K", "4", 4),
        ("LLM__DEFAULT__EXTRA__NESTED__X", "[1]", [1]),
        ("LLM__DEFAULT__EXTRA__API_VERSION", "2024-10-21", "2024-10-21"),
        ("LLM__DEFAULT__EXTRA__YEAR", '"2024"', "2024"),
        ("LLM__PROVIDERS__OPENAI__API_KEY", "123", "123"),
    ],
)
def test_values_are_typed_by_their_field(path: str, text: str, value: object):
    found: Any = read(**{f"KOR_{path}": text})
    for part in path.lower().split("__"):
        found = found[part]

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("LLM__DEFAULT__MAX_TOKENS", "many", "a whole number"),
        ("LLM__DEFAULT__MAX_TOKENS", "1.5", "a whole number"),
        ("LLM__DEFAULT__TEMPERATURE", "", "a number"),
        ("NETWORK__TRUST_ENV", "perhaps", "true or false"),
        ("PLUGINS__DISABLED", "[a", "a list"),
        ("LLM__DEFAULT", "x", "a table"),
        ("LLM__DEFAULT__EXTRA", "[1]", "a table"),
        ("LLM__PURPOSES", "{", "a table"),
        ("LLM__DEFAULT__EXTRA__X", "[" * 100_000, "a value"),
        ("LLM__DEFAULT__EXTRA__X", "[" * 100 + "]" * 100, "a value"),
        ("LLM__DEFAULT__EXTRA", '{"a":' * 100 + "1" + "}" * 100, "a table"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_was_expected(path: str, text: str, expected: str):
    found = problem(**{f"KOR_{path}": text})

    assert found.origin == f"KOR_{path}"
    assert found.key == path.lower().replace("__", ".")
    assert found.message.startswith(f"Expected {expected}")


def test_what_is_no_text_any_more_is_left_as_it_is():
    values, problems = typed(Sourced({"llm": {"default": {"max_tokens": 5}}}), Settings)

    assert values.data == {"llm": {"default": {"max_tokens": 5}}}
    assert problems == []
