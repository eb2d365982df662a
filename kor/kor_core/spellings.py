"""The spellings in which a secret may come back from the other side: whole, in part, escaped.

A server that repeats what it was sent rarely does so to the letter. It takes the token out of
``Authorization: Bearer …``, decodes a password, or escapes it for JSON, HTML or a URL.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from kor_core.redaction import Config, Secret, is_secret_name, is_sequence, is_table, secrets_in

__all__ = ["is_secret_parameter", "spellings_in_urls", "spellings_of"]

_SCHEME_AND_REST: Final = 2
_NAMED: Final = re.compile(r"""[\w-]=\s*"?([^\s"';,&]+)""")

# Shorter values of a query are switches, such as "true" and "eu", rather than secrets.
_SHORTEST_UNNAMED: Final = 8


def spellings_of(config: Mapping[str, Any]) -> frozenset[Secret]:
    """Return every text that would give away a secret of a config; none of them shows.

    >>> config = Config(extra_headers={"authorization": "Basic dXNlcjpQbGFudGVk"})
    >>> "Planted" in spellings_of(config), "Planted" in repr(spellings_of(config))
    (True, False)
    """
    # None of the query shows in a repr, but its switches are worth reading in an error.
    rest = {name: value for name, value in config.items() if name != "extra_query"}
    found = {*secrets_in(rest), *_in_query(config.get("extra_query"))}
    found.update(Secret(part) for secret in tuple(found) for part in _parts(secret))
    found.update(Secret(part) for text in _texts_in(config) for part in _in_url(text))
    return _escaped(found)


def spellings_in_urls(urls: Iterable[str]) -> frozenset[Secret]:
    """Return every text that would give away the credentials in URLs.

    >>> found = spellings_in_urls(["http://kor:planted@proxy:3128"])
    >>> "planted" in found, "a29yOnBsYW50ZWQ=" in found  # as the header of the proxy has it
    (True, True)
    """
    return _escaped(part for url in urls for part in _in_url(url))


def _parts(secret: str) -> Iterator[str]:
    """Yield what remains of a header without its scheme, and the secrets in a JSON text."""
    words = secret.split()
    if len(words) == _SCHEME_AND_REST:
        yield words[1]
        if words[0].lower() == "basic":
            yield from _in_basic(words[1])
    yield from _NAMED.findall(secret)  # cookies, and schemes with parameters
    if secret.lstrip().startswith("{"):  # such as the credentials of a Google account
        yield from _in_json(secret)


def _in_basic(text: str) -> Iterator[str]:
    try:
        pair = b64decode(f"{text}==").decode("latin-1")
    except ValueError:
        return
    yield pair
    yield pair.partition(":")[2]


def _in_json(text: str) -> Iterator[str]:
    try:
        table = json.loads(text)
        yield from secrets_in(Config(table))
    except (ValueError, RecursionError):
        return


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_table(value):
        for item in value.values():
            yield from _texts_in(item)
    elif is_sequence(value):
        for item in value:
            yield from _texts_in(item)


def _in_url(text: str) -> Iterator[str]:
    try:
        parts = urlsplit(text) if "://" in text else urlsplit("")
    except ValueError:
        return
    userinfo, at, _ = parts.netloc.rpartition("@")
    if at:
        user, colon, password = userinfo.partition(":")
        yield from {password or user, unquote(password or user)}
        pair = f"{unquote(user)}{colon or ':'}{unquote(password)}"
        yield b64encode(pair.encode("utf-8", "replace")).decode()
    yield from _in_query(dict(parse_qsl(parts.query)))


def _in_query(query: object) -> Iterator[Secret]:
    for name, value in query.items() if is_table(query) else ():
        if is_secret_parameter(name, str(value)):
            yield Secret(value)


def is_secret_parameter(name: str, value: str) -> bool:
    """Say whether a parameter of a query may be secret; versions of the API are worth reading.

    >>> is_secret_parameter("code", "planted-1"), is_secret_parameter("alt", "sse")
    (True, False)
    >>> is_secret_parameter("sig", "p"), is_secret_parameter("api-version", "2024-02-01")
    (True, False)
    """
    unnamed = len(value) >= _SHORTEST_UNNAMED and not name.endswith("version")
    return unnamed or is_secret_name(name)


def _escaped(secrets: Iterable[str]) -> frozenset[Secret]:
    """Return the secrets as texts, as parts of URLs, of JSON, of HTML, of reprs and of a line."""
    return frozenset(
        Secret(spelled)
        for secret in secrets
        for spelled in (
            secret,
            quote(secret, safe="", errors="replace"),
            quote_plus(secret, errors="replace"),
            json.dumps(secret)[1:-1],
            escape(secret),
            repr(str(secret))[1:-1],
            " ".join(secret.split()),
        )
    )
