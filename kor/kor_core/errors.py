"""Every error that KOR raises. Messages say the cause and the cure; the data are attributes.

::

    KorError
    ├── ConfigurationError              a file, variable or argument is wrong: .problems
    │   └── MissingCredentialsError     (also an AuthenticationError) .variables, .key
    ├── NotRegisteredError              a name nobody registered: .name, .known (a LookupError)
    │   ├── ProviderNotFoundError
    │   ├── PurposeNotFoundError
    │   └── ServiceNotFoundError
    ├── RegistrationError               what was handed in cannot be registered: .name
    ├── PluginError                     .plugin, .origin
    ├── ContainerError                  .path
    ├── KernelError                     no kernel can be given here
    ├── TenantError                     a tenant's kernel cannot be given: .tenant
    │   └── TenantNotFoundError         there is no such tenant (a LookupError)
    ├── ToolError                       raised by a tool, to tell the model what went wrong
    └── LLMError                        .retryable .retry_after .status .provider .model .request_id
        ├── AuthenticationError         the key was refused
        ├── PermissionDeniedError       the key may not do this
        ├── RateLimitError              too many requests; try again: .limit
        ├── QuotaExhaustedError         no money left; trying again is of no use
        ├── LLMTimeoutError             the deadline passed (a TimeoutError)
        ├── LLMConnectionError          refused, reset, unreachable (a ConnectionError)
        ├── ContextWindowExceededError  the prompt is too long for the model
        ├── ContentFilterError          the provider declined the content
        ├── BadRequestError             the request is wrong
        ├── ModelNotFoundError          the provider has no such model
        ├── ProviderError               the provider failed, or gave an answer that makes no sense
        │   ├── InvalidAnswerError      the answer does not fit the schema: .text .problems
        │   ├── InvalidToolCallError    the arguments of a tool call are no JSON: .tool .arguments
        │   └── CircuitOpenError        it failed of late, and is left alone for a while
        ├── NotEligibleError            the operator leaves the model out: price, tags, tenant
        ├── ToolRoundsExceededError     the model still wants tools after the last round: .rounds
        ├── StreamInterruptedError      the stream was cut: .partial
        ├── CapabilityNotSupportedError the model cannot do what was asked: .capability
        ├── BudgetExceededError         the call would overspend: .limit
        ├── StateUnavailableError       Redis, which counts limits and budgets, does not answer
        ├── RealCallsBlockedError       a test tried to reach a real provider: .host
        └── AllModelsFailedError        (an ExceptionGroup) every candidate failed

Elsewhere, beside what they speak of::

    kor_containers.validation.InvalidContainerError  (a ContainerError) a wrong graph: .report
    kor_core.testing.CassetteError                   it cannot be played or recorded: .path
    kor_core.testing.NotOnCassetteError              (a CassetteError) the request is not on it
    kor_core.testing.ScriptExhaustedError            a double was asked too often: .model

Every error pickles: its data travel, its ``__cause__`` (which may be an SDK's own exception)
stays behind.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from kor_core.suggestions import did_you_mean, listed

__all__ = [
    "AllModelsFailedError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "CapabilityNotSupportedError",
    "CircuitOpenError",
    "ConfigurationError",
    "ContainerError",
    "ContentFilterError",
    "ContextWindowExceededError",
    "InvalidAnswerError",
    "InvalidToolCallError",
    "KernelError",
    "KorError",
    "LLMConnectionError",
    "LLMError",
    "LLMTimeoutError",
    "MissingCredentialsError",
    "ModelNotFoundError",
    "NotEligibleError",
    "NotRegisteredError",
    "PermissionDeniedError",
    "PluginError",
    "Problem",
    "ProviderError",
    "ProviderNotFoundError",
    "PurposeNotFoundError",
    "QuotaExhaustedError",
    "RateLimitError",
    "RealCallsBlockedError",
    "RegistrationError",
    "ServiceNotFoundError",
    "StateUnavailableError",
    "StreamInterruptedError",
    "TenantError",
    "TenantNotFoundError",
    "ToolError",
    "ToolRoundsExceededError",
]


class KorError(Exception):
    """The root of every error of KOR: ``except KorError`` catches them all."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuilt, (type(self), self.args, dict(self.__dict__))


