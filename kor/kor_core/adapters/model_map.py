"""The table of profiles that comes with litellm: a file, read without importing litellm.

litellm publishes it as ``model_prices_and_context_window_backup.json``
(https://github.com/BerriAI/litellm, MIT license). Where the file is missing or broken, nothing
is known of any model, and nothing fails.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from math import inf
from pathlib import Path
from sys import intern
from threading import Lock
from typing import Any, Final

from kor_core.adapters.litellm_vendors import qualified
from kor_core.adapters.vendors import COMPATIBLE, OPENAI
from kor_core.llm.profile import UNKNOWN, ModelProfile, PriceTier
from kor_core.redaction import is_table

__all__ = ["ModelMap", "bundled_map", "bundled_profiles"]

_FILE: Final = "model_prices_and_context_window_backup.json"

# What the map says of capabilities, by our names for them.
_FLAGS: Final[Mapping[str, str]] = {
    "audio": "supports_audio_input",
    "json_schema": "supports_response_schema",
    "parallel_tools": "supports_parallel_function_calling",
    "pdf": "supports_pdf_input",
    "prompt_caching": "supports_prompt_caching",
    "reasoning": "supports_reasoning",
    "streaming": "supports_native_streaming",
    "system": "supports_system_messages",
    "tool_choice": "supports_tool_choice",
    "tools": "supports_function_calling",
    "video": "supports_video_input",
    "vision": "supports_vision",
    "web_search": "supports_web_search",
}
_EMBEDDING: Final = "embedding"
_CHATTING: Final = ("chat", "responses")

# What only a model that answers messages can do.
_CONVERSING: Final = frozenset(
    {
        "chat",
        "json_schema",
        "parallel_tools",
        "reasoning",
        "streaming",
        "system",
        "tool_choice",
        "tools",
    }
)
_PRICES: Final = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
)
_ABOVE: Final = re.compile(r"input_cost_per_token(_above_(\d+)k_tokens)")

# Providers by id, as the map calls them.
_NAMES: Final[Mapping[str, str]] = {
    row.id: row.table for row in (OPENAI, *COMPATIBLE.values()) if row.table
}
_SAME: Final[Mapping[str, str]] = {"ollama_chat": "ollama"}

# Of each entry a tenth is kept, since there are thousands; as tuples, which are smaller still.
_KEPT: Final = (
    "litellm_provider",
    "mode",
    "max_input_tokens",
    "max_output_tokens",
    *_PRICES,
    *_FLAGS.values(),
)
_Kept = tuple[Any, ...]


class ModelMap:
    """Looks up profiles in a file of litellm's format, which is read at the first question.

    It may be asked from any thread, and reads the file once.

    Args:
        file: the file; None where there is none.

    >>> ModelMap(None)("openai", "gpt-4.1") == ModelProfile()
    True
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._rows: Mapping[str, _Kept] | None = None
        self._made: dict[str, ModelProfile] = {}
        self._lock = Lock()

    def __call__(self, provider: str, model: str, /) -> ModelProfile:
        """Return what the file says of a provider's model.

        Args:
            provider: its id: ``openai``, ``litellm`` or that of a compatible vendor.
            model: verbatim from the reference.
        """
        name = qualified(model) if provider == "litellm" else _qualified(provider, model)
        return self._profile(name) if name else UNKNOWN

    def _profile(self, name: str) -> ModelProfile:
        key = next(self._keys(name), None)
        if key is None:
            return self._tuned(name)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = _profile(_entry(self._table[key]))
        return made

    def _keys(self, name: str) -> Iterator[str]:
        """Yield the keys of a model: its name with the vendor, or without if it is the vendor's."""
        vendor, _, bare = name.partition("/")
        vendor = _SAME.get(vendor, vendor)
        if bare and f"{vendor}/{bare}" in self._table:
            yield f"{vendor}/{bare}"
        for key in (bare, name):
            row = self._table.get(key)
            if row is not None and (not bare or _is_of(row[0], vendor)):
                yield key

    def _tuned(self, name: str) -> ModelProfile:
        """Return what holds for a fine-tuned model, ``ft:<base>:<owner>::<id>``: that of its base.

        A tuned model costs more than its base, so where the table has no price for tuned ones
        the price is unknown.
        """
        vendor, _, bare = name.partition("/")
        if vendor != OPENAI.id or not bare.startswith("ft:"):
            return UNKNOWN
        tuned = ":".join(bare.split(":")[:2])
        if bare != tuned:
            return self._profile(f"{vendor}/{tuned}")
        base = self._profile(f"{vendor}/{bare.removeprefix('ft:')}")
        return ModelProfile(
            supported=base.supported,
            unsupported=base.unsupported,
            context_window=base.context_window,
            max_output=base.max_output,
        )

    @property
    def _table(self) -> Mapping[str, _Kept]:
        rows = self._rows
        if rows is None:
            with self._lock:
                rows = self._rows
                if rows is None:
                    rows = self._rows = _read(self._file)
        return rows


