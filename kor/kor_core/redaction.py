"""Secrets that do not show: text and dicts that mask themselves in every repr.

pydantic's ``SecretStr`` holds keys in the settings. Below the settings, providers
want plain ``str`` and ``dict`` values; these two types are exactly that, except that
``repr`` (and so logs, debuggers and tracebacks with locals) shows a mask, and that
they refuse to be pickled.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn, Self, TypeGuard
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = [
    "MASK",
    "Config",
    "Secret",
    "SecretUrl",
    "guarded",
    "guarded_url",
    "is_secret_name",
    "is_sequence",
    "is_table",
    "masked_url",
    "redact",
    "secrets_in",
]

MASK: Final = "**********"

# A secret shorter than this is not searched for in free text: replacing every "a"
# would garble a message and still reveal the secret by its absence.
_SHORTEST_SEARCHED: Final = 4

_SECRET_WORDS: Final = frozenset(
    (
        *("apikey", "auth", "authorization", "bearer", "cert", "cookie", "cookies"),
        *("credential", "credentials", "dsn", "header", "headers", "jwt", "key", "keys"),
        *("passphrase", "passwd", "password", "private", "pwd", "secret", "secrets"),
        *("sig", "signature", "token", "tokens"),
    )
)
# As vendors write them without a separator, behind a name of their own.
_SECRET_ENDS: Final = (
    *("accesskey", "accesstoken", "apikey", "authtoken", "clientsecret", "password"),
    *("privatekey", "secretkey"),
)
# Any of its parameters may be one, by whatever name.
_SECRET_NAMES: Final = frozenset({"extra_query"})
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class Secret(str):
    """A ``str`` in every respect, except that its repr is a mask and it does not pickle.

    >>> key = Secret("sk-planted")
    >>> key
    '**********'
    >>> key == "sk-planted", f"Bearer {key}"
    (True, 'Bearer sk-planted')
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "A secret is not pickled. Send the name of the setting and read it on the other side."
        )


class SecretUrl(Secret):
    """A URL that holds credentials: the repr masks them and shows the rest.

    >>> SecretUrl("https://user:planted@host/path")
    'https://**********@host/path'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked_url(self))


def guarded_url(text: str) -> str:
    """Return ``text`` as a :class:`SecretUrl` where it is a URL that holds credentials.

    >>> guarded_url("https://host/path?token=planted"), guarded_url("https://host/path")
    ('https://host/path?token=**********', 'https://host/path')
    """
    try:
        secret = "://" in text and MASK in masked_url(text)
    except ValueError:  # brackets that make no sense: no URL
        return text
    return SecretUrl(text) if secret else text


def masked_url(url: str) -> str:
    """Return ``url`` with its password and secret query parameters masked.

    >>> masked_url("http://user:secret@proxy:3128/?region=eu&api_key=sk-1")
    'http://**********@proxy:3128/?region=eu&api_key=**********'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{MASK}@{host}" if "@" in parts.netloc else host
    return urlunsplit(parts._replace(netloc=netloc, query=_masked_query(parts)))


def _masked_query(parts: SplitResult) -> str:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if not any(is_secret_name(name) for name, _ in pairs):
        return parts.query
    return urlencode([(n, MASK if is_secret_name(n) else v) for n, v in pairs], safe="*")


class Config(dict[str, Any]):
    """The dict given to ``create_model``: plain values, a repr without secrets.

    Values whose name says that they are secret (``api_key``, ``extra_headers`` …) become
    :class:`Secret`, at any depth, and URLs with credentials :class:`SecretUrl`.

    ``is_tenants`` says that a tenant chose the endpoint in it: what identifies the operator,
    beside what the dict holds, must not go there. Copies keep it.

    >>> Config(api_key="sk-planted", temperature=0.2)
    Config({'api_key': '**********', 'temperature': 0.2})
    """

    is_tenants = False

    def __init__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        if isinstance(values, Config) and values.is_tenants:
            self.is_tenants = True
        merged = {**(values or {}), **more}
        super().__init__({name: guarded(name, value) for name, value in merged.items()})

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, guarded(name, value))

    def __repr__(self) -> str:
        return f"Config({super().__repr__()})"


def is_secret_name(name: str) -> bool:
    """Say whether a setting of this name is masked.

    >>> [is_secret_name(n) for n in ("api_key", "extra_headers", "accessToken", "myapikey2")]
    [True, True, True, True]
    >>> [is_secret_name(n) for n in ("max_tokens", "temperature", "monkey")]
    [False, False, False]
    """
    if name in _COUNTS or name in _SECRET_NAMES:
        return name in _SECRET_NAMES
    words = {word.lower() for word in _WORD.findall(name)}
    return not words.isdisjoint(_SECRET_WORDS) or any(w.endswith(_SECRET_ENDS) for w in words)


# Named like secrets, but numbers of tokens.
_COUNTS: Final = frozenset(
    {"max_tokens", "max_completion_tokens", "max_output_tokens", "budget_tokens"}
)


def guarded(name: str, value: Any) -> Any:
    """Return ``value`` with every text in it made :class:`Secret` when ``name`` is secret.

    >>> guarded("hooks", ["https://user:planted@host/path", "plain"])
    ['https://**********@host/path', 'plain']
    """
    return _masked(value) if is_secret_name(name) else _searched(value)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return Secret(value)
    if is_table(value):
        return {key: _masked(item) for key, item in value.items()}
    if is_sequence(value):
        return [_masked(item) for item in value]
    return value


def _searched(value: Any) -> Any:
    if is_table(value):
        return {key: guarded(key, item) for key, item in value.items()}
    if is_sequence(value):
        return [_searched(item) for item in value]
    return guarded_url(value) if isinstance(value, str) else value


def is_table(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Say whether it is a table, as far as a type checker is concerned."""
    return isinstance(value, Mapping)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Say whether it is a list or tuple, as far as a type checker is concerned."""
    return isinstance(value, list | tuple)


def secrets_in(value: Any) -> Iterator[str]:
    """Yield every secret text in a config, at any depth.

    >>> [str(secret) for secret in secrets_in(Config(api_key="sk-planted", seed=1))]
    ['sk-planted']
    """
    if isinstance(value, Secret):
        yield value
    elif is_table(value):
        for item in value.values():
            yield from secrets_in(item)
    elif is_sequence(value):
        for item in value:
            yield from secrets_in(item)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with each secret replaced by the mask.

    >>> redact("Incorrect API key provided: sk-planted", ["sk-planted"])
    'Incorrect API key provided: **********'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SEARCHED:
            text = text.replace(secret, MASK)
    return text
