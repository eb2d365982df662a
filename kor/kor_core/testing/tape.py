"""Recorded requests and answers as they stand in a cassette's file: readable, and masked."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from kor_core.redaction import is_sequence, is_table
from kor_core.testing.masking import Mask

__all__ = ["Body", "Recorded", "RecordedAnswer", "RecordedRequest", "read_body", "readable"]

Body = Mapping[str, Any]

# A line with the line ends after it: an event of a stream, where it fits one line.
_LINES: Final = re.compile(r"[^\n]*\n+|[^\n]+")


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request, without headers: they tell requests apart no better, and hold the keys.

    Args:
        method: such as ``POST``.
        url: without credentials.
        body: under ``json``, ``text`` or ``base64``; empty when there was none.
    """

    method: str
    url: str
    body: Body = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, method: str, url: str, body: bytes, mask: Mask) -> Self:
        """Mask a request as it is sent."""
        return cls(method.upper(), mask.url(url), _masked(readable(body), mask))

    @property
    def key(self) -> str:
        """What makes two requests the same, whatever the order of their fields."""
        return json.dumps(self.written(), sort_keys=True)

    def written(self) -> dict[str, Any]:
        """Return it as it stands in the file."""
        return {"method": self.method, "url": self.url, **self.body}

    def leaves(self) -> dict[str, Any]:
        """Return its values by where they stand, such as ``json.messages[0].content``."""
        return dict(_leaves("", self.written()))


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """An answer.

    Args:
        status: the HTTP status.
        headers: those that say something about the answer.
        body: under ``json``, ``text``, ``base64``, or ``stream``: what came piece by piece.
    """

    status: int
    headers: Mapping[str, str]
    body: Body

    def written(self) -> dict[str, Any]:
        """Return it as it stands in the file."""
        return {"status": self.status, "headers": dict(self.headers), **self.body}

    def pieces(self) -> list[bytes]:
        """Return the body in the pieces in which it is played."""
        lines: list[str] | None = self.body.get("stream")
        return [read_body(self.body)] if lines is None else [line.encode() for line in lines]


@dataclass(slots=True)
class Recorded:
    """A request and its answer, which is None until it is there."""

    request: RecordedRequest
    answer: RecordedAnswer | None = None

    def answered(
        self, status: int, headers: Mapping[str, str], body: bytes, mask: Mask, *, streamed: bool
    ) -> None:
        """Mask the answer as it came."""
        self.answer = RecordedAnswer(
            status, headers, _masked(readable(body, streamed=streamed), mask)
        )

    def written(self, mask: Mask) -> dict[str, Any]:
        """Return it as it stands in the file, without secrets that were learned later."""
        answer = {} if self.answer is None else self.answer.written()
        whole: dict[str, Any] = mask.learned(
            {"request": self.request.written(), "response": answer}
        )
        return whole

    @classmethod
    def read(cls, written: Any) -> Self:
        """Read it from the file.

        Raises:
            LookupError, TypeError, AttributeError: it is not what `written` gives.
        """
        asked, said = dict(written["request"]), dict(written["response"])
        request = RecordedRequest(asked.pop("method"), asked.pop("url"), asked)
        answer = RecordedAnswer(int(said.pop("status")), dict(said.pop("headers")), said)
        return cls(request, answer)


def readable(body: bytes, *, streamed: bool = False) -> Body:
    r"""Return a body as people read it: JSON or text where it is that.

    >>> readable(b'{"a": 1}'), readable(b"one\ntwo", streamed=True)
    ({'json': {'a': 1}}, {'stream': ['one\n', 'two']})
    >>> readable(b""), readable(b"\xff")
    ({}, {'base64': '/w=='})
    """
    if not body:
        return {"stream": []} if streamed else {}
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}
    if streamed:
        return {"stream": _LINES.findall(text)}
    try:
        return {"json": json.loads(text)}
    except ValueError:
        return {"text": text}


def read_body(body: Body) -> bytes:
    """Return the bytes that a readable body stands for.

    >>> read_body({"json": {"a": "\N{BLACK HEART SUIT}"}}).decode(), read_body({})
    ('{"a": "\N{BLACK HEART SUIT}"}', b'')
    """
    if "json" in body:
        return json.dumps(body["json"], ensure_ascii=False).encode()
    if "base64" in body:
        return base64.b64decode(body["base64"])
    text: str = body.get("text", "")
    return text.encode()


def _masked(body: Body, mask: Mask) -> Body:
    if "stream" in body:
        return {"stream": [mask.line(line) for line in body["stream"]]}
    return body if "base64" in body else {kind: mask.value(body[kind]) for kind in body}


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if is_table(value) and value:
        for name, item in value.items():
            yield from _leaves(f"{place}.{name}" if place else name, item)
    elif is_sequence(value) and value:
        for number, item in enumerate(value):
            yield from _leaves(f"{place}[{number}]", item)
    else:
        yield place, value
