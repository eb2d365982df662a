"""A key shows nowhere: not in reprs, not in errors and all that hangs on them, not in logs."""

import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any, Final

import pytest

from kor_core.redaction import is_sequence, is_table
from kor_core.testing import faults
from kor_core.testing.conformance.subject import Bench, Subject

__all__ = ["Secrets"]

_PLANTED: Final = "sk-planted-by-the-suite"

_TELLING: Final = {
    "refused key": faults.Status(401, f"Incorrect API key provided: {_PLANTED}."),
    "failing server": faults.Status(500, f"No: {_PLANTED}"),
    "page with the key": faults.Body(f"<html>{_PLANTED}</html>", "text/html"),
    "reset connection": faults.Reset(),
}


class Secrets(Subject):
    """A key is planted, and looked for."""

    def test_no_repr_shows_the_key(self, bench: Bench) -> None:
        """Neither that of the model nor that of its config or its provider."""
        model = bench.model(api_key=_PLANTED)

        assert [] == _found(f"{model!r} {model} {model.config!r} {vars(model)!r}")
        assert [] == _found(f"{bench.provider!r} {bench.provider}")

    @pytest.mark.parametrize("failure", _TELLING)
    def test_no_error_shows_the_key(self, bench: Bench, failure: str) -> None:
        """Not in its text, data, causes and tracebacks with locals, nor pickled."""
        bench.upstream.play(_TELLING[failure])

        error = _failure(bench)

        assert [] == _found("\n".join(_told(error)))
        assert _PLANTED.encode() not in pickle.dumps(error)

    def test_no_log_shows_the_key(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        """Not at any level, of any logger."""
        caplog.set_level(logging.DEBUG)
        for name in [*logging.root.manager.loggerDict]:
            caplog.set_level(logging.DEBUG, name)

        if bench.behind is not None:
            bench.behind.play(_TELLING["refused key"])
            _failure(bench)
        bench.run(bench.model(api_key=_PLANTED).agenerate("Hello!"))

        assert [] == _found(caplog.text + "".join(str(vars(record)) for record in caplog.records))


def _found(text: str) -> list[str]:
    # A function of its own, so that no traceback of a failing test shows the text.
    return [line for line in text.splitlines() if _PLANTED in line]


def _failure(bench: Bench) -> BaseException:
    model = bench.model(api_key=_PLANTED)
    try:
        bench.run(model.agenerate("Hello!"))
    except Exception as error:  # noqa: BLE001  # whatever it is, it shows no key
        return error
    pytest.fail("a failure was answered")


def _told(error: BaseException) -> Iterator[str]:
    """Yield all that a logger, a debugger or a tracker of errors could send away."""
    yield from traceback.TracebackException.from_exception(error, capture_locals=True).format()
    pending: list[Any] = [error]
    seen = set[int]()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield repr(value)
        if is_table(value):
            pending += value.values()
        elif is_sequence(value):
            pending += value
        elif isinstance(value, BaseException):
            pending += [value.args, vars(value), value.__cause__, value.__context__]