def _qualified(provider: str, model: str) -> str:
    vendor = _NAMES.get(provider)
    return f"{vendor}/{model}" if vendor else ""


def _is_of(owner: str, vendor: str) -> bool:
    """Say whether an entry is a vendor's: the map has ``vertex_ai-anthropic_models`` and such."""
    names = (vendor, f"{vendor}_chat", f"{vendor}_converse")
    return owner in names or owner.startswith(f"{vendor}-")


# --- the file -----------------------------------------------------------------------------


def bundled_map() -> Path | None:
    """Return the file of the litellm that is installed, without importing it."""
    try:
        found = find_spec("litellm")
    except ValueError:  # a module of that name which no import system made
        return None
    places = (found and found.submodule_search_locations) or ()
    return next((Path(place, _FILE) for place in places), None)


def _read(file: Path | None) -> Mapping[str, _Kept]:
    try:
        data: Any = json.loads(file.read_bytes()) if file else {}
    except (OSError, ValueError, RecursionError):  # not there, no JSON, not ours to complain of
        data = {}
    entries: Mapping[str, Any] = data if is_table(data) else {}
    return {name: _kept(entry) for name, entry in entries.items() if is_table(entry)}


def _kept(entry: Mapping[str, Any]) -> _Kept:
    vendor, *rest = map(entry.get, _KEPT)
    is_tiered = "_above_" in " ".join(entry)
    tiers = {name: entry[name] for name in entry if "_above_" in name} if is_tiered else None
    return intern(str(vendor)), *rest, tiers


def _entry(kept: _Kept) -> Mapping[str, Any]:
    return dict(zip(_KEPT, kept, strict=False)) | (kept[-1] or {})


# --- profiles -----------------------------------------------------------------------------


def _profile(entry: Mapping[str, Any]) -> ModelProfile:
    supported, unsupported = _capabilities(entry)
    tiers = (PriceTier(above, *_priced(entry, suffix)) for above, suffix in _tiers(entry))
    read, written, cached = _priced(entry)
    if entry["mode"] == _EMBEDDING and read is not None:
        written = Decimal()  # nothing is written
    return ModelProfile(
        supported=supported,
        unsupported=unsupported,
        context_window=_whole(entry["max_input_tokens"]),
        max_output=_whole(entry["max_output_tokens"]),
        input_price=read,
        output_price=written,
        cached_input_price=cached,
        tiers=tuple(tiers),
    )


def _capabilities(entry: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    has = frozenset(name for name, flag in _FLAGS.items() if entry[flag] is True)
    lacks = frozenset(name for name, flag in _FLAGS.items() if entry[flag] is False)
    mode = entry["mode"]
    if mode in _CHATTING:
        return has | {"chat"}, lacks | {"embeddings"}
    if mode == _EMBEDDING:
        return (has - _CONVERSING) | {"embeddings"}, lacks | _CONVERSING
    if mode is None or mode == "completion":  # as some vendors' chat models are called, too
        return has, lacks
    return has - _CONVERSING, lacks | _CONVERSING | {"embeddings"}


def _tiers(entry: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return from how many tokens on prices change, and how the names of those prices end."""
    found = filter(None, map(_ABOVE.fullmatch, entry))
    return sorted((int(each[2]) * 1000, each[1]) for each in found)


def _priced(entry: Mapping[str, Any], suffix: str = "") -> Iterator[Decimal | None]:
    """Yield the three prices for a million tokens; the map has 0 for those it does not know."""
    return (_per_million(_positive(entry.get(f"{name}{suffix}"))) for name in _PRICES)


def _per_million(price: float | None) -> Decimal | None:
    # By way of the digits: they are what was meant, the binary fraction is not.
    return None if price is None else Decimal(f"{Decimal(str(price)).scaleb(6):f}")


def _positive(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 < value < inf else None


def _whole(value: Any) -> int | None:
    found = _positive(value)
    return None if found is None else int(found)


@cache
def bundled_profiles() -> ModelMap:
    """Return the table of this process, shared by all containers and tenants."""
    return ModelMap(bundled_map())
