"""One table of failures over both providers: the same failure is the same error everywhere."""

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.util import find_spec
from time import monotonic
from typing import Any

import pytest

from kor_core import errors
from kor_core.adapters.attempt import Caller
from kor_core.adapters.exchange import Failure, Fault, noted
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.adapters.verdicts import of_answer
from kor_core.errors import Problem
from kor_core.llm.base import BaseLLMModel
from kor_core.redaction import Config
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

KEY = "sk-planted-secret"


@dataclass(frozen=True)
class Vendor:
    """A provider, a model, and the wire format that it speaks."""

    provider: type[OpenAIProvider | LiteLLMProvider]
    model: str
    url: str
    has_quota_code: bool = True  # Gemini words a spent quota as it does a rate limit

    def model_at(self, upstream: Upstream, transport: Transport, **config: Any) -> BaseLLMModel:
        url = getattr(upstream, self.url)
        settings = {"api_key": KEY, "base_url": url, **config}
        return self.provider(transport).create_model(self.model, settings)


needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)
VENDORS = [
    pytest.param(Vendor(OpenAIProvider, "gpt-4", "openai_url"), id="openai"),
    pytest.param(
        Vendor(LiteLLMProvider, "openai/gpt-4", "openai_url"),
        id="litellm-openai",
        marks=needs_litellm,
    ),
    pytest.param(
        Vendor(LiteLLMProvider, "claude-3-opus", "url"), id="litellm-anthropic", marks=needs_litellm
    ),
    pytest.param(
        Vendor(LiteLLMProvider, "gemini-1.5-pro", "gemini_url", has_quota_code=False),
        id="litellm-gemini",
        marks=needs_litellm,
    ),
]
every_vendor = pytest.mark.parametrize("vendor", VENDORS)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport(NetworkSettings(trust_env=False))
    yield transport
    transport.close()


def failure_of(model: BaseLLMModel, prompt: str = "Hello!") -> errors.LLMError:
    with pytest.raises(errors.LLMError) as caught:
        asyncio.run(model.agenerate(prompt))
    return caught.value


# status, code the vendor gives, expected class, retryable
STATUSES = [
    (302, None, errors.ProviderError, False),
    (400, None, errors.BadRequestError, False),
    (401, None, errors.AuthenticationError, False),
    (402, None, errors.QuotaExhaustedError, False),
    (403, None, errors.PermissionDeniedError, False),
    (404, None, errors.ModelNotFoundError, False),
    (408, None, errors.LLMTimeoutError, True),
    (409, None, errors.ProviderError, True),
    (413, None, errors.BadRequestError, False),
    (418, None, errors.BadRequestError, False),
    (422, None, errors.BadRequestError, False),
    (429, None, errors.RateLimitError, True),
    (429, "insufficient_quota", errors.QuotaExhaustedError, False),
    (500, None, errors.ProviderError, True),
    (502, None, errors.ProviderError, True),
    (503, None, errors.ProviderError, True),
    (504, None, errors.LLMTimeoutError, True),
    (529, None, errors.ProviderError, True),
]


