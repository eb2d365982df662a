"""A reference splits at the first separator behind a registered provider, and stays whole."""

import pytest

from kor_core.errors import ProviderNotFoundError
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
        ("openai", "names no model"),
        ("openai:", "names no model"),
        ("", "'provider:model'"),
        (":gpt-4", "Register one"),
    ],
)
def test_what_is_no_reference_is_an_error_with_the_cure(text, words):
    with pytest.raises(ProviderNotFoundError) as caught:
        Reference.parse(text, KNOWN)

    assert words in str(caught.value)


def test_without_any_provider_the_error_still_gives_an_example():
    with pytest.raises(ProviderNotFoundError, match="'openai:gpt-4'"):
        Reference.parse("gpt-4", [])
