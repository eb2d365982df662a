"""Server-sent events, read from bytes as they come off the wire.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.completion import LARGEST_ANSWER

__all__ = ["SLICE", "Event", "Events"]

_BOM: Final = b"\xef\xbb\xbf"
# What is taken apart at once: lines of one sign are thousands in it, and a few milliseconds.
SLICE: Final = 1 << 14
_EACH: Final = 64  # bytes that a piece or a line takes in memory, beside its own
# Names of events, and comments that keep a connection alive some times a second, for an hour.
_MOST_LINES: Final = 1 << 20
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
        self._idle = 0  # lines that brought no data
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
            SenselessAnswerError: an event is larger than any is, or lines without end bring none.
        """
        # A piece that was packed may be megabytes of short lines.
        for start in range(0, len(piece), SLICE):
            for line in self._lines(piece[start : start + SLICE]):
                if line:
                    self._take(line)
                elif self._data:
                    yield Event(self._name, b"\n".join(self._data))
                    self._idle += len(self._data) - 1  # all of them are the work of one
                    self._name, self._data, self._held = "", [], 0
                else:
                    self._name = ""
                    self._idle += 1
            if self._held + self._waiting > LARGEST_ANSWER:
                raise SenselessAnswerError("it holds an event larger than an event can be")
            if self._idle > _MOST_LINES:
                raise SenselessAnswerError("it holds more lines without data than an answer can")

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
            return
        self._idle += 1
        if field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
