"""Errors say cause and cure, carry data, travel by pickle, and form the documented tree."""

import inspect
import pickle
from collections.abc import Iterable, Sequence

import pytest

from kor_core import errors
from kor_core.errors import (
    AllModelsFailedError,
    AuthenticationError,
    ConfigurationError,
    KorError,
    LLMError,
    LLMTimeoutError,
    MissingCredentialsError,
    PluginError,
    Problem,
    ProviderNotFoundError,
    PurposeNotFoundError,
    RateLimitError,
    TenantNotFoundError,
)
from kor_core.llm.response import Attempt

PROBLEM = Problem("Unknown key.", "config.toml", "llm.default.modl", "model")
MISSING = MissingCredentialsError(
    Problem("No key.", key="llm.providers.openai.api_key"),
    variables=["OPENAI_API_KEY"],
    provider="openai",
    model="gpt-4",
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ConfigurationError([PROBLEM]),
            "config.toml: llm.default.modl: Unknown key. Did you mean 'model'?",
        ),
        (
            ConfigurationError([PROBLEM, Problem("Empty.")]),
            (
                "2 problems in the configuration:\n"
                "  - config.toml: llm.default.modl: Unknown key. Did you mean 'model'?\n"
                "  - Empty."
            ),
        ),
        (
            ConfigurationError([Problem(f"{number}.") for number in range(400)]),
            (
                "400 problems in the configuration:"
                + "".join(f"\n  - {number}." for number in range(20))
                + "\n  … and 380 more"
            ),
        ),
        (
            ConfigurationError([Problem("Unknown key.", "acme.toml", "x" * 10_000)]),
            f"acme.toml: {'x' * 989} … {'x' * 986}: Unknown key.",
        ),
        (MISSING, "llm.providers.openai.api_key: No key."),
        (
            ProviderNotFoundError("opnai", ["openai", "echo"], "Register one."),
            "No provider 'opnai'. Registered: echo, openai. Did you mean 'openai'? Register one.",
        ),
        (PurposeNotFoundError("x", []), "No purpose 'x'. Configured: none."),
        (
            PluginError("broke.", plugin="mine", origin="entry point"),
            "Plugin 'mine' (entry point): broke.",
        ),
        (
            TenantNotFoundError("acme"),
            "No tenant 'acme'. Give it an overlay, which may be empty.",
        ),
        (LLMError("It failed."), "It failed."),
        (
            RateLimitError(
                "Slow down.",
                provider="openai",
                model="gpt-4",
                status=429,
                retry_after=1.5,
                request_id="req_1",
            ),
            "openai:gpt-4: Slow down. (HTTP 429, request req_1, retry after 1.5 s)",
        ),
        (
            AllModelsFailedError("Both failed.", [LLMError("one"), LLMError("two")]),
            "Both failed.\n  - one\n  - two",
        ),
    ],
)
def test_the_text_names_cause_and_cure(error, text):
    assert text == str(error)


# What to construct an error with, by the annotation of the argument.
GIVEN = {
    str: "text",
    str | None: "text",
    int: 3,
    int | None: 429,
    bool | None: True,
    float | None: 1.5,
    Problem: PROBLEM,
    Sequence[Problem]: [PROBLEM, PROBLEM],
    Sequence[str]: ["one", "two"],
    Iterable[str]: ["one", "two"],
    Sequence[LLMError]: [LLMError("one"), RateLimitError("two", status=429)],
}


def made(kind):
    """Return an error with all its data, whatever class may be added one day."""
    if kind.__init__ is Exception.__init__:
        return kind("text")
    arguments, named = [], {}
    for parameter in [*inspect.signature(kind.__init__).parameters.values()][1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= {"provider": "openai", "model": "gpt-4", "status": 429, "retry_after": 2.0}
        elif parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = GIVEN[parameter.annotation]
        else:
            arguments.append(GIVEN[parameter.annotation])
    return kind(*arguments, **named)


@pytest.mark.parametrize(
    "kind", [getattr(errors, name) for name in errors.__all__ if name != "Problem"]
)
def test_every_error_keeps_its_text_and_data_through_pickle(kind):
    error = made(kind)

    copy = pickle.loads(pickle.dumps(error))

    assert kind is type(error) is type(copy)
    assert str(error) == str(copy)
    assert error.args[:1] == copy.args[:1]
    assert vars(error) == vars(copy)
    assert "text" in str(error) or PROBLEM.key in str(error)


def test_the_attempts_of_a_call_travel_by_pickle_also_with_all_of_a_group():
    attempts = (Attempt("openai:gpt-4", "failed", 0.1, "RateLimitError", status=429),)
    one, group = RateLimitError("Slow down."), AllModelsFailedError("All failed.", [LLMError("x")])
    one.attempts = group.attempts = attempts

    assert attempts == pickle.loads(pickle.dumps(one)).attempts
    assert attempts == pickle.loads(pickle.dumps(group)).attempts
    assert () == LLMError("x").attempts


def test_notes_travel_by_pickle():
    error = LLMError("It failed.")
    error.add_note("kernel ← llm.selector")

    assert ["kernel ← llm.selector"] == pickle.loads(pickle.dumps(error)).__notes__


def test_some_errors_are_worth_a_retry_by_default_and_a_provider_may_say_otherwise():
    assert RateLimitError("x").retryable
    assert not RateLimitError("x", retryable=False).retryable
    assert not LLMError("x").retryable
    assert not MISSING.retryable


def test_a_group_is_retryable_when_one_of_its_errors_is():
    assert AllModelsFailedError("x", [LLMError("a"), RateLimitError("b")]).retryable
    assert not AllModelsFailedError("x", [LLMError("a")]).retryable


def test_a_group_can_be_split_with_except_star():
    group = AllModelsFailedError("x", [RateLimitError("a"), LLMTimeoutError("b")])

    matched, rest = group.split(RateLimitError)

    assert isinstance(matched, AllModelsFailedError)
    assert isinstance(rest, AllModelsFailedError)
    assert ["b"] == [str(error) for error in rest.exceptions]


def test_missing_credentials_are_a_mistake_of_configuration_and_of_authentication():
    assert isinstance(MISSING, ConfigurationError)
    assert isinstance(MISSING, AuthenticationError)
    assert ("OPENAI_API_KEY",) == MISSING.variables
    assert ("openai", "gpt-4") == (MISSING.provider, MISSING.model)


def test_every_error_class_is_public_and_in_the_drawn_tree():
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, KorError)
    }

    assert defined == set(errors.__all__) - {"Problem"}
    assert all(name in errors.__doc__ for name in defined)
