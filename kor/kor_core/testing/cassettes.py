"""Records what providers answered, once, and plays it back without them.

It stands at the transport, so it is the same for every provider, plain or streamed. Files
hold no keys and no cookies, and are made to be read and committed.
"""

import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

from kor_core.interception import Headers, Onward, Wire, intercepted
from kor_core.testing.deck import Player, Recorder
from kor_core.testing.masking import Mask
from kor_core.testing.mismatch import CassetteError, missing
from kor_core.testing.tape import Recorded, RecordedAnswer, RecordedRequest, readable

__all__ = ["Cassette", "Mode", "cassette"]

Mode = Literal["once", "replay", "record"]

_VERSION: Final = 1


@contextmanager
def cassette(path: str | PathLike[str], mode: Mode = "once") -> Generator["Cassette"]:
    """Play the exchanges in a file, or record them where there is no such file yet.

    Inside the block every transport of KOR is served, in any task and thread. Requests are
    matched by method, URL and body; each recorded exchange is played once, so a request that
    was recorded twice may be sent twice. What is recorded is written when the block ends
    without an error, so that a test that failed half-way is recorded anew.

    No request header is written, and of the answers' only those that say something about the
    answer. What stands under the name of a secret is masked, in bodies and URLs; secrets of
    the requests are masked wherever they turn up. So a cassette plays with any key. What a
    model says by itself is written as it is: do not record what must stay private.

    Args:
        path: of the file; it and its folders are created when it is recorded.
        mode: ``once`` records if the file is missing and plays it otherwise; ``replay`` never
            records; ``record`` records anew.

    Raises:
        CassetteError: the file cannot be played, or an answer cannot be recorded.
        NotOnCassetteError: at the call: a request is not on the cassette.
    """
    tape = Cassette.load(Path(path), mode)
    with intercepted(tape):
        yield tape
    tape.save()


class Cassette:
    """The exchanges of one cassette, while it is played or recorded.

    Args:
        path: of its file.
        exchanges: what is on it; None records them.
    """

    def __init__(self, path: Path, exchanges: Sequence[Recorded] | None) -> None:
        self.path: Final = path
        self.recording: Final = exchanges is None
        self.mask: Final = Mask()
        self._lock = Lock()
        self._exchanges = list(exchanges or ())
        self._left = [] if self.recording else self._exchanges.copy()

    @classmethod
    def load(cls, path: Path, mode: Mode) -> "Cassette":
        """Read the file as the mode asks.

        Raises:
            CassetteError: it cannot be played.
        """
        if mode == "record" or (mode == "once" and not path.exists()):
            return cls(path, None)
        try:
            return cls(path, _read(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CassetteError(_unplayable(error), path) from error

    def save(self) -> None:
        """Write what was recorded; nothing when nothing was."""
        whole = [item.written(self.mask) for item in self._exchanges if item.answer is not None]
        if not self.recording or not whole:
            return
        text = json.dumps(
            {"cassette": _VERSION, "exchanges": whole},
            indent=2,
            ensure_ascii=False,
            sort_keys=True,
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # In one step: a cassette is whole or not there, also when tests run side by side.
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        draft.write_text(f"{text}\n", encoding="utf-8")
        draft.replace(self.path)

    @property
    def exchanges(self) -> tuple[Recorded, ...]:
        """What is on it, in the order in which the requests were sent."""
        return tuple(item for item in self._exchanges if item.answer is not None)

    @property
    def unplayed(self) -> tuple[Recorded, ...]:
        """What is on it and was not asked for (again)."""
        return tuple(self._left)

    def wire(self, onward: Onward) -> Wire:
        """Return what answers requests in place of the network."""
        return Recorder(self, onward) if self.recording else Player(self)

    def asked(self, method: str, url: str, headers: Headers, body: bytes) -> RecordedRequest:
        """Return a request without its secrets."""
        self.mask.learn(headers, url, readable(body).get("json"))
        return RecordedRequest.of(method, url, body, self.mask)

    def begin(self, request: RecordedRequest) -> Recorded:
        """Make a place for the answer to a request, in the order in which they are sent."""
        exchange = Recorded(request)
        with self._lock:
            self._exchanges.append(exchange)
        return exchange

    def take(self, request: RecordedRequest) -> RecordedAnswer:
        """Return the recorded answer to a request.

        Raises:
            NotOnCassetteError: there is none (left).
        """
        with self._lock:
            for exchange in self._left:
                if exchange.request.key == request.key and exchange.answer is not None:
                    self._left.remove(exchange)
                    return exchange.answer
        raise missing(request, [item.request for item in self._exchanges], self.path)

    def __repr__(self) -> str:
        return f"<Cassette {self.path} {'recording' if self.recording else 'playing'}>"


def _read(written: Any) -> list[Recorded]:
    if written["cassette"] != _VERSION:
        raise ValueError(f"it is of version {written['cassette']!r}, this is {_VERSION}")
    return [Recorded.read(item) for item in written["exchanges"]]


def _unplayable(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file, and mode='replay' records none. Use mode='once'."
    reason = error if isinstance(error, OSError | ValueError) else "it is no cassette"
    return f"it cannot be played: {reason}. Delete the file to record it anew."
