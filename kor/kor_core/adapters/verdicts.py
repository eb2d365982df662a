"""Which error a failed call is, by what the vendor answered: one table for every vendor.

The exception classes of the SDKs play no part in it: openai gives a spent quota the class of
a rate limit, and litellm makes an internal error of a refused connection. Status, code and
words of the answer are what the vendors themselves document:

- OpenAI: https://platform.openai.com/docs/guides/error-codes
- Anthropic: https://docs.claude.com/en/api/errors
- Gemini: https://ai.google.dev/gemini-api/docs/troubleshooting
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from kor_core import errors
from kor_core.adapters.exchange import TIMEOUTS, Fault

__all__ = ["Verdict", "of_answer", "of_fault"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure amounts to.

    Args:
        kind: the class of the error.
        cause: what happened, as the beginning of a sentence.
        cure: what to do about it, a whole sentence; ``{provider}`` is the provider's id.
        retryable: whether the same call may succeed later; by default as the class says.
    """

    kind: type[errors.LLMError]
    cause: str
    cure: str
    retryable: bool | None = None


_KEY: Final = Verdict(
    errors.AuthenticationError,
    "The key was refused",
    "Check api_key in [llm.providers.{provider}], or the environment variable that holds it.",
)
_FORBIDDEN: Final = Verdict(
    errors.PermissionDeniedError,
    "The key may not do this",
    "Allow the model for the account or project of this key, or use another key.",
)
_RATE: Final = Verdict(
    errors.RateLimitError, "Too many requests or tokens", "Try again later, or call less often."
)
_QUOTA: Final = Verdict(
    errors.QuotaExhaustedError,
    "The account has no quota left",
    "Add credit to the account or raise its limit; trying again does not help.",
)
_TIMEOUT: Final = Verdict(
    errors.LLMTimeoutError, "The provider ran out of time", "Try again, or ask for less at once."
)
_WINDOW: Final = Verdict(
    errors.ContextWindowExceededError,
    "The prompt does not fit the model's context window",
    "Shorten the prompt, lower max_tokens, or choose a model with a larger window.",
)
_FILTER: Final = Verdict(
    errors.ContentFilterError, "The provider declined the content", "Word the prompt differently."
)
_REQUEST: Final = Verdict(
    errors.BadRequestError,
    "The provider calls the request wrong",
    "Change the request: the same one fails again.",
)
_TOO_LARGE: Final = Verdict(
    errors.BadRequestError, "The request is too large", "Send less text or smaller files."
)
_CONFLICT: Final = Verdict(
    errors.ProviderError, "Another request is in the way", "Try again.", retryable=True
)
_MISSING: Final = Verdict(
    errors.ModelNotFoundError,
    "The model or the endpoint does not exist",
    "Check the name of the model, and base_url in [llm.providers.{provider}].",
)
_BROKEN: Final = Verdict(
    errors.ProviderError, "The provider failed", "Try again later.", retryable=True
)
_OVERLOADED: Final = Verdict(
    errors.ProviderError, "The provider is overloaded", "Try again later.", retryable=True
)
_ELSEWHERE: Final = Verdict(
    errors.ProviderError,
    "The endpoint redirects, which a request with a key does not follow",
    "Set base_url in [llm.providers.{provider}] to where it redirects.",
)
_PROXY: Final = Verdict(
    errors.LLMConnectionError,
    "The proxy wants other credentials",
    "Check proxy in [network], or the proxy variables of the environment.",
    retryable=False,
)
_SENSELESS: Final = Verdict(
    errors.ProviderError,
    "The answer makes no sense",
    "Check that base_url in [llm.providers.{provider}] names an API; if it does, try again.",
    retryable=True,
)

_BY_STATUS: Final = {
    400: _REQUEST,
    401: _KEY,
    402: _QUOTA,
    403: _FORBIDDEN,
    404: _MISSING,
    407: _PROXY,
    408: _TIMEOUT,
    409: _CONFLICT,
    413: _TOO_LARGE,
    422: _REQUEST,
    429: _RATE,
    503: _OVERLOADED,
    504: _TIMEOUT,
    529: _OVERLOADED,
}

# Codes, types and reasons as the vendors write them, in lower case.
_BY_CODE: Final = {
    "insufficient_quota": _QUOTA,
    "insufficient_balance": _QUOTA,
    "insufficient_credits": _QUOTA,
    "billing_error": _QUOTA,
    "billing_hard_limit_reached": _QUOTA,
    "billing_not_active": _QUOTA,
    "context_length_exceeded": _WINDOW,
    "context_window_exceeded": _WINDOW,
    "content_filter": _FILTER,
    "content_policy_violation": _FILTER,
    "responsibleaipolicyviolation": _FILTER,
    "invalid_api_key": _KEY,
    "api_key_invalid": _KEY,
    "authentication_error": _KEY,
    "unauthenticated": _KEY,
    "permission_error": _FORBIDDEN,
    "permission_denied": _FORBIDDEN,
    "model_not_found": _MISSING,
    "deploymentnotfound": _MISSING,
    "not_found_error": _MISSING,
    "rate_limit_exceeded": _RATE,
    "rate_limit_error": _RATE,
    "overloaded_error": _OVERLOADED,
    "timeout_error": _TIMEOUT,
    "deadline_exceeded": _TIMEOUT,
    "request_too_large": _TOO_LARGE,
}

