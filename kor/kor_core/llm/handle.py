"""The lasting model that callers hold: it asks the candidates and keeps its promises.

Whatever a provider does, a call through a handle ends in an answer or in a typed error, before
its deadline, which begins when the model is ready to be asked.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from kor_core.errors import CapabilityNotSupportedError, LLMError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.calls import Call
from kor_core.llm.embedding import as_texts
from kor_core.llm.events import Kind
from kor_core.llm.generation import GenerationSettings, Settable, checked_timeout
from kor_core.llm.messages import Messages
from kor_core.llm.pipeline import Policies
from kor_core.llm.plan import Plan
from kor_core.llm.policies.cache import request_key
from kor_core.llm.policies.estimates import estimated_tokens, longest_answer
from kor_core.llm.policies.strategies import Strategy, ordered
from kor_core.llm.profile import ModelProfile
from kor_core.llm.reference import Reference
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import Delta, Embeddings, LLMResponse
from kor_core.llm.selection import (
    NOTHING,
    Choice,
    Needs,
    Ranked,
    Rejected,
    Standing,
    choose,
    in_order,
    ranked,
    sole,
)
from kor_core.llm.streams import ChatStream
from kor_core.llm.target import Target
from kor_core.llm.tools import Toolable
from kor_core.llm.transcript import as_prompt
from kor_core.redaction import Config

__all__ = ["ModelHandle", "Serving", "Target"]


def _nobody(capability: str) -> Sequence[str]:
    del capability
    return ()


@dataclass(frozen=True, slots=True)
class Serving:
    """How a handle serves.

    Args:
        policies: what surrounds each call.
        needs: what a model must have beside what the request itself needs.
        strategy: orders the candidates.
        strategy_name: of it, for explanations.
        tenant: whose kernel it is; None for the application's.
        purpose: what it serves; None for a reference.
        affinity: what a conversation is known by, to stay with one model.
        capable: returns, for an error to name, which configured models have a capability.
        unusable: configured candidates that cannot be asked at all, such as for want of a key.
    """

    policies: Policies = field(default_factory=Policies)
    needs: Needs = NOTHING
    strategy: Strategy = ordered
    strategy_name: str = "ordered"
    tenant: str | None = None
    purpose: str | None = None
    affinity: str | None = None
    capable: Callable[[str], Sequence[str]] = _nobody
    unusable: tuple[Standing, ...] = ()


class ModelHandle(BaseLLMModel):
    """One reference or purpose with its settings, as a model.

    Args:
        targets: the candidates, in the order of the configuration; at least one.
        serving: how they are chosen and asked.
    """

    def __init__(self, *targets: Target, serving: Serving | None = None) -> None:
        first = targets[0]
        super().__init__(first.reference.model, first.config)
        self._targets = targets
        self._serving = serving or Serving()

    @property
    def reference(self) -> Reference:
        """The provider and model that are configured first."""
        return self._targets[0].reference

    @property
    def inner(self) -> BaseLLMModel:
        """The object that is configured first, as its provider's ``create_model`` returned it."""
        return self._targets[0].find()

    @property
    def profile(self) -> ModelProfile:
        """What is known of the model that is configured first."""
        return self._targets[0].known()

    # --- asking ------------------------------------------------------------------------------

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt; where a candidate fails, the next one is asked.

        Args:
            prompt: the user's message, verbatim.
            **kwargs: generation settings for this call, those that the model takes.
                ``timeout`` (seconds) is the deadline of the whole call; by default the
                configured one, or none.

        Raises:
            LLMError: of the class that says what happened; nothing else escapes the provider.
            TypeError: the prompt is no text.
            ConfigurationError: a setting is unknown or wrong.
            AllModelsFailedError: several candidates were asked and failed.
        """
        if not isinstance(prompt, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass anything
            raise TypeError(f"A prompt is a text, not {type(prompt).__name__}.")
        kwargs = Config(kwargs)  # it may hold a key, and a traceback may show this frame
        settings = GenerationSettings.of(kwargs)
        once = settings.without_timeout()
        call = self._call("generate", frozenset(), (prompt,), settings, lambda: prompt)
        key = self._key(lambda: ("generate", prompt, once))
        return await call.answer(lambda target: target.generate(prompt, once), key)

    async def achat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Toolable] = (),
        settings: Settable = None,
        schema: Any = None,
        strict: bool = False,
    ) -> LLMResponse:
        """Answer a conversation; where a candidate fails, the next one is asked.

        The arguments are those of :meth:`BaseLLMModel.achat`.

        Raises:
            LLMError: of the class that says what happened; nothing else escapes the provider.
            CapabilityNotSupportedError: no candidate can do this, and none was asked; it names
                configured models that can.
            AllModelsFailedError: several candidates were asked and failed.
        """
        request = ChatRequest.of(messages, tools, settings, schema)
        needs = request.needs | _STRICT if strict and schema is not None else request.needs
        call = self._call("chat", needs, request.texts, request.settings, _prompt_of(request))
        once = request.once
        key = self._key(lambda: ("chat", strict, *once.canonical))
        return await call.answer(lambda target: target.chat(once, strict=strict), key)

    def astream(
        self, messages: Messages, *, tools: Iterable[Toolable] = (), settings: Settable = None
    ) -> ChatStream:
        """Answer piece by piece; where a candidate fails before its first, the next is asked.

        The arguments are those of :meth:`BaseLLMModel.astream`.
        """
        request = ChatRequest.of(messages, tools, settings)
        calls: list[Call] = []
        return ChatStream(
            self._deltas(request, calls),
            lambda response: calls[0].finished(response),  # noqa: PLW0108  # there is no call before it is read
        )

    async def _deltas(self, request: ChatRequest, calls: list[Call]) -> AsyncGenerator[Delta]:
        once = request.once
        prompt = _prompt_of(request)
        call = self._call("stream", request.needs, request.texts, request.settings, prompt)
        calls.append(call)
        async with aclosing(call.deltas(lambda target: target.stream(once))) as deltas:
            async for delta in deltas:
                yield delta

    async def aembed(self, texts: str | Sequence[str], *, settings: Settable = None) -> Embeddings:
        """Make vectors; where a candidate fails, the next one is asked.

        The arguments are those of :meth:`BaseLLMModel.aembed`.
        """
        given, chosen = as_texts(texts), GenerationSettings.of(settings)
        once = chosen.without_timeout()
        call = self._call("embed", _EMBEDDINGS, given, chosen, lambda: "\n".join(given))
        key = self._key(lambda: ("embed", given, once))
        return await call.answer(lambda target: target.embed(given, once), key)

    async def aprepare(self) -> None:
        """Let every candidate do what only its first call has to, such as an import."""
        for target in self._targets:
            await target.find().aprepare()

    async def aclose(self) -> None:
        """Release what the candidates' models hold; they can be asked again afterwards."""
        for target in self._targets:
            await target.find().aclose()

    # --- choosing ----------------------------------------------------------------------------

    def choose(
        self, needs: frozenset[str] = frozenset(), tokens: int = 0, max_tokens: int = 0
    ) -> Choice:
        """Choose among the candidates, as a call that needs this would.

        Args:
            needs: capabilities.
            tokens: how many the request and its answer may take.
            max_tokens: how many of them are the answer's.
        """
        serving = self._serving
        wanted = serving.needs.with_request(needs, tokens)
        standings = self._standings(tokens, max_tokens)
        if len(standings) == 1 and not serving.unusable:
            return sole(standings[0], wanted)
        return choose(
            [*standings, *serving.unusable],
            wanted,
            serving.strategy,
            name=serving.strategy_name,
            affinity=serving.affinity,
        )

    def _order(
        self, needs: frozenset[str], tokens: int, max_tokens: int
    ) -> tuple[Sequence[int], Sequence[Rejected]]:
        """Choose for a call: the places of those to ask, and the others."""
        serving = self._serving
        wanted = serving.needs.with_request(needs, tokens)
        standings = self._standings(tokens, max_tokens)
        if len(standings) == 1 and not serving.unusable:
            choice = sole(standings[0], wanted)
            return choice.order, choice.rejected
        return in_order(
            [*standings, *serving.unusable],
            wanted,
            serving.strategy,
            name=serving.strategy_name,
            affinity=serving.affinity,
        )

    def _standings(self, tokens: int, max_tokens: int) -> list[Standing]:
        serving = self._serving
        policies, meter = serving.policies, serving.policies.meter
        if meter is None or not meter.has_refused:
            return [target.standing(policies) for target in self._targets]
        about = (tokens, max_tokens, serving.tenant, serving.purpose)
        return [
            target.standing(policies, meter.refused(target.planned(*about)))
            for target in self._targets
        ]

    def ranked(self, choice: Choice) -> tuple[Ranked, ...]:
        """Return the candidates of a choice with what they were ranked by."""
        return choice.candidates or tuple(
            ranked(self._targets[place].standing(self._serving.policies)) for place in choice.order
        )

    def with_affinity(self, affinity: str) -> "ModelHandle":
        """Return the same for one conversation, which stays with one model while it is healthy.

        Args:
            affinity: what the conversation is known by.
        """
        return ModelHandle(*self._targets, serving=replace(self._serving, affinity=affinity))

    def _call(
        self,
        kind: Kind,
        needs: frozenset[str],
        texts: Iterable[str],
        settings: GenerationSettings,
        prompt: Callable[[], str],
    ) -> Call:
        longest = longest_answer(settings.extra, {"max_tokens": settings.max_tokens}, self.config)
        tokens = estimated_tokens(texts, longest)
        order, rejected = self._order(needs, tokens, longest)
        serving = self._serving
        plan = Plan(
            kind,
            [self._targets[place] for place in order],
            [each.error if order else self._advised(each.error) for each in rejected],
            tokens,
            longest,
            serving.tenant,
            serving.purpose,
            prompt,
            settings,
            "" if order else str(self.reference),
        )
        configured = self.config.get("timeout")
        seconds = configured if settings.timeout is None else settings.timeout
        return Call(plan, serving.policies, checked_timeout(seconds))

    def _advised(self, error: LLMError) -> LLMError:
        """Name the models that could, where some are configured."""
        if not isinstance(error, CapabilityNotSupportedError):
            return error
        able = self._serving.capable(error.capability)
        if able:
            error.args = (f"{error.args[0]} Configured models that can: {', '.join(able)}.",)
        return error

    def _key(self, request: Callable[[], tuple[Any, ...]]) -> str | None:
        """Return what an answer is remembered by; None where none is kept."""
        if self._serving.policies.cache is None:
            return None
        effective = [[tuple(each.circuit), each.config] for each in self._targets]
        return request_key(self._serving.tenant, "", [effective, *request()])

    def __repr__(self) -> str:
        names = " → ".join(str(target.reference) for target in self._targets)
        return f"<ModelHandle '{names}'>"


def _prompt_of(request: ChatRequest) -> Callable[[], str]:
    return lambda: as_prompt(request.messages)


_STRICT = frozenset({"json_schema"})
_EMBEDDINGS = frozenset({"embeddings"})
