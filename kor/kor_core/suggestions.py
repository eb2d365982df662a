"""The nearest valid name for a misspelt one, worded the same in every error."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "listed", "nearest", "through_litellm"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to ``name``, or None when nothing is close.

    Case, ``-`` and ``_`` count as equal, because those are the commonest slips.

    >>> nearest("opnai", ["echo", "litellm", "openai"])
    'openai'
    >>> nearest("Api-Key", ["api_key"])
    'api_key'
    """
    by_folded = {_folded(candidate): candidate for candidate in known}
    matches = get_close_matches(_folded(name), by_folded, n=1)
    return by_folded[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"``, ready to append, or an empty string.

    >>> did_you_mean("defualt", ["default"])
    " Did you mean 'default'?"
    """
    found = nearest(name, known)
    return f" Did you mean '{found}'?" if found is not None else ""


def listed(names: Iterable[str]) -> str:
    """Return the names sorted and joined, or ``none``.

    >>> listed({"openai", "echo"})
    'echo, openai'
    """
    return ", ".join(sorted(names)) or "none"


def through_litellm(reference: str, known: Iterable[str]) -> str:
    """Return ``" What litellm reaches …"``, ready to append, where it may be asked instead.

    Args:
        reference: what names no registered provider, ``provider:model`` or less.
        known: ids of the registered providers.

    >>> through_litellm("anthropic:claude-3-opus", ["litellm", "openai"])
    " What litellm reaches is written 'litellm:anthropic/claude-3-opus'."
    >>> through_litellm("opnai:gpt-4", ["litellm", "openai"]), through_litellm("a:b", ["echo"])
    ('', '')
    """
    known = tuple(known)
    provider = reference.replace("/", ":").partition(":")[0]
    if "litellm" not in known or nearest(provider, known) is not None:
        return ""
    return f" What litellm reaches is written 'litellm:{reference.replace(':', '/', 1)}'."


def _folded(name: str) -> str:
    # str: an error's text is made of whatever was asked for, and must never fail.
    return str(name).lower().replace("-", "_")