# Too general to overrule a status of failure.
_BY_GENERAL_CODE: Final = {
    "server_error": _BROKEN,
    "api_error": _BROKEN,
    "internal": _BROKEN,
    "unavailable": _OVERLOADED,
    "resource_exhausted": _RATE,
    "invalid_request_error": _REQUEST,
    "invalid_argument": _REQUEST,
}

# What some vendors say in words alone, with a general status and code.
_BY_WORDS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), verdict)
    for pattern, verdict in (
        (r"credit balance is too low|insufficient (balance|credit|funds)", _QUOTA),
        (
            r"(context (length|window)|prompt is too long|maximum (number of )?(input )?tokens)",
            _WINDOW,
        ),
        (
            r"(input token count|too many (input )?tokens|reduce the length)",
            _WINDOW,
        ),
        (r"content (management|filter|policy)|safety (system|settings)", _FILTER),
        (r"(api[ _-]?key|credentials?).{0,80}(not valid|invalid|incorrect|missing|expired)", _KEY),
        (r"(missing|invalid|incorrect|no) .{0,80}api[ _-]?key", _KEY),
    )
)
_SPENT: Final = re.compile(r"exceeded your current quota|plan and billing", re.IGNORECASE)
_LONGEST_WORDS: Final = 2000  # characters; the patterns take long over very long ones
_WORDS_COUNT_WITH: Final = frozenset({400, 413, 422})

_CONNECTION: Final = {
    Fault.UNKNOWN_HOST: "Check base_url in [llm.providers.{provider}], and the network.",
    Fault.REFUSED: "Check that the server runs, and base_url in [llm.providers.{provider}].",
    Fault.UNTRUSTED: "Name the file with the CA's certificate as ca_bundle in [network].",
    Fault.TLS: "Check base_url in [llm.providers.{provider}] (http or https), and [network].",
    Fault.PROXY: "Check proxy in [network], or the proxy variables of the environment.",
    Fault.BAD_URL: "Check base_url in [llm.providers.{provider}].",
    Fault.GARBLED: "Check that base_url in [llm.providers.{provider}] names an HTTP server.",
}
_LASTING: Final = frozenset({Fault.UNTRUSTED, Fault.BAD_URL})


def of_answer(status: int, codes: Iterable[str], words: str, *, passing: bool = False) -> Verdict:
    """Judge an answer: by its codes, then by its words, then by its status.

    Args:
        status: HTTP status; 2xx is for answers that make no sense.
        codes: what the vendor calls the failure, the most exact first.
        words: the vendor's message.
        passing: whether the vendor says when to come back. Gemini words a spent quota and a
            rate limit the same; only the latter passes.

    >>> of_answer(429, ["insufficient_quota"], "").kind.__name__
    'QuotaExhaustedError'
    """
    redirects = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    if redirects and status != HTTPStatus.NOT_MODIFIED:
        return _ELSEWHERE
    failed = status >= HTTPStatus.BAD_REQUEST
    known = _BY_CODE if failed else _BY_CODE | _BY_GENERAL_CODE
    for code in codes:
        if verdict := known.get(code.lower()):
            return verdict
    words = words[:_LONGEST_WORDS]
    if status in _WORDS_COUNT_WITH:
        for pattern, verdict in _BY_WORDS:
            if pattern.search(words):
                return verdict
    if status == HTTPStatus.TOO_MANY_REQUESTS and not passing and _SPENT.search(words):
        return _QUOTA
    return _BY_STATUS.get(status) or _by_hundreds(status)


def _by_hundreds(status: int) -> Verdict:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _BROKEN
    if status >= HTTPStatus.BAD_REQUEST:
        return _REQUEST
    return _SENSELESS


def of_fault(fault: Fault) -> Verdict:
    """Judge a failure below HTTP.

    >>> of_fault(Fault.UNTRUSTED).retryable
    False
    """
    if fault in TIMEOUTS:
        return Verdict(
            errors.LLMTimeoutError,
            "The provider did not answer in time",
            "Try again, or raise the timeouts in [network].",
        )
    if fault in {Fault.TOO_LARGE, Fault.PACKED}:
        return _SENSELESS
    cure = _CONNECTION.get(fault, "Try again.")
    retryable = False if fault in _LASTING else None
    return Verdict(errors.LLMConnectionError, "The connection failed", cure, retryable)
