"""Every failure that the upstream can play, at every position of a call, plain and streamed.

A call has two candidates with two requests each, so that a failure may meet it at four
positions; what comes before it is a 503. Whatever comes: the outcome, the number of requests
and the ledger are what the table of reactions says, and no task, thread or connection is left.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from kor_containers import create_container
from kor_core.errors import AllModelsFailedError, LLMError
from kor_core.llm.policies.breaker import Breakers
from kor_core.llm.policies.retrier import Retrier
from kor_core.testing import Upstream
from kor_core.testing.faults import (
    Body,
    BrokenJson,
    Close,
    Cut,
    Delay,
    Empty,
    ErrorEvent,
    Fault,
    Finished,
    Hang,
    Html,
    Null,
    Reset,
    Slow,
    Status,
)
from kor_core.testing.waiting import await_until

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

CANDIDATES = ("gpt-4o", "gpt-4")  # the second one has the smaller window
TRIES = 2
POSITIONS = range(TRIES * len(CANDIDATES))
ANSWER = "one two three"


class Verdict(NamedTuple):
    """What a fault leads to.

    Args:
        then: `answered`, `again` (the same model, then the next), `next`, `stop`, or `cut`
            (after the first delta, so that nobody else is asked).
        error: the class in the ledger.
        status: the HTTP status in the ledger.
    """

    then: str
    error: str | None = None
    status: int | None = None


FINE = Verdict("answered")
GONE = Verdict("again", "LLMConnectionError")
SENSELESS = Verdict("again", "ProviderError", 200)
CUT_OFF = Verdict("again", "LLMConnectionError", 200)
INTERRUPTED = Verdict("cut", "StreamInterruptedError", 200)
NOT_BEGUN = Verdict("again", "StreamInterruptedError", 200)


def failing(status: int) -> Verdict:
    return Verdict("again", "ProviderError", status)


def wrong(status: int) -> Verdict:
    return Verdict("stop", "BadRequestError", status)


# The fault, what it leads to, and what in a stream where that is something else.
FAULTS: dict[str, tuple[Any, ...]] = {
    "close": (Close(), GONE),
    "reset": (Reset(), GONE),
    "delay": (Delay(0.01), FINE),
    "slow": (Slow(0.005), FINE),
    "400": (Status(400), wrong(400)),
    "401": (Status(401), Verdict("next", "AuthenticationError", 401)),
    "403": (Status(403), Verdict("next", "PermissionDeniedError", 403)),
    "404": (Status(404), Verdict("next", "ModelNotFoundError", 404)),
    "408": (Status(408), Verdict("again", "LLMTimeoutError", 408)),
    "409": (Status(409), failing(409)),
    "413": (Status(413), wrong(413)),
    "422": (Status(422), wrong(422)),
    "429": (Status(429), Verdict("again", "RateLimitError", 429)),
    "429 with a wait": (Status(429, retry_after_ms=5), Verdict("wait", "RateLimitError", 429)),
    "500": (Status(500), failing(500)),
    "502": (Status(502), failing(502)),
    "503": (Status(503), failing(503)),
    "529": (Status(529), failing(529)),
    "quota": (Status(429, code="insufficient_quota"), Verdict("next", "QuotaExhaustedError", 429)),
    "window": (
        Status(400, code="context_length_exceeded"),
        Verdict("stop", "ContextWindowExceededError", 400),
    ),
    "filter": (Status(400, code="content_filter"), Verdict("stop", "ContentFilterError", 400)),
    "redirect": (Html(302), Verdict("next", "ProviderError", 302)),
    "error event": (ErrorEvent(), SENSELESS),
    "rate limit event": (ErrorEvent(status=429), Verdict("again", "RateLimitError", 200)),
    "later error event": (ErrorEvent(after_deltas=1), SENSELESS, INTERRUPTED),
    "page": (Html(), SENSELESS),
    "page of a gateway": (Html(502), failing(502)),
    "broken JSON": (BrokenJson(), SENSELESS),
    "null": (Null(), SENSELESS, Verdict("again", "StreamInterruptedError")),
    "empty": (Empty(), SENSELESS),
    "no body": (Body(""), SENSELESS),
    "other JSON": (Body("[]"), SENSELESS),
    "finished by length": (Finished("length"), FINE),
    "finished by filter": (Finished("content_filter"), FINE),
    "cut": (Cut(), CUT_OFF, INTERRUPTED),
    "cut by reset": (Cut(reset=True), CUT_OFF, INTERRUPTED),
    "cut before a delta": (Cut(after_deltas=0), CUT_OFF, NOT_BEGUN),
    "cut after a delta": (Cut(after_deltas=1), CUT_OFF, INTERRUPTED),
    "cut before the body": (Cut(after_bytes=0), CUT_OFF, NOT_BEGUN),
    "cut in the head": (Cut(after_bytes=10, of_response=True), GONE),
    "cut like an end": (Cut(framing="close"), SENSELESS, INTERRUPTED),
}
# Silence ends at the deadline, at whatever position.
SILENT: dict[str, Fault] = {"hang": Hang(), "cut and hang": Cut(after_bytes=0, hang=True)}

# All other faults differ in the vendor's own answer alone, which the adapters' tests go through.
LITELLM = ("close", "400", "401", "429", "503", "broken JSON", "later error event", "cut")


@contextmanager
def kernel_on(upstream: Upstream, provider: str) -> Iterator[Any]:
    prefix = "openai/" if provider == "litellm" else ""
    llm = {
        "default": {"candidates": [f"{provider}:{prefix}{name}" for name in CANDIDATES]},
        "providers": {provider: {"base_url": upstream.openai_url, "api_key": "sk-of-nobody"}},
    }
    with create_container({"llm": llm, "network": {"trust_env": False}}) as app:
        app.policies.retrier.override(Retrier(TRIES - 1, base=0))
        yield app


async def asked(model: Any, *, streamed: bool, timeout: float = 60) -> Any:  # noqa: ASYNC109  # of the call
    settings = {"timeout": timeout}
    if streamed:
        return await model.astream("Hello!", settings=settings).collect()
    return await model.achat("Hello!", settings=settings)


def expected(verdict: Verdict, position: int) -> tuple[str, list[tuple[str, Any, Any]]]:
    """Return the outcome of a call, and its ledger: model, error and status of each request."""
    ledger = [(CANDIDATES[each // TRIES], "ProviderError", 503) for each in range(position)]
    asked, last_try = CANDIDATES[position // TRIES], position % TRIES == TRIES - 1
    ledger.append((asked, verdict.error, verdict.status))
    is_last = asked == CANDIDATES[-1]
    then = verdict.then
    if then == "wait":  # it is waited for where nobody else is there
        then = "again" if is_last else "next"
    if then == "again" and not last_try:
        return "answered", [*ledger, (asked, None, None)]
    if then in {"again", "next"} and not is_last:
        return "answered", [*ledger, (CANDIDATES[-1], None, None)]
    if then in {"answered", "cut"}:
        return then, ledger
    return "all failed" if is_last else "failed", ledger


def ledger_of(attempts: Any) -> list[tuple[str, Any, Any]]:
    assert all(each.duration >= 0 for each in attempts)
    assert all((each.outcome == "answered") == (each.error is None) for each in attempts)
    return [(each.model.split(":")[1].split("/")[-1], each.error, each.status) for each in attempts]


async def met(model: Any, verdict: Verdict, position: int, *, streamed: bool) -> None:
    outcome, ledger = expected(verdict, position)
    found: Any
    try:
        found = await asked(model, streamed=streamed)
    except LLMError as error:
        found = error
    kind = type(found).__name__

    assert ledger == ledger_of(found.attempts), (position, found)
    if outcome == "answered":
        assert (kind, ANSWER) == ("LLMResponse", found.text)
    elif outcome == "all failed":
        assert isinstance(found, AllModelsFailedError)
        assert ["ProviderError", verdict.error] == [type(e).__name__ for e in found.exceptions]
    else:
        assert verdict.error == kind
        assert streamed or not hasattr(found, "partial")


async def none_left(upstream: Upstream, threads: set[threading.Thread]) -> None:
    await await_until(lambda: upstream.open_connections == 0, 10, "connections to close")
    await await_until(lambda: len(asyncio.all_tasks()) == 1, 10, "tasks to end")
    await asyncio.get_running_loop().shutdown_default_executor()  # the loop's own threads
    assert set(threading.enumerate()) <= threads


@pytest.fixture(scope="module")
def shared() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(shared: Upstream) -> Upstream:
    return shared.clear()


async def through(provider: str, name: str, upstream: Upstream, *, streamed: bool) -> None:
    fault, *verdicts = FAULTS[name]
    verdict = verdicts[-1] if streamed else verdicts[0]
    with kernel_on(upstream, provider) as app:
        for position in POSITIONS:
            # Each call meets closed circuits: what a call before it taught is another test.
            with app.derive({"policies.breakers": Breakers(failures=100)}) as child:
                upstream.clear().play(*[Status(503)] * position, fault)
                upstream.reply(*[ANSWER] * len(POSITIONS))
                model = child.kernel().model_selector.get_model()
                await met(model, verdict, position, streamed=streamed)
                _, ledger = expected(verdict, position)
                assert [model for model, *_ in ledger] == [each.model for each in upstream.requests]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_at_every_position_leads_to_what_the_table_says(name, streamed, upstream):
    threads = set(threading.enumerate())

    await through("openai", name, upstream, streamed=streamed)

    await none_left(upstream, threads)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("name", LITELLM)
async def test_it_does_by_litellm_too(name, streamed, upstream):
    await through("litellm", name, upstream, streamed=streamed)

    await await_until(lambda: len(asyncio.all_tasks()) == 1, 10, "tasks to end")


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("name", SILENT)
async def test_silence_at_every_position_ends_at_the_deadline_and_closes_the_connection(
    name, streamed
):
    before = set(threading.enumerate())

    async def one(position: int) -> None:
        with Upstream() as upstream, kernel_on(upstream, "openai") as app:
            model = app.kernel().model_selector.get_model()
            await model.achat("warm up")
            upstream.clear().play(*[Status(503)] * position, SILENT[name])
            with pytest.raises(LLMError) as caught:
                await asked(model, streamed=streamed, timeout=4)
            await upstream.await_disconnect(1, timeout=10)

            _, ledger = expected(Verdict("cut", "LLMTimeoutError"), position)
            assert "LLMTimeoutError" == type(caught.value).__name__
            assert ledger == ledger_of(caught.value.attempts)
            assert position + 1 == len(upstream.requests)

    await asyncio.gather(*(one(position) for position in POSITIONS))

    await await_until(lambda: len(asyncio.all_tasks()) == 1, 10, "tasks to end")
    await asyncio.get_running_loop().shutdown_default_executor()  # the loop's own threads
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_who_is_cancelled_leaves_at_once_at_every_position(streamed, upstream):
    threads = set(threading.enumerate())
    with kernel_on(upstream, "openai") as app:
        for position in POSITIONS:
            breakers = Breakers(failures=100)
            with app.derive({"policies.breakers": breakers}) as child:
                upstream.clear().play(*[Status(503)] * position, Hang())
                model = child.kernel().model_selector.get_model()
                task = asyncio.create_task(asked(model, streamed=streamed))
                await upstream.await_requests(position + 1, timeout=30)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

                await upstream.await_disconnect(1, timeout=10)
                counted = [state.failures for state in breakers.snapshot().values()]
                assert position == sum(counted)

    await none_left(upstream, threads)


async def test_a_stream_that_is_left_closes_the_connection_at_once(upstream):
    threads = set(threading.enumerate())
    upstream.play(Cut(after_deltas=1, hang=True)).reply(ANSWER)
    with kernel_on(upstream, "openai") as app:
        async with app.kernel().model_selector.get_model().astream("Hello!") as stream:
            assert "one " == (await anext(stream)).text
        await upstream.await_disconnect(1, timeout=10)

    await none_left(upstream, threads)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_nobody_there_is_told_by_every_candidate_in_turn(streamed, upstream):
    with upstream.refusing(), kernel_on(upstream, "openai") as app:
        model = app.kernel().model_selector.get_model()
        with pytest.raises(AllModelsFailedError) as caught:
            await asked(model, streamed=streamed)

    wanted = [(name, "LLMConnectionError", None) for name in CANDIDATES for _ in range(TRIES)]
    assert wanted == ledger_of(caught.value.attempts)


async def test_a_dead_primary_costs_no_request_once_its_circuit_is_open(upstream):
    upstream.fail(503, times=TRIES, model=CANDIDATES[0])
    with kernel_on(upstream, "openai") as app:
        app.policies.breakers.override(Breakers(failures=TRIES))
        model = app.kernel().model_selector.get_model()
        for _ in range(5):
            await model.achat("Hello!")

    asked = [each.model for each in upstream.requests]
    assert [CANDIDATES[0]] * TRIES + [CANDIDATES[1]] * 5 == asked
