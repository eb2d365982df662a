"""A reference splits at the first separator behind a registered provider, and stays whole."""

import pytest

from kor_core.errors import ConfigurationError, ProviderNotFoundError
from kor_core.llm.reference import Reference

KNOWN = ["echo", "litellm", "openai"]


@pytest.mark.parametrize(
    ("text", "provider", "model"),
    [
        ("openai:gpt-4", "openai", "gpt-4"),
        ("litellm/claude-3-opus", "litellm", "claude-3-opus"),
        ("litellm/ollama/llama3:8b", "litellm", "ollama/llama3:8b"),
        ("openai:ft:gpt-4o:acme::x1", "openai", "ft:gpt-4o:acme::x1"),
        ("litellm:anthropic/claude", "litellm", "anthropic/claude"),
    ],
)
def test_the_model_survives_whole(text, provider, model):
    assert (provider, model) == Reference.parse(text, KNOWN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("opnai:gpt-4", "Did you mean 'openai'?"),
        ("opnai:gpt-4", "Registered: echo, litellm, openai."),
        ("gpt-4", "'provider:model'"),
        ("", "'provider:model'"),
        (":gpt-4", "Register one"),
    ],
)
def test_what_is_no_reference_is_an_error_with_the_cure(text, words):
    with pytest.raises(ProviderNotFoundError) as caught:
        Reference.parse(text, KNOWN)

    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["openai", "openai:", "openai/"])
def test_a_reference_without_model_says_so_and_nothing_else(text):
    with pytest.raises(ConfigurationError) as caught:
        Reference.parse(text, KNOWN)

    assert f"'{text}' names no model: write 'openai:<model>'." == str(caught.value)


@pytest.mark.parametrize("text", [3, None, ["openai:gpt-4"]])
def test_what_is_no_text_is_a_type_error(text):
    with pytest.raises(TypeError, match="A reference is a text such as"):
        Reference.parse(text, KNOWN)


def test_without_any_provider_the_error_still_gives_an_example():
    with pytest.raises(ProviderNotFoundError, match="'openai:gpt-4'"):
        Reference.parse("gpt-4", [])


@pytest.mark.parametrize("text", ["openai:gpt-4\nWARNING:root:fake", "openai:\x1b[2J", "op\nen:a"])
def test_a_reference_that_does_not_print_is_refused_on_one_line(text):
    with pytest.raises(ConfigurationError) as caught:
        Reference.parse(text, KNOWN)

    assert f"{text!r} is no reference: some of it does not print" in str(caught.value)
    assert text not in str(caught.value)