def _rebuilt(kind: type[KorError], args: tuple[Any, ...], state: dict[str, Any]) -> KorError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


# --- configuration ------------------------------------------------------------------------

# Somebody else may have written what is wrong, with as many and as long names as they liked.
_MOST_LISTED: Final = 20
_LONGEST: Final = 2000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in the configuration.

    Args:
        message: what is wrong and how to mend it, in whole sentences.
        origin: the file (with a line where it is known) or environment variable the value
            came from; empty when there is none.
        key: the dotted key path, such as ``llm.default.model``; empty for a whole file.
        suggestion: the nearest valid name, or None.

    >>> print(Problem("Unknown key.", "config.toml", "llm.default.modl", "model"))
    config.toml: llm.default.modl: Unknown key. Did you mean 'model'?
    """

    message: str
    origin: str = ""
    key: str = ""
    suggestion: str | None = None

    def __str__(self) -> str:
        place = "".join(f"{part}: " for part in (self.origin, self.key) if part)
        hint = f" Did you mean '{self.suggestion}'?" if self.suggestion is not None else ""
        return f"{place}{self.message}{hint}"


class ConfigurationError(KorError):
    """The configuration is wrong. ``problems`` holds everything found, the text the first 20.

    >>> print(ConfigurationError([Problem("Unknown key.", "config.toml", "llm.modl")]))
    config.toml: llm.modl: Unknown key.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        # Not super(): in MissingCredentialsError that is LLMError, which is set up apart.
        KorError.__init__(self)
        self.problems: Final = tuple(problems)

    def __str__(self) -> str:
        texts = [_shortened(str(problem)) for problem in self.problems[:_MOST_LISTED]]
        if len(self.problems) == 1:
            return texts[0]
        lines = "".join(f"\n  - {text}" for text in texts)
        left = len(self.problems) - len(texts)
        more = f"\n  … and {left:,} more" if left else ""
        return f"{len(self.problems):,} problems in the configuration:{lines}{more}"


def _shortened(text: str) -> str:
    """Leave out the middle of a long text: the place is at its start, the cure at its end."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} … {text[-half:]}"


# --- names and registration ---------------------------------------------------------------


class NotRegisteredError(KorError, LookupError):
    """A name was asked for that nobody registered.

    Args:
        name: what was asked for.
        known: what there is.
        cure: how to add it, a whole sentence.
    """

    kind: ClassVar[str] = "entry"
    listing: ClassVar[str] = "Registered"

    def __init__(self, name: str, known: Iterable[str], cure: str = "") -> None:
        super().__init__()
        self.name: Final = name
        self.known: Final = tuple(sorted(known))
        self.cure: Final = cure

    def __str__(self) -> str:
        hint = did_you_mean(self.name, self.known)
        cure = f" {self.cure}" if self.cure else ""
        known = listed(self.known)
        return f"No {self.kind} '{self.name}'. {self.listing}: {known}.{hint}{cure}"


class ProviderNotFoundError(NotRegisteredError):
    """No provider of that id is registered.

    >>> print(ProviderNotFoundError("opnai", ["echo", "openai"]))
    No provider 'opnai'. Registered: echo, openai. Did you mean 'openai'?
    """

    kind = "provider"


class PurposeNotFoundError(NotRegisteredError):
    """No purpose of that name is configured."""

    kind = "purpose"
    listing = "Configured"


class ServiceNotFoundError(NotRegisteredError):
    """No service of that name is registered on the kernel."""

    kind = "service"


class RegistrationError(KorError):
    """A provider or service that was handed in cannot be registered."""

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)
        self.name: Final = name


class PluginError(KorError):
    """A plugin cannot be found, loaded or initialised.

    Args:
        message: what happened and how to mend it.
        plugin: the plugin's id, or the name it was asked for by.
        origin: where it came from: an entry point, a line of the configuration, an argument.
    """

    def __init__(self, message: str, *, plugin: str, origin: str) -> None:
        super().__init__(message)
        self.plugin: Final = plugin
        self.origin: Final = origin

    def __str__(self) -> str:
        return f"Plugin '{self.plugin}' ({self.origin}): {self.args[0]}"


class ContainerError(KorError):
    """A container cannot be built, resolved, overridden or closed as asked.

    Args:
        message: what happened and how to mend it.
        path: the binding it is about, such as ``llm.openai``; None when it is none in particular.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path: Final = path


