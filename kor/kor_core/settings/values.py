"""The types of single settings: what is accepted, how it is frozen, how it is masked."""

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    Strict,
    WithJsonSchema,
)

from kor_core.redaction import MASK, Secret, SecretUrl, guarded, guarded_url, masked_url
from kor_core.settings.generation import misfits
from kor_core.settings.provenance import as_list, as_table
from kor_core.suggestions import nearest

__all__ = [
    "STRATEGIES",
    "ApiKey",
    "Extra",
    "FilePath",
    "Flag",
    "FrozenMap",
    "Number",
    "ProviderId",
    "ProxyUrl",
    "PurposeName",
    "Reference",
    "ServiceUrl",
    "StateUrl",
    "Stops",
    "Strategy",
    "Target",
    "Text",
    "Texts",
    "Whole",
    "expanded",
    "plain",
]

T = TypeVar("T")
K = TypeVar("K", bound=str)

STRATEGIES: Final = ("ordered", "cheapest", "fastest", "round_robin")
# As shells, Windows, templates and tokens that do not exist spell it.
_PLACEHOLDER: Final = re.compile(
    # Not all in braces: credentials may be JSON.
    r"\$[A-Za-z_]\w*|\$\{.*\}|\{\{.*\}\}|\{\w+(\[\w+\])?\}|%[A-Za-z_]\w*%|@[A-Za-z_]+ .*",
    re.ASCII,
)
_TARGET: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


# --- text ---------------------------------------------------------------------------------


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("Must not be empty.")
    return text


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("Must not be empty.")
    return text


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _is_target(text: str) -> str:
    if not _TARGET.fullmatch(text):
        raise ValueError("Expected 'package.module:name'.")
    return text


def _is_strategy(text: str) -> str:
    if text in STRATEGIES or _TARGET.fullmatch(text):
        return text
    found = nearest(text, STRATEGIES)
    hint = f" Did you mean '{found}'?" if found else ""
    raise ValueError(f"Expected {', '.join(STRATEGIES)} or 'package.module:function'.{hint}")


def _is_purpose_name(name: str) -> str:
    if name == "default":
        raise ValueError(
            "The model of the default purpose is configured in [llm.default]; move the keys there."
        )
    return _not_blank(name)


def _is_provider_id(name: str) -> str:
    if ":" in name or "/" in name:
        raise ValueError("The id of a provider holds neither ':' nor '/'.")
    return _not_blank(name)


def _is_key(secret: SecretStr) -> SecretStr:
    # Keys read from files end in a newline, which no HTTP header may hold.
    key = secret.get_secret_value().strip()
    if not key:
        raise ValueError("Must not be empty. Remove the line if no key is needed.")
    if not key.isascii() or not key.isprintable():
        raise ValueError("Holds characters that no HTTP header can carry.")
    if _PLACEHOLDER.fullmatch(key):
        raise ValueError(
            "Looks like the name of a variable, which is not looked up. Write "
            "'@format {env[NAME]}', or leave api_key out: the vendor's own variable is read then."
        )
    return SecretStr(key)


def _is_file_path(path: Path) -> Path:
    if path == Path():
        raise ValueError("Must not be empty.")
    return expanded(path)


def expanded(path: Path) -> Path:
    """Return ``path`` with ``~`` replaced, where there is such a home directory."""
    try:
        return path.expanduser()
    except RuntimeError:  # no such user: the name may be meant as it stands
        return path


Text = Annotated[str, Strict(), AfterValidator(_not_blank)]
Texts = Annotated[
    tuple[Text, ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]}),
]
# White space ends an answer as any other text does: a new line most of all.
Stops = Annotated[
    tuple[Annotated[str, Strict(), AfterValidator(_not_empty)], ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]}),
]
Reference = Text
Target = Annotated[Text, AfterValidator(_is_target)]
Strategy = Annotated[Text, AfterValidator(_is_strategy)]
PurposeName = Annotated[str, Strict(), AfterValidator(_is_purpose_name)]
ProviderId = Annotated[str, Strict(), AfterValidator(_is_provider_id)]
ApiKey = Annotated[SecretStr, AfterValidator(_is_key)]
FilePath = Annotated[Path, AfterValidator(_is_file_path)]

