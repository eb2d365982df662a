"""One candidate of a call: the provider's own object, asked so that only typed errors escape."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from inspect import isawaitable
from typing import Any, NamedTuple, TypeVar, cast

from kor_core.errors import KorError, LLMError, LLMTimeoutError, ProviderError
from kor_core.llm import emulation
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.generation import GenerationSettings
from kor_core.llm.hiding import hide, raise_typed, said
from kor_core.llm.pipeline import Policies
from kor_core.llm.policies.bounds import Planned
from kor_core.llm.policies.circuit import CircuitKey
from kor_core.llm.profile import ModelProfile
from kor_core.llm.reference import Reference
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import Delta, Embeddings, LLMResponse, Usage
from kor_core.llm.selection import Standing
from kor_core.redaction import Config, redact
from kor_core.spellings import spellings_of

__all__ = ["Target"]

T = TypeVar("T")


def _nowhere(error: LLMError) -> str:
    del error
    return ""


class Target(NamedTuple):
    """One candidate of a handle.

    Args:
        reference: the provider and model.
        config: the merged settings, as the provider gets them.
        find: returns the provider's own object; asked at each call, so that a provider
            registered in another's place is used from then on.
        known: returns what is known of the model.
        circuit: whose circuit breaker it stands behind.
        gates: the names under which its concurrency is limited, the narrowest first.
        account: whose key is used: the tenant's id where it brought its own, else None.
        tags: that the operator gave the model.
        tenants: who may use it; None for everybody.
        origin: says which line of the configuration an error leads back to, where one does.
        names: all that the configuration may call the model, the most exact last.
    """

    reference: Reference
    config: dict[str, Any]
    find: Callable[[], BaseLLMModel]
    known: Callable[[], ModelProfile]
    circuit: CircuitKey
    gates: tuple[str, ...] = ()
    account: str | None = None
    tags: frozenset[str] = frozenset()
    tenants: frozenset[str] | None = None
    origin: Callable[[LLMError], str] = _nowhere
    names: tuple[str, ...] = ()

    def standing(self, policies: Policies, spent: LLMError | None = None) -> Standing:
        """Return how it stands at the moment.

        Args:
            policies: what surrounds the call.
            spent: why a limit or budget has no room for it.
        """
        return Standing(
            self.reference,
            self.known(),
            policies.breakers.state(self.circuit),
            policies.latencies.of(self.circuit),
            spent,
            tags=self.tags,
            tenants=self.tenants,
        )

    def planned(
        self, tokens: int, max_tokens: int, tenant: str | None, purpose: str | None
    ) -> Planned:
        """Return a request to it as limits and budgets count it.

        Args:
            tokens: how many it may take, answer included.
            max_tokens: how many of them are the answer's.
            tenant: whose call it is.
            purpose: what it is for.
        """
        provider, model = self.reference
        cost: Decimal | None = self.known().cost(Usage(tokens - max_tokens, max_tokens))
        return Planned(provider, model, tokens, cost, tenant, purpose, self.account, self.names)

    def may_hold_more_than(self, other: "Target") -> bool:
        """Say whether its window may hold more; where one of the two is unknown, it may."""
        mine, theirs = self.known().context_window, other.known().context_window
        return mine is None or theirs is None or mine > theirs

    async def generate(self, prompt: str, settings: GenerationSettings) -> str:
        """Answer one prompt, or raise an error of KOR."""
        with self._typed_errors(settings):
            model = self.find()
            taken = emulation.taken_by(model.agenerate, emulation.keywords(settings))
            answer = await _awaited(model.agenerate(prompt, **taken))
        return self._checked(answer, str, "agenerate")

    def _checked(self, answer: object, kind: type[T], method: str) -> T:
        if isinstance(answer, kind):
            return answer
        provider, model = self.reference
        raise ProviderError(
            f"{method}() returned {type(answer).__name__}. It must return {kind.__name__}.",
            provider=provider,
            model=model,
        )

    async def chat(self, request: ChatRequest, *, strict: bool) -> LLMResponse:
        """Answer a request, or raise an error of KOR."""
        with self._typed_errors(request.settings):
            if (
                request.schema is None
                or strict
                or self.known().supports("json_schema") is not False
            ):
                response = await self._ask(request, strict=strict)
            else:  # the operator says that it has no mode for schemas, whatever it says itself
                response = await emulation.answered(request, self._ask, native=False)
        return self._priced(response)

    async def _ask(self, request: ChatRequest, *, strict: bool = False) -> LLMResponse:
        # Only what is asked for is named: a model may override achat and know no schemas.
        more: dict[str, Any] = {}
        if request.schema is not None:
            more = {"schema": request.schema, "strict": strict}
        answer = await self.find().achat(request.messages, **request.arguments, **more)
        return self._checked(answer, LLMResponse, "achat")

    def _priced(self, response: LLMResponse) -> LLMResponse:
        if response.cost is not None or response.usage is None:
            return response
        cost = self.known().cost(response.usage)
        return response if cost is None else response.with_cost(cost)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | LLMResponse]:
        """Give the deltas of an answer, and then the whole of it."""
        with self._typed_errors(request.settings):  # opening may fail too
            opened = self.find().astream(request.messages, **request.arguments)
            async with opened as stream:
                async for delta in stream:
                    yield delta
                response = stream.response
        yield self._priced(response)

    async def embed(self, texts: Sequence[str], settings: GenerationSettings) -> Embeddings:
        """Make vectors, or raise an error of KOR."""
        with self._typed_errors(settings):
            made = await self.find().aembed(texts, settings=settings)
            found = self._checked(made, Embeddings, "aembed")
        if found.cost is not None or found.usage is None:
            return found
        return found.with_cost(self.known().cost(found.usage))

    @contextmanager
    def _typed_errors(self, settings: GenerationSettings) -> Generator[None]:
        provider, model = self.reference
        try:
            yield
        except LLMError as error:
            self._hide_secrets(error, settings)
            self._sign(error)
            raise
        except KorError:
            raise
        except TimeoutError as error:
            secrets = self._secrets(settings)
            words = redact(said(error), secrets) or "it gave no reason"
            words = f"The provider timed out: {words}."
            raise_typed(LLMTimeoutError(words, provider=provider, model=model), error, secrets)
        except Exception as error:  # noqa: BLE001  # a custom provider may raise anything
            secrets = self._secrets(settings)
            words = redact(f"{type(error).__name__}: {said(error)}", secrets)
            raise_typed(ProviderError(words, provider=provider, model=model), error, secrets)

    def _hide_secrets(self, error: LLMError, settings: GenerationSettings) -> None:
        """Mask what an answer repeated; some errors are made where no key is known."""
        secrets = self._secrets(settings)
        hide(error, secrets)
        if isinstance(error.__cause__, KorError):
            hide(error.__cause__, secrets)

    def _secrets(self, settings: GenerationSettings) -> frozenset[str]:
        return spellings_of(self.config) | spellings_of(Config(settings.extra))

    def _sign(self, error: LLMError) -> None:
        """Say whose error it is, where the model did not, and what configured it."""
        error.provider = error.provider or self.reference.provider
        error.model = error.model or self.reference.model
        origin = self.origin(error)
        if origin and error.args and not str(error.args[0]).endswith(origin):
            error.args = (f"{error.args[0]}{origin}", *error.args[1:])


async def _awaited(answer: object) -> object:
    """Let a custom model get away with an ``agenerate`` that is not async."""
    return await cast("Awaitable[object]", answer) if isawaitable(answer) else answer
