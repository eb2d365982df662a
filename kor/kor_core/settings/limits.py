"""What a tenant's overlay may say: everything else is the operator's alone."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from kor_core.errors import Problem
from kor_core.settings.generation import parameters_of
from kor_core.settings.llm import ModelSettings, ProviderSettings
from kor_core.settings.problems import problem_at
from kor_core.settings.provenance import KeyPath, Sourced, as_list, as_table
from kor_core.settings.rates import RATES
from kor_core.settings.values import STRATEGIES
from kor_core.suggestions import listed, nearest

__all__ = ["leaves_path", "overstepping"]

# Prices, limits and budgets are the operator's: a tenant that raised its own would have none.
# So are tags, which say where a tenant's texts may go.
_MODEL_KEYS: Final = frozenset(ModelSettings.model_fields) - {"max_price", "tags"}
_PROVIDER_KEYS: Final = frozenset(ProviderSettings.model_fields) - {*RATES}

_MAY: Final = (
    "An overlay may set llm.default, llm.purposes and llm.providers.<id>.{api_key, base_url, "
    "timeout, extra}."
)

# An overlay is somebody else's, and checking it holds the event loop. What the default says is
# checked once more for each purpose that inherits it.
_MOST: Final = {"providers": 64, "purposes": 256}
_MOST_VALUES: Final = 4096
_MOST_INHERITED: Final = 512
_MOST_STOPS: Final = 32

# Vendors' SDKs build URLs with the name of the model.
_UNFIT: Final = ("://", "\\", "?", "#", "%")


class _Found(NamedTuple):
    path: KeyPath
    message: str
    suggestion: str | None = None


def overstepping(
    overlay: Sourced, providers_of: Callable[[KeyPath], Iterable[str]]
) -> list[Problem]:
    """Return everything by which an overlay oversteps its limits.

    Args:
        overlay: what the tenant configures.
        providers_of: the ids of the providers that a table about models names, once merged.
    """
    found = list(_crowds(overlay.data))
    if not found:  # one problem, rather than one for each of the crowd
        found = [*_everywhere(overlay.data, ()), *_document(overlay.data, providers_of)]
    problems = (problem_at(path, text, overlay, hint) for path, text, hint in found)
    return list(dict.fromkeys(problems))


# --- how much of it -----------------------------------------------------------------------


def _crowds(data: Mapping[str, Any]) -> Iterator[_Found]:
    llm = as_table(data.get("llm")) or {}
    for part, most in _MOST.items():
        if (count := len(as_table(llm.get(part)) or {})) > most:
            words = f"An overlay may name at most {most} {part}, and this one names {count:,}."
            yield _Found(("llm", part), words)
    for path, value, most in (
        (("llm",), data, _MOST_VALUES),
        (("llm", "default"), llm.get("default"), _MOST_INHERITED),
    ):
        if (count := _values(value)) > most:
            yield _Found(path, f"It may hold at most {most:,} values in an overlay, not {count:,}.")


def _values(value: Any) -> int:
    """Count what is in tables and lists; an empty one counts as a value."""
    table = as_table(value)
    items = as_list(value) if table is None else list(table.values())
    return sum(map(_values, items)) if items else 1


# --- anywhere -----------------------------------------------------------------------------


def _everywhere(value: Any, path: KeyPath) -> Iterator[_Found]:
    table, items = as_table(value), as_list(value)
    if table is not None:
        for name, item in table.items():
            if _is_dynaconfs(name):
                yield _Found((*path, name), "dynaconf's own keys have no meaning in an overlay.")
            yield from _everywhere(item, (*path, name))
    elif items is not None:
        for item in items:
            yield from _everywhere(item, path)
    elif value is None:
        yield _Found(path, "Nothing can be taken away from the operator's: leave the key out.")
    elif isinstance(value, str) and value.lstrip().startswith("@"):
        yield _Found(path, "Text that begins with '@' is a token, and those are the operator's.")


def _is_dynaconfs(name: str) -> bool:
    return name.lower().startswith("dynaconf_")


# --- table by table -----------------------------------------------------------------------


def _document(data: Mapping[str, Any], providers_of: Callable[[KeyPath], Any]) -> Iterator[_Found]:
    yield from _tables(data, "llm")
    yield from _strangers(data, {"llm"}, ())
    llm = as_table(data.get("llm")) or {}
    yield from _strangers(llm, {"default", "purposes", "providers"}, ("llm",))
    yield from _tables(llm, "default", "purposes", "providers", path=("llm",))
    if "default" in llm:
        yield from _model(as_table(llm["default"]) or {}, ("llm", "default"), providers_of)
    for part in ("purposes", "providers"):
        tables = as_table(llm.get(part)) or {}
        yield from _tables(tables, *tables, path=("llm", part))
        for name, item in tables.items():
            path, table = ("llm", part, name), as_table(item) or {}
            if part == "purposes":
                yield from _model(table, path, providers_of)
            else:
                yield from _provider(table, path)


def _tables(table: Mapping[str, Any], *names: str, path: KeyPath = ()) -> Iterator[_Found]:
    for name in names:
        if name in table and as_table(table[name]) is None:
            yield _Found((*path, name), "Expected a table.")


def _provider(table: Mapping[str, Any], path: KeyPath) -> Iterator[_Found]:
    yield from _strangers(table, _PROVIDER_KEYS, path)
    yield from _extra(table, path, [path[-1]])


def _strangers(table: Mapping[str, Any], known: Iterable[str], path: KeyPath) -> Iterator[_Found]:
    for name in table:
        if name not in known and not _is_dynaconfs(name):
            yield _Found((*path, name), f"Not a tenant's to set. {_MAY}", nearest(name, known))


def _model(
    table: Mapping[str, Any], path: KeyPath, providers_of: Callable[[KeyPath], Any]
) -> Iterator[_Found]:
    yield from _strangers(table, _MODEL_KEYS, path)
    strategy = table.get("strategy")
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        words = f"Expected {listed(STRATEGIES)}: functions by dotted name are the operator's."
        yield _Found((*path, "strategy"), words, nearest(strategy, STRATEGIES))
    if len(as_list(table.get("stop")) or ()) > _MOST_STOPS:
        yield _Found((*path, "stop"), f"Expected at most {_MOST_STOPS} in an overlay.")
    for key in ("model", "fallbacks", "candidates"):
        given = as_list(table.get(key)) or [table.get(key)]
        names = [name for name in given if isinstance(name, str)]
        if any(map(_is_unfit, names)):
            yield _Found((*path, key), _NO_ENDPOINT)
        elif any(map(leaves_path, names)):
            yield _Found((*path, key), _NO_PATH)
    if "extra" in table:
        yield from _extra(table, path, providers_of(path))


def _is_unfit(name: str) -> bool:
    spaced = any(letter.isspace() or not letter.isprintable() for letter in name)
    return spaced or any(mark in name for mark in _UNFIT)


_NO_ENDPOINT: Final = (
    "The name of a model holds no '://', space or other mark of a URL: some SDKs would call it. "
    "An endpoint goes into base_url of [llm.providers.<id>]."
)


_NO_PATH: Final = (
    "The name of a model holds no empty part, '.' or '..' between its slashes: some SDKs would "
    "call another path of the endpoint."
)


# Dots and slashes; '%25' is the mark itself, of what is encoded twice.
_ENCODED: Final = re.compile("%(25)*(2e|2f|5c)", re.IGNORECASE)


def leaves_path(name: str) -> bool:
    """Say whether a model's name, put into the path of a URL, could lead to another path.

    Args:
        name: of a model, with or without its provider.

    >>> [leaves_path(name) for name in ("gemini/../../files", "gemini/%2E%2e/files", "a//b")]
    [True, True, True]
    >>> [leaves_path(name) for name in ("ft:gpt-4o:acme::x1", "meta/llama-3.1..2", "llama3:8b")]
    [False, False, False]
    """
    # ';' begins parameters of a part, which servers take off; an id of AWS holds '::'.
    dots = (part.partition(";")[0] in {".", ".."} for part in re.split("[/:]", name))
    hidden = "\\" in name or _ENCODED.search(name) is not None
    empty = ":/" in name or not all(name.split("/"))
    return hidden or empty or any(dots)


def _extra(table: Mapping[str, Any], path: KeyPath, providers: Iterable[str]) -> Iterator[_Found]:
    allowed = parameters_of(providers)
    for name, value in (as_table(table.get("extra")) or {}).items():
        here = (*path, "extra", name)
        kind = allowed.get(name)
        if kind is None:
            words = f"Not a tenant's to set. Its extra may hold: {listed(allowed)}."
            yield _Found(here, words, nearest(name, allowed))
        elif not kind.accepts(value):
            yield _Found(here, f"Expected {kind.expected}.")
