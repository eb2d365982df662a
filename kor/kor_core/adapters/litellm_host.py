"""What of the host's environment acts through litellm, and how it is kept from that."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from kor_core.adapters.discretion import hush
from kor_core.errors import ConfigurationError, Problem

__all__ = ["importing", "refuse_acting"]

# Read by litellm while it is imported: its own lists of prices and of headers instead of those
# from the network, and no `.env` file from whichever folder is above its own.
_SET: Final = {
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
}

# Read there too, and kept for the life of the process. They drop or add parameters, budgets
# for thinking, caching, another API, log levels with whole requests.
_HIDDEN: Final = ("LITELLM_", "DEFAULT_ANTHROPIC_", "DEFAULT_MAX_", "DEFAULT_REASONING_EFFORT_")

# Written by litellm while it is imported.
_WRITTEN: Final = ("TIKTOKEN_CACHE_DIR",)

# Read at each call, and no argument of a call stops them.
_ACTING: Final = {
    "USE_LITELLM_PROXY": "it would send every request in OpenAI's format, as if to its proxy",
    "LITELLM_RUST": "it would send requests past the proxy, certificates and timeouts of [network]",
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "it would build requests in an untried way",
    "LITELLM_PRINT_STANDARD_LOGGING_PAYLOAD": "it would print every request with its answer",
}
_OFF: Final = frozenset({"", "0", "f", "false", "n", "no", "off"})
_ON_WHATEVER_IT_SAYS: Final = frozenset({"LITELLM_PRINT_STANDARD_LOGGING_PAYLOAD"})


@contextmanager
def importing() -> Generator[None]:
    """Import litellm inside the block, without what the host's variables would make of it.

    After it, these variables are what they were; others are never touched, because other
    threads may set theirs meanwhile.
    """
    hush()
    theirs = {name for name in os.environ if name.startswith(_HIDDEN)}
    before = {name: os.environ.get(name) for name in {*theirs, *_SET, *_WRITTEN}}
    for name in theirs:
        os.environ.pop(name, None)
    os.environ.update(_SET)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def refuse_acting() -> None:
    """Refuse to call while a variable is set that would change the call.

    Raises:
        ConfigurationError: naming each such variable.
    """
    acting = [
        Problem(
            f"The environment variable {name} is set, and litellm obeys it: {effect}. Unset it.",
            key=name,
        )
        for name, effect in _ACTING.items()
        if _is_on(name, os.environ.get(name, ""))
    ]
    if acting:
        raise ConfigurationError(acting)


def _is_on(name: str, value: str) -> bool:
    if name in _ON_WHATEVER_IT_SAYS:
        return bool(value)
    return value.strip().lower() not in _OFF
