"""Server-sent events, read from bytes as they come off the wire.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from kor_core.adapters.attempt import SenselessAnswerError

__all__ = ["Event", "Events"]

_BOM: Final = b"\xef\xbb\xbf"
_SLICE: Final = 1 << 16
_LARGEST: Final = 16 << 20
_EACH: Final = 64  # bytes that a piece or a line takes in memory, beside its own
_FAREWELLS: Final = frozenset({b"", b"data: [DONE]", b"data:[DONE]"})


class Event(NamedTuple):
    """One event.

    Args:
        name: what the server calls it; empty where it gives no name.
        data: what it brings, as bytes: JSON most of the time.
    """

    name: str
    data: bytes


class Events:
    r"""Puts events together, wherever the pieces of a body are cut.

    Lines may end in LF, CRLF or CR; comments, which keep connections alive, are left out. An
    event is given once it is complete, which is at the empty line after it.

    >>> events = Events()
    >>> list(events.fed(b'data: {"text"')), list(events.fed(b': "Hi"}\n\n'))
    ([], [Event(name='', data=b'{"text": "Hi"}')])
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line; joined once, however many pieces it has
        self._name = ""
        self._data: list[bytes] = []
        self._held = self._waiting = 0  # bytes of the event, and of the line
        self._begun = False

    @property
    def are_whole(self) -> bool:
        """Whether the last event is complete; a body that ends within one was cut.

        The farewell of OpenAI's streams counts as complete: nothing comes after it, and some
        servers forget the empty line.
        """
        rest = b"".join(self._rest).rstrip(b"\r")
        return rest in _FAREWELLS and all(data == b"[DONE]" for data in self._data)

    def fed(self, piece: bytes) -> Iterator[Event]:
        """Give the events that are complete now that this piece has come.

        Raises:
            SenselessAnswerError: an event is larger than any is.
        """
        # A piece that was packed may be megabytes of short lines.
        for start in range(0, len(piece), _SLICE):
            for line in self._lines(piece[start : start + _SLICE]):
                if line:
                    self._take(line)
                elif self._data:
                    yield Event(self._name, b"\n".join(self._data))
                    self._name, self._data, self._held = "", [], 0
                else:
                    self._name = ""
            if self._held + self._waiting > _LARGEST:
                raise SenselessAnswerError("it holds an event larger than an event can be")

    def _lines(self, piece: bytes) -> list[bytes]:
        """Return the lines that are complete, without their ends."""
        self._rest.append(piece)
        self._waiting += len(piece) + _EACH
        if b"\n" not in piece and b"\r" not in piece and not self._rest[0].endswith(b"\r"):
            return []
        whole = b"".join(self._rest)
        lines = whole.splitlines(keepends=True)
        # A CR may be the first half of a CRLF.
        self._rest = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        self._waiting = sum(map(len, self._rest))
        return [line.rstrip(b"\r\n") for line in lines]

    def _take(self, line: bytes) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._held += len(value) + _EACH
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