@every_vendor
@pytest.mark.parametrize("row", STATUSES, ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_status_is_one_error_after_one_request(
    vendor: Vendor,
    row: tuple[int, str | None, type[errors.LLMError], bool],
    upstream: Upstream,
    transport: Transport,
) -> None:
    status, code, kind, retryable = row
    upstream.fail(status, code=code)

    error = failure_of(vendor.model_at(upstream, transport))

    assert kind is type(error)
    assert retryable is error.retryable
    assert (status, vendor.model) == (error.status, error.model)
    assert vendor.provider(transport).id == error.provider
    assert 1 == len(upstream.requests)
    assert error.__cause__ is not None


WORDS = [
    ("This model's maximum context length is 8192 tokens.", errors.ContextWindowExceededError),
    ("prompt is too long: 210000 tokens > 200000 maximum", errors.ContextWindowExceededError),
    ("The input token count (9) exceeds the limit", errors.ContextWindowExceededError),
    ("Your credit balance is too low to access the API.", errors.QuotaExhaustedError),
    ("Blocked by our content management policy.", errors.ContentFilterError),
    ("API key not valid. Please pass a valid API key.", errors.AuthenticationError),
]


@every_vendor
@pytest.mark.parametrize(("words", "kind"), WORDS, ids=lambda value: str(value)[:20])
def test_what_a_vendor_says_in_words_alone_is_understood(
    vendor: Vendor,
    words: str,
    kind: type[errors.LLMError],
    upstream: Upstream,
    transport: Transport,
) -> None:
    upstream.fail(400, message=words)

    error = failure_of(vendor.model_at(upstream, transport))

    assert kind is type(error)
    assert words.rstrip(".") in str(error)


QUOTAS = [
    (None, None, errors.RateLimitError),
    (None, 7.0, errors.RateLimitError),
    ("insufficient_quota", None, errors.QuotaExhaustedError),
    ("insufficient_quota", 7.0, errors.QuotaExhaustedError),
]


@pytest.mark.parametrize("vendor", [row for row in VENDORS if row.values[0].has_quota_code])
@pytest.mark.parametrize("row", QUOTAS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_too_many_requests_and_a_spent_quota_differ_and_tell_the_time_to_wait(
    row: tuple[str | None, float | None, type[errors.LLMError]],
    vendor: Vendor,
    upstream: Upstream,
    transport: Transport,
) -> None:
    code, wait, kind = row
    upstream.fail(429, code=code, retry_after=wait)

    error = failure_of(vendor.model_at(upstream, transport))

    assert kind is type(error)
    assert (wait, 429) == (error.retry_after, error.status)
    assert 1 == len(upstream.requests)


BROKEN_ANSWERS = [
    (faults.Html(), errors.ProviderError),
    (faults.BrokenJson(), errors.ProviderError),
    (faults.Null(), errors.ProviderError),
    (faults.Empty(), errors.ProviderError),
    (faults.Body(b"[]"), errors.ProviderError),
    (faults.Body(b""), errors.ProviderError),
    (faults.Body(b'{"error": {"message": "It broke.", "code": 502}}'), errors.ProviderError),
    (faults.Close(), errors.LLMConnectionError),
    (faults.Reset(), errors.LLMConnectionError),
]


@every_vendor
@pytest.mark.parametrize(("fault", "kind"), BROKEN_ANSWERS, ids=lambda value: repr(value)[:40])
def test_a_broken_answer_is_an_error_that_may_pass(
    vendor: Vendor,
    fault: faults.Fault,
    kind: type[errors.LLMError],
    upstream: Upstream,
    transport: Transport,
) -> None:
    upstream.play(fault)

    error = failure_of(vendor.model_at(upstream, transport))

    assert kind is type(error)
    assert error.retryable
    assert 1 == len(upstream.requests)


@every_vendor
def test_a_refused_connection_says_so_and_is_retryable(
    vendor: Vendor, upstream: Upstream, transport: Transport
) -> None:
    model = vendor.model_at(upstream, transport)

    with upstream.refusing():
        error = failure_of(model)

    assert errors.LLMConnectionError is type(error)
    assert error.retryable
    assert "the connection was refused" in str(error)
    assert "base_url in [llm.providers." in str(error)


@every_vendor
def test_the_deadline_of_the_call_is_its_timeout(
    vendor: Vendor, upstream: Upstream, transport: Transport
) -> None:
    upstream.play(faults.Hang())

    error = failure_of(vendor.model_at(upstream, transport, timeout=1.5))

    assert errors.LLMTimeoutError is type(error)
    assert isinstance(error, TimeoutError)
    assert "timeout of 1.5 s" in str(error)


@every_vendor
def test_silence_longer_than_the_read_timeout_is_a_timeout(
    vendor: Vendor, upstream: Upstream
) -> None:
    transport = Transport(NetworkSettings(read_timeout=0.2))
    upstream.play(faults.Hang())

    error = failure_of(vendor.model_at(upstream, transport))

    assert errors.LLMTimeoutError is type(error)
    assert "no answer came in time" in str(error)


@every_vendor
def test_an_error_pickles_with_its_facts_and_without_its_cause(
    vendor: Vendor, upstream: Upstream, transport: Transport
) -> None:
    upstream.fail(429, retry_after=7)

    error = failure_of(vendor.model_at(upstream, transport))
    copy = pickle.loads(pickle.dumps(error))

    assert (7.0, 429) == (copy.retry_after, copy.status)
    assert (type(error), vars(error)) == (type(copy), vars(copy))
    assert str(error) == str(copy)
    assert copy.__cause__ is None


@every_vendor
def test_an_id_that_the_vendor_sends_is_in_the_error(
    vendor: Vendor, upstream: Upstream, transport: Transport
) -> None:
    upstream.fail(500, headers={"apim-request-id": "req_1"})

    error = failure_of(vendor.model_at(upstream, transport))

    assert error.request_id is not None
    assert error.request_id.startswith("req_")
    assert f"request {error.request_id}" in str(error)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "999999999"}, 86400.0),
        ({"retry-after": "Wed, 21 Oct 9999 07:28:00 GMT"}, 86400.0),
        ({"retry-after": "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_time_to_wait_is_read_in_every_form(
    headers: dict[str, str], expected: float | None, upstream: Upstream, transport: Transport
) -> None:
    upstream.fail(429, headers=headers)

    error = failure_of(VENDORS[0].values[0].model_at(upstream, transport))

    assert expected == error.retry_after


def test_a_date_to_wait_for_counts_from_now(upstream: Upstream, transport: Transport) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    upstream.fail(503, headers={"retry-after": date})

    error = failure_of(VENDORS[0].values[0].model_at(upstream, transport))

    assert error.retry_after is not None
    assert 60 < error.retry_after <= 90


@needs_litellm
def test_gemini_words_a_rate_limit_like_a_spent_quota_and_tells_when_to_come_back(
    upstream: Upstream, transport: Transport
) -> None:
    gemini = Vendor(LiteLLMProvider, "gemini-1.5-pro", "gemini_url")
    details = b'[{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]'
    body = (
        b'{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": '
        b'"You exceeded your current quota.", "details": %b}}' % details
    )
    upstream.play(faults.Body(body, status=429))

    error = failure_of(gemini.model_at(upstream, transport))

    assert errors.RateLimitError is type(error)
    assert 17.0 == error.retry_after


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        ({"finish_reason": "content_filter"}, errors.ContentFilterError, "content filter"),
        ({"message": {"content": None, "refusal": "No."}}, errors.ContentFilterError, "No."),
        ({"finish_reason": "length"}, errors.ProviderError, "Raise max_tokens"),
        (
            {"message": {"tool_calls": [{"function": {"name": "add"}}]}},
            errors.ProviderError,
            "tool calls",
        ),
        ({"message": "text"}, errors.ProviderError, "no message"),
    ],
)
def test_an_answer_without_text_says_why(
    reply: dict[str, Any],
    kind: type[errors.LLMError],
    told: str,
    upstream: Upstream,
    transport: Transport,
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, **reply}
    upstream.play(faults.Body(json.dumps({"choices": [choice]}).encode()))

    error = failure_of(VENDORS[0].values[0].model_at(upstream, transport))

    assert kind is type(error)
    assert told in str(error)
    assert 200 == error.status


