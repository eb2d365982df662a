"""What a wire format is: it reads a question off a request and writes a reply in JSON."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, cast

from kor_core.testing.replies import Reply, dumped

__all__ = [
    "FREE_JSON",
    "BadBodyError",
    "Failure",
    "Kind",
    "Piece",
    "Question",
    "Tool",
    "WireFormat",
    "ident",
    "last_user_text",
    "required",
    "rows",
    "table",
    "text_of",
    "words",
]

Kind = Literal["text", "embeddings", "other"]

# What "some JSON, please" without a schema is answered with.
FREE_JSON: Final = {"type": "object", "properties": {"text": {"type": "string"}}}


class BadBodyError(ValueError):
    """The body of a request is not what the vendor takes: a status 400."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a request offers, with the JSON Schema of its arguments."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks, apart from any vendor's wire format.

    Args:
        model: as the request names it.
        text: of the last message of the user.
        stream: whether a stream is asked for.
        input_tokens: the words of all messages, which stand for tokens here.
        inputs: texts to embed.
        schema: the JSON Schema that the text must follow; None when it is free.
        forced: the tool that the model has no choice but to call.
        body: the whole body.
    """

    model: str = ""
    text: str = ""
    stream: bool = False
    input_tokens: int = 0
    inputs: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    forced: Tool | None = None
    body: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of a stream.

    Args:
        payload: a JSON object, or text that is sent as it is.
        event: name of the event, for the vendors that name theirs.
        delta: whether it brings content, and so counts as a delta.
    """

    payload: dict[str, Any] | str
    event: str | None = None
    delta: bool = False

    @property
    def data(self) -> str:
        """The payload as text."""
        return self.payload if isinstance(self.payload, str) else dumped(self.payload)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a vendor answers.

    Args:
        status: the HTTP status.
        message: in the vendor's words; what is usual for the status when empty.
        code: the vendor's code of the error, such as ``insufficient_quota``.
        retry_after: seconds after which to try again.
    """

    status: int
    message: str = ""
    code: str | None = None
    retry_after: float | None = None

    @property
    def words(self) -> str:
        """The message, or what is usual for the code or the status."""
        return self.message or _BY_CODE.get(self.code or "") or _BY_STATUS.get(self.status, "Error")


_BY_CODE: Final = {
    "insufficient_quota": "You exceeded your current quota, please check your plan and billing.",
    "context_length_exceeded": (
        "This model's maximum context length is 8192 tokens. "
        "However, your messages resulted in 9001 tokens."
    ),
    "content_filter": "The response was filtered due to the prompt triggering content management.",
    "model_not_found": "The model does not exist or you do not have access to it.",
    "invalid_api_key": "Incorrect API key provided.",
}

_BY_STATUS: Final = {
    400: "The request is invalid.",
    401: "Incorrect API key provided.",
    403: "Your key may not use this resource.",
    404: "The resource was not found.",
    408: "The request timed out.",
    409: "The request conflicts with another.",
    413: "The request is too large.",
    422: "The request could not be processed.",
    429: "Rate limit reached for requests.",
    500: "The server had an error while processing your request.",
    502: "Bad gateway.",
    503: "The engine is currently overloaded, please try again later.",
    504: "The gateway timed out.",
    529: "Overloaded.",
}


class WireFormat(ABC):
    """How one vendor's endpoint reads and writes.

    A subclass states its class attributes and writes the four kinds of JSON:
    the question it reads, the whole answer, the pieces of a stream, the error.
    """

    name: ClassVar[str]
    path: ClassVar[re.Pattern[str]]
    content_key: ClassVar[str]  # holds the answer; null in it is what some gateways send
    method: ClassVar[str] = "POST"
    makes: ClassVar[Kind] = "text"
    status: ClassVar[int] = 200

    def serves(self, method: str, path: str) -> bool:
        """Say whether this endpoint answers; a prefix before its path is no matter."""
        return method == self.method and self.path.search(path) is not None

    @abstractmethod
    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read what is asked.

        Raises:
            BadBodyError: something that the vendor requires is missing.
        """

    @abstractmethod
    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write the answer that is no stream; ``number`` makes its ids its own."""

    @abstractmethod
    def error(self, failure: Failure, number: int) -> dict[str, Any]:
        """Write the body of an error."""

    def pieces(self, question: Question, reply: Reply, number: int) -> Iterator[Piece]:
        """Write the events of a stream; by default the whole answer as the only one."""
        yield Piece(self.whole(question, reply, number), delta=True)

    def error_piece(self, failure: Failure, number: int) -> Piece:
        """Write an error as an event of a stream."""
        return Piece(self.error(failure, number))

    @abstractmethod
    def headers(self, number: int) -> list[tuple[str, str]]:
        """Return the headers that the vendor adds, with the id of the request where it has one."""

    def stream_type(self, question: Question) -> str:
        """Return the content type of a stream."""
        del question
        return "text/event-stream; charset=utf-8"

    def encoded(self, piece: Piece, index: int, question: Question) -> bytes:
        """Return the bytes of the event with this index in a stream; by default SSE."""
        del index, question
        name = "" if piece.event is None else f"event: {piece.event}\n"
        return f"{name}data: {piece.data}\n\n".encode()


# --- reading bodies -----------------------------------------------------------------------


def required(body: Mapping[str, Any], name: str) -> Any:
    """Return ``body[name]``.

    Raises:
        BadBodyError: it is missing.
    """
    if name not in body:
        raise BadBodyError(f"Missing required parameter: '{name}'.")
    return body[name]


def table(value: Any) -> Mapping[str, Any]:
    """Return ``value`` when it is a JSON object, an empty one otherwise."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def rows(value: Any) -> list[Mapping[str, Any]]:
    """Return the JSON objects in a JSON array; none when it is no array."""
    if not isinstance(value, list):
        return []
    items = cast("Iterable[Any]", value)
    return [table(item) for item in items]


def text_of(content: Any) -> str:
    """Return the text of a message's content: a text, or parts of which some hold text.

    >>> text_of([{"type": "text", "text": "What is "}, {"type": "image_url"}, {"text": "this?"}])
    'What is this?'
    """
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in rows(content))


def last_user_text(messages: list[Mapping[str, Any]]) -> str:
    """Return the text of the last message of the user; empty when there is none."""
    texts = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    return next((text for text in reversed(texts) if text), "")


def words(*texts: str) -> int:
    """Count words, which stand for tokens in the usage that is reported."""
    return sum(len(text.split()) for text in texts)


def ident(prefix: str, number: int, width: int = 24) -> str:
    """Return an id as vendors make them, the same in every run.

    >>> ident("req_", 255, 8)
    'req_000000ff'
    """
    return f"{prefix}{number:0{width}x}"
