"""Who called: the file and line outside the machinery, for "who overrode what"."""

import sys
from functools import cache, lru_cache
from types import CodeType, FrameType
from typing import Final

__all__ = ["Caller", "caller"]

# Frames of the machinery itself are passed over.
_OWN: Final = frozenset({"kor_containers", "dependency_injector", "contextlib"})


class Caller:
    """A place in somebody's code; the text is made only when it is asked for."""

    __slots__ = ("_code", "line")

    def __init__(self, code: CodeType, line: int) -> None:
        self._code = code
        self.line = line

    @property
    def file(self) -> str:
        """The file's name as the interpreter knows it."""
        return self._code.co_filename

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@cache
def _is_own(module: str) -> bool:
    return module.partition(".")[0] in _OWN


# Thousands of tenants are derived in one place.
@lru_cache(maxsize=1024)
def _place(code: CodeType, line: int) -> Caller:
    return Caller(code, line)


def caller() -> Caller:
    """The nearest caller that is not part of the containers."""
    frame: FrameType = sys._getframe(1)  # noqa: SLF001 # inspect.stack() reads files
    while frame.f_back is not None and _is_own(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return _place(frame.f_code, frame.f_lineno)
