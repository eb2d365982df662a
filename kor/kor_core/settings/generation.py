"""What an ``extra`` may hold; a tenant's: generation parameters by provider, as rows of data.

In a tenant's, everything else is refused, so that a name which an SDK learns tomorrow is refused
too. Not here, and never to be: whatever names an endpoint, a header, a key, a client, a fallback,
a callback or a price; what is stored with the vendor (``store``, ``metadata``); what is paid
for beside tokens (``service_tier``, ``web_search_options``, hosted ``tools``).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from kor_core.settings.provenance import as_list, as_table

__all__ = ["Kind", "misfits", "parameters_of"]


class Kind(NamedTuple):
    """What a parameter may be.

    Args:
        expected: in words, for errors.
        accepts: says of a value whether it is one.
    """

    expected: str
    accepts: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 1


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    items = as_list(value)
    return _is_text(value) or (items is not None and all(map(_is_text, items)))


def _is_weights(value: Any) -> bool:
    table = as_table(value)
    return table is not None and all(map(_is_number, table.values()))


def _is_schema(value: Any) -> bool:
    return as_table(value) is not None


def _is_thinking(value: Any) -> bool:
    table = as_table(value) or {"": None}
    kinds: Mapping[str, Kind] = {"type": _TEXT, "budget_tokens": _COUNT}
    return all(name in kinds and kinds[name].accepts(item) for name, item in table.items())


_WHOLE: Final = Kind("a whole number", _is_whole)
# What a limit or a budget sets aside: below 1 it would give room instead of taking it.
_COUNT: Final = Kind("a whole number, 1 or more", _is_count)
_SECONDS: Final = Kind("a number above 0", _is_seconds)
_NUMBER: Final = Kind("a number", _is_number)
_TEXT: Final = Kind("text", _is_text)
_FLAG: Final = Kind("true or false", _is_flag)
_TEXTS: Final = Kind("text or a list of texts", _is_texts)
_WEIGHTS: Final = Kind("a table of numbers", _is_weights)
_SCHEMA: Final = Kind("a table", _is_schema)
_THINKING: Final = Kind("a table of type and budget_tokens", _is_thinking)

# What nearly every API calls by these names.
_COMMON: Final[Mapping[str, Kind]] = {
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "top_k": _WHOLE,
    "max_tokens": _COUNT,
    "seed": _WHOLE,
    "stop": _TEXTS,
    "frequency_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
}

_CHAT: Final[Mapping[str, Kind]] = {
    **_COMMON,
    "logit_bias": _WEIGHTS,
    "logprobs": _FLAG,
    "max_completion_tokens": _COUNT,
    "min_p": _NUMBER,
    "parallel_tool_calls": _FLAG,
    "reasoning_effort": _TEXT,
    "repetition_penalty": _NUMBER,
    "response_format": _SCHEMA,
    "top_logprobs": _COUNT,
    "user": _TEXT,
    "verbosity": _TEXT,
}

# The vendors whose servers speak like OpenAI's (kor_core.adapters.vendors, held to it by a test).
_COMPATIBLE: Final = (
    "azure",
    "cerebras",
    "deepseek",
    "fireworks",
    "gemini",
    "groq",
    "llamacpp",
    "lmstudio",
    "mistral",
    "nvidia",
    "ollama",
    "openai",
    "openrouter",
    "perplexity",
    "together",
    "vllm",
    "xai",
)

_BY_PROVIDER: Final[Mapping[str, Mapping[str, Kind]]] = {
    **dict.fromkeys(_COMPATIBLE, _CHAT),
    "litellm": {**_CHAT, "drop_params": _FLAG, "thinking": _THINKING},
}


# What means the same as a setting with a type, and is merged over it: in anybody's `extra`.
_SHADOWS: Final[Mapping[str, Kind]] = {
    "temperature": _NUMBER,
    "max_tokens": _COUNT,
    "max_completion_tokens": _COUNT,
    "max_output_tokens": _COUNT,
    "top_p": _NUMBER,
    "stop": _TEXTS,
    "seed": _WHOLE,
    "timeout": _SECONDS,
}


def misfits(extra: Mapping[str, Any]) -> str:
    """Say what in an ``extra`` goes over a setting with a type and is none of that type.

    Args:
        extra: anybody's; None takes a setting away.

    >>> misfits({"max_tokens": -1, "seed": None, "top_k": -1})
    'max_tokens: Expected a whole number, 1 or more.'
    """
    given = [(name, kind) for name, kind in _SHADOWS.items() if extra.get(name) is not None]
    found = (
        f"{name}: Expected {kind.expected}."
        for name, kind in given
        if not kind.accepts(extra[name])
    )
    return " ".join(found)


def parameters_of(providers: Iterable[str]) -> Mapping[str, Kind]:
    """Return the parameters that a tenant may set where these providers are asked.

    Args:
        providers: their ids; several are asked where a table has fallbacks. Of a provider
            without a row only the common parameters are known.

    >>> "thinking" in parameters_of(["litellm"]), "thinking" in parameters_of(["litellm", "my"])
    (True, False)
    """
    tables = [_BY_PROVIDER.get(provider, _COMMON) for provider in providers] or [_COMMON]
    shared = set(tables[0]).intersection(*tables)
    return {name: kind for name, kind in tables[0].items() if name in shared}
