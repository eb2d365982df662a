"""What is never written to a cassette: keys, cookies, and whatever is named like a secret."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from kor_core.redaction import MASK, Config, is_secret_name, is_sequence, is_table, redact
from kor_core.spellings import is_secret_parameter, spellings_of

__all__ = ["Mask"]

# Shorter ones would garble every text that happens to hold them.
_SHORTEST_LEARNED: Final = 8

# All that a test may want to see of an answer, and nothing that names an account.
_WRITTEN: Final = re.compile(
    r"content-type|retry-after(-ms)?|(x-)?request-id|(x|anthropic)-ratelimit-.*", re.IGNORECASE
)

# A line of a streamed answer: server-sent events have a name before their JSON, others none.
_LINE: Final = re.compile(r"(data:\s*)?(.*\S)(\s*)", re.DOTALL)


class Mask:
    """Takes secrets out of requests and answers.

    Secrets are known by the names they stand under. Those of a request are remembered, and
    masked wherever else they turn up, such as in the words of a refusal.

    >>> mask = Mask()
    >>> mask.learn([(b"Authorization", b"Bearer sk-planted")], "https://api.example.com/v1", {})
    >>> mask.text("Incorrect API key provided: sk-planted")
    'Incorrect API key provided: **********'
    >>> mask.value({"api_key": "other", "max_tokens": 5})
    {'api_key': '**********', 'max_tokens': 5}
    """

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._lock = Lock()

    def learn(self, headers: Iterable[tuple[bytes, bytes]], url: str, body: object) -> None:
        """Remember the secrets of a request.

        Args:
            headers: as they are sent.
            url: with the query.
            body: what its JSON holds.
        """
        query = parse_qsl(urlsplit(url).query)
        self._remember(secret for pair in headers for secret in _of_header(*pair))
        self._remember(value for name, value in query if is_secret_parameter(name, value))
        self._remember(_of_value(body))

    def learn_cookies(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Remember the cookies that an answer sets."""
        self._remember(_cookie(value) for name, value in headers if name.lower() == b"set-cookie")

    def _remember(self, found: Iterable[str]) -> None:
        spelled = spellings_of(Config(secrets=[*found]))
        secrets = {secret for secret in spelled if len(secret) >= _SHORTEST_LEARNED}
        with self._lock:
            self._secrets |= secrets

    def text(self, text: str) -> str:
        """Return a text without the secrets that were learned."""
        return redact(text, self._secrets)

    def url(self, url: str) -> str:
        """Return a URL without credentials, its query in a stable order."""
        parts = urlsplit(url)
        query = sorted(parse_qsl(parts.query, keep_blank_values=True))
        shown = [(n, MASK if is_secret_parameter(n, value) else value) for n, value in query]
        host = parts.netloc.rpartition("@")[2]
        return self.text(
            urlunsplit((parts.scheme, host, parts.path, urlencode(shown, safe="*:/"), ""))
        )

    def headers(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """Return the headers of an answer that may be written."""
        named = sorted((_text(name).lower(), _text(value)) for name, value in headers)
        return {name: self.text(value) for name, value in named if _WRITTEN.fullmatch(name)}

    def value(self, value: Any) -> Any:
        """Return JSON without the texts that stand under the name of a secret."""
        if isinstance(value, str):
            return self.text(self._inner(value))
        if is_table(value):
            return {self.text(name): self._named(name, value) for name in value}
        if is_sequence(value):
            return [self.value(item) for item in value]
        return value

    def learned(self, value: Any) -> Any:
        """Return JSON without the secrets that were learned, whatever name they stand under."""
        if isinstance(value, str):
            return self.text(value)
        if is_table(value):
            return {name: self.learned(item) for name, item in value.items()}
        if is_sequence(value):
            return [self.learned(item) for item in value]
        return value

    def line(self, line: str) -> str:
        """Return a line of a streamed answer, its JSON masked and the rest as it was."""
        match = _LINE.fullmatch(line)
        if match is None:
            return line
        prefix, content, end = match.groups(default="")
        return f"{prefix}{self.text(self._inner(content))}{end}"

    def _named(self, name: str, table: Mapping[str, Any]) -> Any:
        # A token of the answer beside its probability, not one that opens a door.
        word = name == "token" and "logprob" in table
        if is_secret_name(name) and not word:
            return _hidden(table[name])
        return self.value(table[name])

    def _inner(self, text: str) -> str:
        """Mask JSON inside a text, such as the arguments of a tool."""
        if not text.startswith(("{", "[")):
            return text
        try:
            value: object = json.loads(text)
        except ValueError:
            return text
        masked = self.value(value)
        return text if masked == value else json.dumps(masked, ensure_ascii=False)


def _of_header(name: bytes, value: bytes) -> Iterator[str]:
    if name.lower() == b"cookie":
        yield from (_cookie(pair) for pair in value.split(b";"))
    elif is_secret_name(_text(name)):
        yield _text(value)
        yield _text(value).rpartition(" ")[2]  # without "Bearer" or the like


def _cookie(pair: bytes) -> str:
    return _text(pair).partition(";")[0].partition("=")[2].strip()


def _of_value(value: Any, *, secret: bool = False) -> Iterator[str]:
    if isinstance(value, str) and secret:
        yield value
    elif is_table(value):
        for name, item in value.items():
            yield from _of_value(item, secret=secret or is_secret_name(name))
    elif is_sequence(value):
        for item in value:
            yield from _of_value(item, secret=secret)


def _hidden(value: Any) -> Any:
    """Return what stands under a secret name: texts masked, numbers (of tokens, say) kept."""
    if isinstance(value, str):
        return MASK
    if is_table(value):
        return {name: _hidden(item) for name, item in value.items()}
    if is_sequence(value):
        return [_hidden(item) for item in value]
    return value


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")