# --- numbers ------------------------------------------------------------------------------

Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


# --- addresses ----------------------------------------------------------------------------


def _checked_url(url: str, schemes: tuple[str, ...]) -> str:
    expected = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that make no sense
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise ValueError(f"Expected an address that begins with {expected} and names a host.")
    return guarded_url(url)


def _is_service(url: str) -> str:
    parts = urlsplit(_checked_url(url, ("http", "https")))
    # It is shown in errors and logs, and paths are appended to it.
    if "@" in parts.netloc:
        raise ValueError(
            "An endpoint holds no user and password: put a key into api_key, and other "
            "credentials into extra = { extra_headers = { … } }."
        )
    if "?" in url:
        raise ValueError(
            "An endpoint holds no '?': put what follows it into extra = { extra_query = { … } }."
        )
    if "{" in url or "$" in parts.netloc:
        raise ValueError("An endpoint names no variables. Write '@format http://{env[NAME]}/v1'.")
    if "#" in url:
        raise ValueError("An endpoint holds no '#': remove it and what follows it.")
    return url


def _is_proxy(url: str) -> str:
    if url.lower().startswith("socks"):
        raise ValueError(
            "SOCKS proxies cannot be used. Give an http:// or https:// proxy, which most "
            "programs that speak SOCKS can be as well."
        )
    return _checked_url(url, ("http", "https"))


def _is_state(url: str) -> str:
    return _checked_url(url, ("redis", "rediss"))


def _shown_url(url: str, info: SerializationInfo) -> str:
    return masked_url(url) if info.mode_is_json() else url


_ShownUrl: Final = PlainSerializer(_shown_url, when_used="unless-none")
ServiceUrl = Annotated[Text, AfterValidator(_is_service), _ShownUrl]
ProxyUrl = Annotated[Text, AfterValidator(_is_proxy), _ShownUrl]
StateUrl = Annotated[Text, AfterValidator(_is_state), _ShownUrl]


# --- tables -------------------------------------------------------------------------------


def _frozen(table: Mapping[K, T]) -> Mapping[K, T]:
    return MappingProxyType(dict(table))


def _frozen_extra(table: Mapping[str, Any]) -> Mapping[str, Any]:
    if words := misfits(table):
        raise ValueError(words)
    return MappingProxyType({name: _deep(guarded(name, item)) for name, item in table.items()})


def _deep(value: Any) -> Any:
    if (table := as_table(value)) is not None:
        return MappingProxyType({name: _deep(item) for name, item in table.items()})
    if (items := as_list(value)) is not None:
        return [_deep(item) for item in items]
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("Expected a finite number.")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError("Expected text, numbers, true or false, lists and tables only.")


def plain(value: Any, *, masked: bool) -> Any:
    """Return ``value`` as JSON has it: lists, dicts, text, numbers.

    Args:
        value: what a setting holds.
        masked: whether secrets are replaced by a mask.
    """
    if isinstance(value, SecretStr):
        return MASK if masked else value.get_secret_value()
    if isinstance(value, SecretUrl):
        return masked_url(value) if masked else str(value)
    if isinstance(value, Secret):
        return MASK if masked else str(value)
    if (table := as_table(value)) is not None:
        return {name: plain(item, masked=masked) for name, item in table.items()}
    if (items := as_list(value)) is not None:
        return [plain(item, masked=masked) for item in items]
    return _plain_leaf(value)


def _plain_leaf(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return str(value) if isinstance(value, Path) else value


def _shown_extra(table: Mapping[str, Any], info: SerializationInfo) -> dict[str, Any]:
    return plain(table, masked=True) if info.mode_is_json() else dict(table)


Extra = Annotated[Mapping[str, Any], AfterValidator(_frozen_extra), PlainSerializer(_shown_extra)]
FrozenMap = Annotated[Mapping[K, T], AfterValidator(_frozen), PlainSerializer(dict)]