NESTED = {
    "without end": b"[" * 200_000,
    "past the recursion of Python": b'{"error": {"message": %b}}' % (b"[" * 900 + b"]" * 900),
    "in a name": b'{"error": %b}' % (b'{"a":' * 900 + b"1" + b"}" * 900),
}


@every_vendor
@pytest.mark.parametrize("body", NESTED)
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_nested_too_deep_is_an_error_of_the_provider(
    body: str, status: int, vendor: Vendor, upstream: Upstream, transport: Transport
) -> None:
    upstream.play(faults.Body(NESTED[body], status=status))

    error = failure_of(vendor.model_at(upstream, transport))

    assert (errors.ProviderError, status) == (type(error), error.status)
    assert "RecursionError" not in str(error)


def test_signs_that_cannot_be_printed_are_replaced(
    upstream: Upstream, transport: Transport
) -> None:
    upstream.play(faults.Body(rb'{"error": {"message": "a\ud800b\u001b[0m"}}', status=400))

    error = failure_of(VENDORS[0].values[0].model_at(upstream, transport))

    assert "a\ufffdb\ufffd[0m" in str(error)


def test_an_unmodified_answer_is_no_redirect(upstream: Upstream, transport: Transport) -> None:
    upstream.play(faults.Body(b"", status=304))

    error = failure_of(VENDORS[0].values[0].model_at(upstream, transport))

    assert errors.ProviderError is type(error)
    assert "redirect" not in str(error)


async def test_the_import_of_an_sdk_does_not_count_against_the_time_of_the_call() -> None:
    async def ready() -> str:
        await asyncio.sleep(0.3)
        return "the SDK"

    async def call(sdk: str) -> str:
        return f"asked {sdk}"

    caller = Caller.of("openai", "gpt-4", Config())

    assert "asked the SDK" == await caller.attempt(call, 0.2, ready)


# --- whatever an SDK or a server comes up with ----------------------------------------------


class UnspeakableError(Exception):
    """One that fails when it is asked what it is."""

    def __str__(self) -> str:
        raise RecursionError

    __repr__ = __str__


class UntouchableError(Exception):
    """One whose arguments cannot be replaced."""

    args = property(lambda _: (KEY,))  # as an SDK might have them


