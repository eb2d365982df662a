"""The names of generation settings: which are sent, and what an unknown one is answered with."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kor_core.errors import BadRequestError
from kor_core.redaction import is_sequence
from kor_core.suggestions import did_you_mean, listed

__all__ = ["CHAT", "chosen", "given"]

# The parameters of OpenAI's chat completions, which litellm takes for every vendor, without
# those that change what a call returns (n, stream) or that KOR sets itself (model, messages).
CHAT: Final = frozenset(
    {
        "audio",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)


def chosen(
    kwargs: Mapping[str, Any], known: Iterable[str], *, provider: str, model: str
) -> dict[str, Any]:
    """Return the settings of one call without those that are None, all of them known.

    Args:
        kwargs: what the caller gave.
        known: the names that may be given.
        provider: id of the provider, for the error.
        model: name of the model, for the error.

    Raises:
        BadRequestError: a name that is not known, with the nearest one.
    """
    names = frozenset(known)
    for name in kwargs:
        if name not in names:
            raise BadRequestError(
                f"Unknown generation setting '{name}'.{did_you_mean(name, names)} Known: "
                f"{listed(names)}. What only this vendor knows goes into extra={{…}}.",
                provider=provider,
                model=model,
            )
    return given(kwargs)


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are set, in the shapes that JSON has.

    >>> given({"temperature": None, "stop": ("END",)})
    {'stop': ['END']}
    """
    return {
        name: list(value) if is_sequence(value) else value
        for name, value in settings.items()
        if value is not None
    }