class KernelError(KorError):
    """No kernel can be given here, or a closed one was used."""


class TenantError(KorError):
    """The kernel of a tenant cannot be given; others are served.

    Args:
        message: what happened and how to mend it; it names no other tenant.
        tenant: the id that was asked for.
    """

    def __init__(self, message: str, *, tenant: str) -> None:
        super().__init__(message)
        self.tenant: Final = tenant


class TenantNotFoundError(TenantError, LookupError):
    """There is no such tenant. Which there are is not said: one tenant learns of no other.

    >>> print(TenantNotFoundError("acme"))
    No tenant 'acme'. Give it an overlay, which may be empty.
    """

    def __init__(self, tenant: str, message: str = "") -> None:
        cure = "Give it an overlay, which may be empty."
        super().__init__(message or f"No tenant '{tenant}'. {cure}", tenant=tenant)


class ToolError(KorError):
    """Raised by a tool, to tell the model what went wrong; it may then call it differently.

    Other exceptions of a tool are the application's own, and end the loop.
    """


# --- calls --------------------------------------------------------------------------------


class LLMError(KorError):
    """A call to a model failed.

    Args:
        message: what happened, in the provider's words where it gave any, without secrets.
        provider: id of the provider that was asked.
        model: name of the model that was asked.
        status: HTTP status of the answer, if there was one.
        retryable: whether the same call may succeed when tried again; by default what is
            usual for the class.
        retry_after: seconds to wait before trying again, when the provider said so.
        request_id: the provider's id of the request, for its support.

    ``attempts`` holds every request of the call, as :class:`kor_core.llm.response.Attempt`.

    >>> print(RateLimitError("Slow down.", provider="openai", model="gpt-4", status=429))
    openai:gpt-4: Slow down. (HTTP 429)
    """

    usually_retryable: ClassVar[bool] = False

    # Of kor_core.llm.response.Attempt, which stands above this module.
    attempts: tuple[Any, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status = status
        self.retryable = self.usually_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        who = ":".join(part for part in (self.provider, self.model) if part)
        facts = [
            *([f"HTTP {self.status}"] if self.status is not None else []),
            *([f"request {self.request_id}"] if self.request_id else []),
            *([f"retry after {self.retry_after:g} s"] if self.retry_after is not None else []),
        ]
        prefix = f"{who}: " if who else ""
        suffix = f" ({', '.join(facts)})" if facts else ""
        return f"{prefix}{self.args[0]}{suffix}"


class AuthenticationError(LLMError):
    """The provider refused the key."""


class MissingCredentialsError(ConfigurationError, AuthenticationError):
    """A provider needs a key and none is configured.

    Args:
        problem: the message with the place that asked for the model.
        variables: environment variables that would be read, in order.
        provider: id of the provider.
        model: name of the model that was asked for.
    """

    def __init__(
        self, problem: Problem, *, variables: Sequence[str], provider: str, model: str
    ) -> None:
        ConfigurationError.__init__(self, [problem])
        self.provider = provider
        self.model = model
        self.status = None
        self.retryable = False
        self.retry_after = None
        self.request_id = None
        self.variables: Final = tuple(variables)
        self.key: Final = problem.key

    def __str__(self) -> str:
        return ConfigurationError.__str__(self)


class PermissionDeniedError(LLMError):
    """The key is known, and may not do this."""


class RateLimitError(LLMError):
    """Too many requests or tokens in the time; trying later helps.

    ``limit`` is the key path of the limit, such as ``llm.providers.openai.tokens_per_minute``,
    where it is KOR's own; empty where the provider says so.
    """

    usually_retryable = True

    def __init__(self, message: str, *, limit: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.limit: Final = limit


class QuotaExhaustedError(LLMError):
    """The account has no money or quota left; trying again does not help."""


class LLMTimeoutError(LLMError, TimeoutError):
    """The deadline of the call passed, or the provider said that it timed out."""

    usually_retryable = True


class LLMConnectionError(LLMError, ConnectionError):
    """The provider could not be reached, or the connection broke."""

    usually_retryable = True


class ContextWindowExceededError(LLMError):
    """The prompt and the answer asked for do not fit the model's context window."""


class ContentFilterError(LLMError):
    """The provider declined the prompt or the answer."""


class BadRequestError(LLMError):
    """The provider understood the request and calls it wrong."""


class ModelNotFoundError(LLMError):
    """The provider has no such model, or the endpoint does not exist."""


class ProviderError(LLMError):
    """The provider failed, or its answer makes no sense."""


class InvalidAnswerError(ProviderError):
    """An answer does not fit the schema that was asked for.

    Args:
        message: what happened and how to mend it.
        text: the answer.
        problems: what does not fit, without the values.
    """

    usually_retryable = True

    def __init__(self, message: str, *, text: str, problems: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.text: Final = text
        self.problems: Final = problems


class InvalidToolCallError(ProviderError):
    """The arguments of a tool call are no JSON object.

    Args:
        message: what happened and how to mend it.
        tool: the name of the tool.
        arguments: what came in place of the arguments.
    """

    usually_retryable = True

    def __init__(self, message: str, *, tool: str, arguments: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.tool: Final = tool
        self.arguments: Final = arguments


class ToolRoundsExceededError(LLMError):
    """The model still wants tools to be called after the last round.

    Args:
        message: what happened and how to mend it.
        rounds: how many there were.
    """

    def __init__(self, message: str, *, rounds: int, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.rounds: Final = rounds


class StreamInterruptedError(LLMError):
    """A stream ended before it was complete. ``partial`` holds the text so far."""

    usually_retryable = True

    def __init__(self, message: str, *, partial: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.partial: Final = partial


class CircuitOpenError(ProviderError):
    """The model failed of late, so it was not asked; ``retry_after`` says for how long."""

    usually_retryable = True


class NotEligibleError(LLMError):
    """The operator's rules leave the model out: its price, its tags, or the tenant."""


class CapabilityNotSupportedError(LLMError):
    """The model cannot do what was asked, which was found out before any call.

    Args:
        message: what cannot be done, and which configured models could.
        capability: such as ``tools``, ``vision`` or ``embeddings``.
    """

    def __init__(self, message: str, *, capability: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.capability: Final = capability


class BudgetExceededError(LLMError):
    """The call would spend more than is allowed.

    ``limit`` is the key path of the budget, such as ``llm.budgets.team``. ``retry_after`` is
    how long it takes until there is money again.
    """

    def __init__(self, message: str, *, limit: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.limit: Final = limit


class StateUnavailableError(LLMError):
    """Redis does not answer, and without its counts no call may be made: see ``[state]``."""

    usually_retryable = True


class RealCallsBlockedError(LLMError):
    """A test tried to call a real provider while real calls are blocked.

    Args:
        message: where the call would have gone, and what to do instead.
        host: the host it would have reached; empty where none was looked up.
    """

    def __init__(self, message: str, *, host: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.host: Final = host


class AllModelsFailedError(LLMError, ExceptionGroup[LLMError]):
    """Every candidate failed; an exception group with the error of each attempt."""

    def __new__(cls, message: str, errors: Sequence[LLMError], /) -> Self:
        """Take the message and the errors as an exception group does."""
        return super().__new__(cls, message, errors)

    def __init__(self, message: str, errors: Sequence[LLMError], /) -> None:
        waits = [error.retry_after for error in errors if error.retry_after is not None]
        super().__init__(
            message,
            retryable=any(error.retryable for error in errors),
            retry_after=min(waits, default=None),
        )
        self.args = (message, tuple(errors))

    def derive(self, errors: Sequence[LLMError], /) -> Self:  # type: ignore[override]  # of LLMErrors only
        """Keep the class when the group is split."""
        return type(self)(self.message, errors)

    def __str__(self) -> str:
        lines = "".join(f"\n  - {error}" for error in self.exceptions)
        return f"{self.message}{lines}"
