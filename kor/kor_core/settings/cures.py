"""What to write instead, for the commonest slips. No cure shows a value, which may be a key."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kor_core.settings.llm import LLMSettings, ModelSettings
from kor_core.settings.provenance import KeyPath, as_table, dotted

__all__ = ["of_dotted", "of_misplaced", "of_wrong_kind"]

# Keys that many write beside the model, and that `extra` is no place for.
_OF_PROVIDERS: Final = ("api_key", "base_url")

_TO_PROVIDERS: Final = "Belongs into [llm.providers.<id>]."
_TO_MODELS: Final = (
    "Belongs into [llm.default], or into the table of a purpose, [llm.purposes.<name>]."
)
_MODEL: Final = 'model = "provider:model"'


# --- a key in the wrong table -------------------------------------------------------------


def of_misplaced(path: KeyPath, value: Any) -> str:
    """Return where an unknown key belongs, or ``""`` where it belongs nowhere.

    >>> of_misplaced(("llm", "provider"), "openai").partition(",")[0]
    'Belongs into [llm.default]'
    >>> of_misplaced(("llm", "default", "api_key"), "sk-1")
    'Belongs into [llm.providers.<id>].'
    """
    name, outside = path[-1], path[:-1] in {(), ("llm",)}
    in_models = path[0] == "llm" and path[1:2] != ("providers",)
    if name in _OF_PROVIDERS and (outside or in_models):
        return _TO_PROVIDERS
    if outside and name in ModelSettings.model_fields and as_table(value) is None:
        return _TO_MODELS
    if not path[:-1] and name in LLMSettings.model_fields:
        return f"Write [llm.{name}]." if as_table(value) is not None else "Belongs into [llm]."
    return ""


def of_dotted(path: KeyPath, value: Any) -> str:
    """Return what to write where a name with a dot lacks its quotes, and became two tables.

    >>> of_dotted(("llm", "models", "gpt-4", "1"), {"context_window": 1_000_000})
    'A name with a dot needs quotes: [llm.models."gpt-4.1"].'
    """
    if len(path) <= _NAME or path[:_NAME] not in _NAMED or as_table(value) is None:
        return ""
    return f'A name with a dot needs quotes: [llm.{path[1]}."{".".join(path[_NAME:])}"].'


_NAME: Final = 2  # where the name stands in llm.models.<name>.<key>
_NAMED: Final = {("llm", name) for name in ("budgets", "models", "providers", "purposes")}


# --- a value of the wrong kind ------------------------------------------------------------


def of_wrong_kind(expected: str, path: KeyPath, value: Any) -> str:
    """Return what to write, or ``""`` where nothing simpler can be said than what is expected.

    Args:
        expected: in words, such as ``a number``.
        path: the key.
        value: what was found there.

    >>> of_wrong_kind("a number", ("llm", "default", "temperature"), "0.2").partition(";")[0]
    'Remove the quotes'
    >>> of_wrong_kind("a table", ("llm", "default"), "openai:gpt-4o")
    'Write [llm.default], and under it model = "provider:model".'
    """
    if expected == "a table":
        return _table(path)
    if expected == "a list" and path[-1] == "stop":
        return 'Write stop = "…", or several: stop = ["…", "…"].'
    if not isinstance(value, str):
        return ""
    if expected == "a list":
        return 'Put it into brackets: ["…"].'
    return _quoted(expected, value.strip())


def _table(path: KeyPath) -> str:
    if path[-1] == "extra":
        return "Write extra = { name = value }."
    if path in _KEYED:
        return f"Write [{dotted(path)}.<name>], and under it {_content((*path, ''))}."
    return f"Write [{dotted(path)}], and under it {_content(path)}."


_KEYED: Final = {("llm", name) for name in ("providers", "purposes")}


def _content(path: KeyPath) -> str:
    if path == ("llm", "default") or path[:2] == ("llm", "purposes"):
        return _MODEL
    return 'api_key = "…"' if path[:2] == ("llm", "providers") else "its keys"


def _quoted(expected: str, text: str) -> str:
    token, fits = _UNQUOTED.get(expected, ("", lambda _: False))
    return f"Remove the quotes; a token begins with {token}." if fits(text) else ""


def _is_a(kind: Callable[[str], Any]) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            kind(text)
        except ValueError:
            return False
        return True

    return fits


# With the token that gives such a value: what dynaconf resolved looks like text in quotes.
_UNQUOTED: Final[Mapping[str, tuple[str, Callable[[str], bool]]]] = {
    "a number": ("@float", _is_a(float)),
    "a whole number": ("@int", _is_a(int)),
    "true or false": ("@bool", lambda text: text.lower() in {"true", "false"}),
}
