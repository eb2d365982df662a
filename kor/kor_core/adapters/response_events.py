"""Reads the events of a streamed answer of the Responses API as deltas.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.completion import index_of, refuse_error, text_in, why_empty
from kor_core.adapters.responses import finish_of, is_call, refuse_failed, tool_name, usage_of
from kor_core.llm.response import Delta, ToolCallPiece
from kor_core.redaction import is_table

__all__ = ["ResponseEvents"]

_Event = Mapping[str, Any]


class ResponseEvents:
    """Makes deltas of the events of one answer.

    >>> events = ResponseEvents()
    >>> event = {"type": "response.output_text.delta", "delta": "Hi"}
    >>> [delta.text for delta in events.deltas(event)]
    ['Hi']
    """

    def __init__(self) -> None:
        self._said = False
        self._over = False
        self._refusal: list[str] = []
        # Which call of the answer an item of the output is, and which of them brought arguments.
        self._calls: dict[int | None, int] = {}
        self._argued: set[int] = set()

    @property
    def is_over(self) -> bool:
        """Whether the last event was the last of the answer."""
        return self._over

    def deltas(self, event: _Event) -> Iterator[Delta]:
        """Give what an event brings.

        Raises:
            SenselessAnswerError: it holds an error, or makes no sense; or the provider or the
                model declined, which its code says.
            ProviderError: the answer ends, and is empty.
        """
        kind = text_in(event, "type")
        read = _READERS.get(kind)
        if read is not None:
            yield from read(self, event)
        elif not kind:  # gateways put their own errors here
            refuse_error(event)

    def text(self, event: _Event) -> Iterator[Delta]:
        """Give a piece of the text."""
        if text := text_in(event, "delta"):
            self._said = True
            yield Delta(text)

    def refusal(self, event: _Event) -> Iterator[Delta]:
        """Keep a piece of what the model says in place of an answer."""
        self._refusal.append(text_in(event, "delta"))
        return iter(())

    def item(self, event: _Event) -> Iterator[Delta]:
        """Give the beginning of a tool call."""
        item = event.get("item")
        if is_table(item) and is_call(item):
            self._said = True
            index = self._calls[_place_of(event)] = len(self._calls)
            yield _piece(index, text_in(item, "call_id"), tool_name(item))

    def arguments(self, event: _Event) -> Iterator[Delta]:
        """Give a piece of the arguments of a tool call."""
        index = self._calls.get(_place_of(event))
        if index is None:
            raise SenselessAnswerError("it holds arguments of no tool call")
        self._argued.add(index)
        yield _piece(index, arguments=text_in(event, "delta"))

    def item_done(self, event: _Event) -> Iterator[Delta]:
        """Give the arguments of a tool call, where they did not come in pieces."""
        index = self._calls.get(_place_of(event))
        if index is not None and index not in self._argued:
            yield _piece(index, arguments=text_in(event.get("item"), "arguments"))

    def end(self, event: _Event) -> Iterator[Delta]:
        """Give why the answer ended, and what it took."""
        answer = event.get("response")
        if not is_table(answer):
            raise SenselessAnswerError("its last event holds no response")
        refuse_failed(answer)
        finish = finish_of(answer, called=bool(self._calls))
        if not self._said:
            raise why_empty(finish, "".join(self._refusal))
        self._over = True
        model_id = text_in(answer, "model") or None
        usage = usage_of(answer.get("usage"))
        yield Delta(finish_reason=finish, usage=usage, model_id=model_id)

    def failed(self, event: _Event) -> Iterator[Delta]:
        """Refuse an error.

        Raises:
            SenselessAnswerError: in the vendor's words.
        """
        error = event if "message" in event else event.get("error")
        words = text_in(error, "message") or "it holds an error"
        raise SenselessAnswerError(words, code=text_in(error, "code"))


def _place_of(event: _Event) -> int | None:
    return index_of(event.get("output_index"))


def _piece(index: int, ident: str = "", name: str = "", arguments: str = "") -> Delta:
    return Delta(tool_calls=(ToolCallPiece(index, ident, name, arguments),))


# Events of other kinds say what these say too, or what was not asked for.
_READERS: Final[Mapping[str, Callable[[ResponseEvents, _Event], Iterator[Delta]]]] = {
    "response.output_text.delta": ResponseEvents.text,
    "response.refusal.delta": ResponseEvents.refusal,
    "response.output_item.added": ResponseEvents.item,
    "response.function_call_arguments.delta": ResponseEvents.arguments,
    "response.output_item.done": ResponseEvents.item_done,
    "response.completed": ResponseEvents.end,
    "response.incomplete": ResponseEvents.end,
    "response.failed": ResponseEvents.end,
    "error": ResponseEvents.failed,
}
