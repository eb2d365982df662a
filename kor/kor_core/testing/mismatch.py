"""What to say when a cassette cannot serve: the file is unusable, or a request is not on it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from kor_core.errors import KorError
from kor_core.testing.tape import RecordedRequest

__all__ = ["CassetteError", "NotOnCassetteError", "missing"]

_DIFFERENCES_SHOWN: Final = 3
_LONGEST_SHOWN: Final = 60
_ABSENT: Final = object()
_CURE: Final = "Delete the file to record it anew, or mend the request."


class CassetteError(KorError):
    """A cassette cannot be played or recorded.

    Args:
        message: what is wrong and how to mend it.
        path: of its file.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path: Final = path

    def __str__(self) -> str:
        return f"Cassette '{self.path}': {self.args[0]}"


class NotOnCassetteError(CassetteError, AssertionError):
    """A request was sent that is not on the cassette, or not so often.

    It is no ``LLMError``, so nothing retries it or falls back from it: the test fails.

    Args:
        request: what was sent, without its secrets.
        nearest: the number of the most similar exchange on the cassette, from 1; None when
            the cassette is empty.
        differences: where the two differ.
    """

    def __init__(
        self,
        message: str,
        path: Path,
        request: RecordedRequest,
        nearest: int | None = None,
        differences: Sequence[str] = (),
    ) -> None:
        super().__init__(message, path)
        self.request: Final = request
        self.nearest: Final = nearest
        self.differences: Final = tuple(differences)


def missing(
    request: RecordedRequest, recorded: Sequence[RecordedRequest], path: Path
) -> NotOnCassetteError:
    """Return the error for a request that a cassette cannot answer.

    Args:
        request: what was sent.
        recorded: the requests on the cassette, those played already included.
        path: of the file.
    """
    asked = f"{request.method} {request.url}"
    if not recorded:
        return NotOnCassetteError(f"{asked} is not on it; it is empty. {_CURE}", path, request)
    times = sum(other.key == request.key for other in recorded)
    if times:
        often = "once" if times == 1 else f"{times} times"
        return NotOnCassetteError(
            f"{asked} was sent once more than it was recorded ({often}). {_CURE}", path, request
        )
    number, nearest = min(enumerate(recorded, 1), key=lambda item: _distance(request, item[1]))
    differences = list(_differences(request, nearest))
    return NotOnCassetteError(
        f"{asked} is not on it. {_CURE} The nearest is exchange {number} of {len(recorded)}, "
        f"which differs in:{_listed(differences)}",
        path,
        request,
        number,
        differences,
    )


def _distance(sent: RecordedRequest, recorded: RecordedRequest) -> tuple[bool, bool, int]:
    differing = len(list(_differences(sent, recorded)))
    return sent.url != recorded.url, sent.method != recorded.method, differing


def _listed(differences: Sequence[str]) -> str:
    lines = list(differences[:_DIFFERENCES_SHOWN])
    more = len(differences) - len(lines)
    return "".join(f"\n  - {line}" for line in [*lines, *([f"and {more} more"] if more else [])])


def _differences(sent: RecordedRequest, recorded: RecordedRequest) -> Iterator[str]:
    here, there = sent.leaves(), recorded.leaves()
    for place in dict.fromkeys((*here, *there)):
        ours, theirs = here.get(place, _ABSENT), there.get(place, _ABSENT)
        if ours != theirs:
            yield f"{place}: sent {_shown(ours)}, recorded {_shown(theirs)}"


def _shown(value: object) -> str:
    if value is _ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
