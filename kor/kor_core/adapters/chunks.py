"""Reads the chunks of a streamed chat completion, OpenAI's or litellm's, as deltas."""

from collections.abc import Iterator, Mapping
from typing import Any

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.completion import (
    index_of,
    joined,
    refuse_error,
    text_in,
    usage_of,
    why_empty,
)
from kor_core.llm.response import Delta, ToolCallPiece
from kor_core.redaction import is_sequence, is_table

__all__ = ["Chunks", "ToolIndexes"]


class Chunks:
    """Makes deltas of the chunks of one answer.

    >>> chunks = Chunks()
    >>> [delta.text for delta in chunks.deltas({"choices": [{"delta": {"content": "Hi"}}]})]
    ['Hi']
    """

    def __init__(self) -> None:
        self._said = False
        self._refusal: list[str] = []
        self._model_id: str | None = None
        self._indexes = ToolIndexes()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: never said by a chunk, for usage comes after the end."""
        return False

    def deltas(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        """Give what a chunk brings.

        Raises:
            SenselessAnswerError: it holds an error, or makes no sense; or the provider or the
                model declined, which its code says.
            ProviderError: the answer ends, and is empty.
        """
        refuse_error(chunk)
        choice = _choice_in(chunk)
        if choice is not None:
            yield from self._of(choice)
        if usage := chunk.get("usage"):
            yield Delta(usage=usage_of(usage))
        if self._model_id is None and (model_id := text_in(chunk, "model")):
            self._model_id = model_id
            yield Delta(model_id=model_id)

    def _of(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        brought = choice.get("delta")
        text = ""
        pieces: tuple[ToolCallPiece, ...] = ()
        if is_table(brought):
            text = joined(brought.get("content"))
            calls = brought.get("tool_calls")
            pieces = tuple(map(self._piece, calls)) if is_sequence(calls) else ()
            if refusal := text_in(brought, "refusal"):
                self._refusal.append(refusal)
        finish = text_in(choice, "finish_reason") or None
        if text or pieces:
            self._said = True
        elif finish is None:
            return
        if finish is not None and not self._said:
            raise why_empty(finish, "".join(self._refusal))
        yield Delta(text, pieces, finish)

    def _piece(self, call: object) -> ToolCallPiece:
        if not is_table(call):
            raise SenselessAnswerError("its tool call is no object")
        ident, function = text_in(call, "id"), call.get("function")
        name = text_in(function, "name")
        index, is_new = self._indexes.of(call.get("index"), ident, name)
        if is_new and not name:
            raise SenselessAnswerError("its tool call names no function")
        ident = ident or (f"call_{index}" if is_new else "")
        return ToolCallPiece(index, ident, name, text_in(function, "arguments"))


def _choice_in(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first choice; none is in chunks of usage, and in Azure's of its filters."""
    choices = chunk.get("choices")
    if not is_sequence(choices):
        # Nothing but usage, or what a server sends to keep the stream alive.
        return None
    return next((each for each in choices if is_table(each) and not each.get("index")), None)


class ToolIndexes:
    """Says which call of an answer a piece belongs to.

    OpenAI counts the calls; some servers leave the index out, or count each as 0 with an id
    of its own.

    >>> indexes = ToolIndexes()
    >>> indexes.of(0, "a", "add"), indexes.of(0, "", ""), indexes.of(0, "b", "add")
    ((0, True), (0, False), (1, True))
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._ours: dict[int | None, int] = {}

    def of(self, theirs: object, ident: str, name: str) -> tuple[int, bool]:
        """Return the index of a piece's call, and whether it is the call's first piece.

        Args:
            theirs: the index that the server gives, if it does.
            ident: the id of the call, empty where the piece has none.
            name: the name of the tool, empty where the piece has none.
        """
        index = index_of(theirs)
        found = self._ours.get(index)
        if found is not None and not self._is_other(found, index, ident, name):
            return found, False
        self._ids.append(ident)
        self._ours[index] = len(self._ids) - 1
        return self._ours[index], True

    def _is_other(self, found: int, theirs: int | None, ident: str, name: str) -> bool:
        if ident:
            return ident != self._ids[found]
        return theirs is None and bool(name)