def circling() -> Exception:
    one, other = LookupError(KEY), ValueError(KEY)
    one.__cause__, other.__cause__ = other, one
    return one


def of_a_group() -> Exception:
    return ExceptionGroup("several", [ValueError(KEY), LookupError(KEY)])


def holding() -> Exception:
    return UnicodeDecodeError("ascii", KEY.encode(), 0, 1, "no")


def with_a_table() -> Exception:
    error = LookupError({("a", 1): KEY, 7: [KEY]})
    error.depth = deep(10_000)  # type: ignore[attr-defined]  # as SDKs keep bodies
    return error


def deep(levels: int) -> list[Any]:
    whole: list[Any] = []
    for _ in range(levels):
        whole = [whole]
    return whole


STRANGE = [UnspeakableError, UntouchableError, circling, of_a_group, holding, with_a_table]


@pytest.mark.parametrize("raised", STRANGE)
@pytest.mark.parametrize("status", [None, 200, 503])
async def test_whatever_an_sdk_raises_is_an_error_of_ours_without_the_key(
    status: int | None, raised: Callable[[], Exception]
) -> None:
    caller = Caller.of("openai", "gpt-4", Config(api_key=KEY))

    async def call(_: None) -> None:
        noted().status = status
        raise raised()

    with pytest.raises(errors.LLMError) as caught:
        await caller.attempt(call, None, nothing)

    cause = caught.value.__cause__
    assert status == caught.value.status
    assert isinstance(cause, Exception)
    assert cause.__cause__ is cause.__context__ is caught.value.__context__ is None
    assert not getattr(cause, "exceptions", ())
    assert KEY not in f"{caught.value}{cause.args}{vars(cause)}"
    assert KEY.encode() != getattr(cause, "object", b"")


async def nothing() -> None:
    """Have no SDK to load."""


async def test_a_fault_counts_where_an_error_cannot_be_read() -> None:
    async def call(_: None) -> None:
        noted().failure = Failure(Fault.REFUSED, "host", Unreadable("why"))
        raise UnspeakableError

    with pytest.raises(errors.LLMConnectionError, match="Check that the server runs"):
        await Caller.of("openai", "gpt-4", Config()).attempt(call, None, nothing)


class Unreadable(str):
    """A text that cannot be formatted."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise RecursionError


async def test_an_error_of_ours_from_below_is_masked_and_keeps_its_shape() -> None:
    problem = Problem(f"No file {KEY}.", "config.toml", "network.ca_bundle", "ca")

    async def call(_: None) -> None:
        raise errors.ConfigurationError([problem]) from OSError(KEY)

    with pytest.raises(errors.ConfigurationError) as caught:
        await Caller.of("openai", "gpt-4", Config(api_key=KEY)).attempt(call, None, nothing)

    assert (replace(problem, message="No file **********."),) == caught.value.problems
    assert None is caught.value.__cause__ is caught.value.__context__


async def test_an_error_about_a_call_from_below_is_masked_and_signed() -> None:
    async def call(_: None) -> None:
        raise errors.CapabilityNotSupportedError(f"Not {KEY}.", capability="tools")

    with pytest.raises(errors.CapabilityNotSupportedError) as caught:
        await Caller.of("openai", "gpt-4", Config(api_key=KEY)).attempt(call, None, nothing)

    assert ("Not **********.",) == caught.value.args
    assert ("openai", "gpt-4", "tools") == (
        caught.value.provider,
        caught.value.model,
        caught.value.capability,
    )


def test_an_error_object_larger_than_a_complaint_is_not_read(
    upstream: Upstream, transport: Transport
) -> None:
    body = {"error": {"message": "x" * (1 << 20), "code": "invalid_api_key"}}
    upstream.play(faults.Body(json.dumps(body)))

    error = failure_of(VENDORS[0].values[0].model_at(upstream, transport))

    assert errors.ProviderError is type(error)
    assert "it holds an error" in str(error)


def test_words_of_any_length_are_judged_at_once() -> None:
    words = "api key " * 100_000
    began = monotonic()

    verdict = of_answer(400, (), words)

    assert errors.BadRequestError is verdict.kind
    assert monotonic() - began < 10  # far above the time it takes, far below a pattern's


def test_the_secrets_of_a_caller_show_in_no_frame() -> None:
    caller = Caller.of("openai", "gpt-4", Config(api_key=KEY))

    assert KEY in caller.secrets
    assert KEY not in f"{caller!r} {caller.secrets!r}"
