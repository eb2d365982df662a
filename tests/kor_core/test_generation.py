"""Settings of a call: only what is set is sent, and what nobody knows is an error."""

import pytest

from kor_core.errors import ConfigurationError
from kor_core.llm.generation import UNSET, GenerationSettings, checked_timeout


@pytest.mark.parametrize("given", [None, {}, {"temperature": None}, GenerationSettings()])
def test_what_is_not_set_is_not_there(given):
    settings = GenerationSettings.of(given)

    assert UNSET == settings
    assert ({}, {}) == (settings.given(), settings.flat())


def test_zero_and_falsehood_are_values():
    given = {"temperature": 0, "seed": 0, "extra": {"stream_options": False}}

    assert given == {**GenerationSettings.of(given).given(), "extra": {"stream_options": False}}


def test_settings_are_taken_as_they_are():
    settings = GenerationSettings(seed=1)

    assert settings is GenerationSettings.of(settings)


def test_flat_settings_have_extra_merged_in():
    settings = GenerationSettings(top_p=0.5, stop=["\n"], extra={"top_k": 4})

    assert {"top_p": 0.5, "stop": ["\n"], "top_k": 4} == settings.flat()


def test_a_single_attempt_has_no_deadline_of_the_whole_call():
    settings = GenerationSettings(timeout=3, seed=1)

    assert GenerationSettings(seed=1) == settings.without_timeout()
    assert (once := settings.without_timeout()) is once.without_timeout()


def test_keys_in_extra_do_not_show():
    assert "sk-planted" not in repr(GenerationSettings(extra={"api_key": "sk-planted"}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temprature": 1}, "Unknown setting 'temprature'.*Did you mean 'temperature'"),
        ({"top_k": 4}, r"goes into extra=\{…\}"),
        ({"a": 1, "b": 2}, "2 problems"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"extra": 5}, "extra is a table, such as .*, not int"),
        (
            {"extra": {"max_tokens": -(10**9)}},
            r"^extra: max_tokens: Expected a whole number, 1 or more\.$",
        ),
        ({"extra": {"max_completion_tokens": 0}}, "max_completion_tokens: Expected"),
        ({"extra": {"max_output_tokens": "9"}}, "max_output_tokens: Expected"),
        ({"extra": {"timeout": -1}}, "timeout: Expected a number above 0"),
        ({"extra": {"temperature": "hot"}}, "temperature: Expected a number"),
        (0.5, "settings are a table, such as .*, not float"),
        ([], "not list"),
        ({"timeout": 0}, "timeout is a number of seconds above 0, not 0"),
        ({"timeout": "soon"}, "not 'soon'"),
    ],
)
def test_wrong_settings_are_refused_with_the_nearest_name(given, words):
    with pytest.raises(ConfigurationError, match=words):
        GenerationSettings.of(given)


def test_a_deadline_may_be_none():
    assert (None, 0.5) == (checked_timeout(None), checked_timeout(0.5))
