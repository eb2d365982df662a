"""The names of what a model can do: one closed list for configuration, profiles and needs."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from kor_core.settings.values import Text
from kor_core.suggestions import did_you_mean, listed

__all__ = ["CAPABILITIES", "Capability", "checked_capabilities"]

CAPABILITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "audio": "takes audio in messages",
        "chat": "answers messages; models for embeddings, images or speech do not",
        "embeddings": "turns texts into vectors",
        "json_schema": "holds an answer to a JSON Schema itself",
        "parallel_tools": "calls several tools in one answer",
        "pdf": "takes PDF files in messages",
        "prompt_caching": "reads parts of a prompt from a cache, at a lower price",
        "reasoning": "thinks before it answers",
        "streaming": "sends its answer piece by piece",
        "system": "takes system messages",
        "tool_choice": "can be told which tool to call",
        "tools": "calls tools",
        "video": "takes video in messages",
        "vision": "takes images in messages",
        "web_search": "searches the web itself",
    }
)


def checked_capabilities(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set.

    Raises:
        ValueError: one of them is no capability; it says which and names the nearest.

    >>> sorted(checked_capabilities(["tools", "vision"]))
    ['tools', 'vision']
    """
    found = frozenset(names)
    for name in sorted(found - CAPABILITIES.keys()):
        hint = did_you_mean(name, CAPABILITIES)
        raise ValueError(f"No capability '{name}'. Expected {listed(CAPABILITIES)}.{hint}")
    return found


def _is_capability(name: str) -> str:
    checked_capabilities([name])
    return name


Capability = Annotated[
    Text,
    AfterValidator(_is_capability),
    WithJsonSchema({"type": "string", "enum": sorted(CAPABILITIES)}),
]
