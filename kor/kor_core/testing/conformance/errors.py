"""Whatever goes wrong is an error of KOR that says what, whose, and whether to try again."""

import pickle
from typing import Any, Final

import pytest

from kor_core.errors import (
    AuthenticationError,
    BadRequestError,
    LLMConnectionError,
    LLMError,
    LLMTimeoutError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
)
from kor_core.testing import faults
from kor_core.testing.conformance.subject import Bench, Subject

__all__ = ["Errors"]

_FAILURES: Final = {
    "refused key": (faults.Status(401), AuthenticationError),
    "refused permission": (faults.Status(403), PermissionDeniedError),
    "unknown model": (faults.Status(404, code="model_not_found"), ModelNotFoundError),
    "wrong request": (faults.Status(400), BadRequestError),
    "too many requests": (faults.Status(429), RateLimitError),
    "failing server": (faults.Status(500), ProviderError),
    "page in place of an answer": (faults.Html(), ProviderError),
    "broken answer": (faults.BrokenJson(), ProviderError),
    "closed connection": (faults.Close(), LLMConnectionError),
    "reset connection": (faults.Reset(), LLMConnectionError),
}


class Errors(Subject):
    """Failures of the server behind a provider."""

    @pytest.mark.parametrize("failure", _FAILURES)
    def test_a_failure_is_a_typed_error(self, bench: Bench, failure: str) -> None:
        """Each failure has its class."""
        fault, kind = _FAILURES[failure]

        assert issubclass(type(_failing(bench, fault)), kind)

    @pytest.mark.parametrize("failure", ["refused key", "reset connection"])
    def test_an_error_says_whose_it_is(self, bench: Bench, failure: str) -> None:
        """It names the provider and the model."""
        error = _failing(bench, _FAILURES[failure][0])

        assert isinstance(error, LLMError)
        assert (bench.provider.id, bench.model_name) == (error.provider, error.model)

    @pytest.mark.parametrize("failure", ["refused key", "failing server", "reset connection"])
    def test_an_error_survives_pickling(self, bench: Bench, failure: str) -> None:
        """It travels to other processes with its text and its data."""
        error = _failing(bench, _FAILURES[failure][0])

        copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own

        assert (type(error), str(error)) == (type(copy), str(copy))

    def test_how_long_to_wait_is_kept(self, bench: Bench) -> None:
        """What the server says of waiting is ``retry_after``, in seconds."""
        error = _failing(bench, faults.Status(429, retry_after=7))

        assert getattr(error, "retry_after", None) == 7  # noqa: PLR2004  # as told above

    def test_the_deadline_of_a_call_is_kept(self, bench: Bench) -> None:
        """A server that says nothing is left when the time is over."""
        bench.upstream.play(faults.Hang())

        with pytest.raises(LLMTimeoutError):
            bench.run(bench.model().achat("Hello!", settings={"timeout": 0.3}))

    def test_nobody_tries_again_but_kor(self, bench: Bench) -> None:
        """A failed call is one request: KOR decides about the next."""
        _failing(bench, faults.Status(500))

        assert 1 == len(bench.upstream.requests)

    def test_after_a_failure_the_model_serves(self, bench: Bench) -> None:
        """A failure leaves nothing broken behind."""
        bench.upstream.play(faults.Reset())
        model = bench.model()
        with pytest.raises(LLMError):
            bench.run(model.agenerate("Hello!"))

        assert "Again!" == bench.run(model.agenerate("Again!"))


def _failing(bench: Bench, fault: Any) -> BaseException:
    bench.upstream.play(fault)
    try:
        answer = bench.run(bench.model().agenerate("Hello!"))
    except Exception as error:  # noqa: BLE001  # the test looks at what it is
        return error
    pytest.fail(f"a failure was answered with {answer!r}")
