"""What a custom model and a custom provider implement.

A model must implement ``agenerate``; a provider an ``id`` and ``create_model``. All else has
a default.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from kor_core.llm import emulation
from kor_core.llm.embedding import as_texts, in_batches, joined, matching
from kor_core.llm.generation import GenerationSettings, Settable
from kor_core.llm.messages import Messages
from kor_core.llm.profile import UNKNOWN, ModelProfile
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import Delta, Embeddings, LLMResponse
from kor_core.llm.runner import run
from kor_core.llm.streams import ChatStream, SyncStream
from kor_core.llm.tools import Toolable

__all__ = ["BaseLLMModel", "BaseLLMProvider", "Credentials"]

S = TypeVar("S")


class BaseLLMModel(ABC):
    """A model of a provider, ready to be called.

    All that callers use is here already, on top of ``agenerate``. A model that can do more
    overrides the hooks: ``_chat`` answers a whole :class:`~kor_core.llm.request.ChatRequest`,
    ``_stream`` gives its answer in deltas, ``_embed`` makes vectors; and it says in
    ``capabilities`` what ``_chat`` understands. What a model has no hook for is emulated and
    marked in ``response.emulated``, or refused before any call.

    Args:
        model_name: the name the provider knows the model by.
        config: the settings for this model as one flat dict: those of the provider, then
            those of the model. Settings that are not set are absent.

    >>> class Shouting(BaseLLMModel):
    ...     async def agenerate(self, prompt: str, **kwargs: object) -> str:
    ...         return prompt.upper()
    >>> model = Shouting("loud-v1", {})
    >>> model.generate("hello"), model.chat("hello").text
    ('HELLO', 'HELLO')
    """

    #: What ``_chat`` understands beside texts: ``tools``, ``vision``, ``json_schema`` …
    capabilities: ClassVar[frozenset[str]] = frozenset()

    #: How many texts ``_embed`` takes at once.
    embedding_batch: ClassVar[int] = 256

    def __init__(self, model_name: str, config: dict[str, Any]) -> None:
        self.model_name = model_name
        self.config = config

    @property
    def profile(self) -> ModelProfile:
        """What is known of the model; by default what its class can do.

        >>> from kor_core.llm.echo import EchoModel
        >>> EchoModel("any", {}).profile.supports("tools")
        False
        """
        return _profile_of(type(self))

    # --- asking: async -----------------------------------------------------------------------

    @abstractmethod
    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt.

        Args:
            prompt: the user's message, verbatim.
            **kwargs: generation settings for this call, such as ``temperature``.
        """

    async def achat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Toolable] = (),
        settings: Settable = None,
        schema: Any = None,
        strict: bool = False,
    ) -> LLMResponse:
        """Answer a conversation.

        Args:
            messages: a text, a message, a dict in OpenAI's shape, or a list of these.
            tools: typed functions that the model may call; see
                :func:`kor_core.llm.toolbox.run_tools` for calling them.
            settings: of this call, a :class:`GenerationSettings` or a dict of the same names.
            schema: a pydantic model (or dataclass, or TypedDict) that the answer must fit;
                ``response.parsed`` is an instance of it.
            strict: refuse to emulate a schema by words in the prompt.

        Raises:
            LLMError: of the class that says what happened.
            CapabilityNotSupportedError: the model cannot do this; it was not asked.
            ConfigurationError: a setting is unknown or wrong.
            InvalidAnswerError: the answer does not fit the schema.
            TypeError: messages, tools or schema are none.

        >>> from kor_core.llm.echo import EchoModel
        >>> import asyncio
        >>> asyncio.run(EchoModel("any", {}).achat("Hello!")).text
        'Echo: Hello!'
        """
        request = ChatRequest.of(messages, tools, settings, schema)
        profile = self.profile
        emulation.refuse_missing(self.model_name, profile, request.needs)
        native = profile.supports("json_schema") is True
        if request.schema is not None and strict and not native:
            raise emulation.refuse(self.model_name, "json_schema")
        return await emulation.answered(request, self._chat, native=native)

    def astream(
        self, messages: Messages, *, tools: Iterable[Toolable] = (), settings: Settable = None
    ) -> ChatStream:
        """Answer a conversation piece by piece.

        ``async with model.astream("Hello!") as stream:`` and, inside,
        ``async for delta in stream: print(delta.text)``; then ``stream.response`` is the whole.
        Nothing is sent before the first delta is asked for.

        Args:
            messages: as for :meth:`achat`.
            tools: as for :meth:`achat`.
            settings: as for :meth:`achat`; ``timeout`` is the deadline of the whole stream.

        Raises:
            CapabilityNotSupportedError: the model cannot do this; it was not asked.
        """
        request = ChatRequest.of(messages, tools, settings)
        emulation.refuse_missing(self.model_name, self.profile, request.needs)
        return ChatStream(self._stream(request))

    async def aparse(
        self,
        messages: Messages,
        schema: type[S],
        *,
        settings: Settable = None,
        strict: bool = False,
    ) -> S:
        """Answer with an instance of a pydantic model, dataclass or TypedDict.

        Args:
            messages: as for :meth:`achat`.
            schema: the class.
            settings: as for :meth:`achat`.
            strict: refuse to emulate a schema by words in the prompt.

        Raises:
            InvalidAnswerError: the answer does not fit.
        """
        response = await self.achat(messages, settings=settings, schema=schema, strict=strict)
        parsed: S = response.parsed
        return parsed

    async def aembed(self, texts: str | Sequence[str], *, settings: Settable = None) -> Embeddings:
        """Make vectors of texts.

        Args:
            texts: one text or several; many are sent in batches.
            settings: of this call.

        Raises:
            CapabilityNotSupportedError: the model makes no embeddings; it was not asked.
            LLMError: of the class that says what happened.
        """
        given, chosen = as_texts(texts), GenerationSettings.of(settings)
        emulation.refuse_missing(self.model_name, self.profile, ["embeddings"])
        return joined(
            [
                matching(await self._embed(batch, chosen), batch, self.model_name)
                for batch in in_batches(given, self.embedding_batch)
            ]
        )

    # --- asking: sync ------------------------------------------------------------------------

    def generate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt from sync code; works inside a running event loop too.

        The call runs on an event loop of its own in another thread, and blocks this one.
        """
        return run(self.agenerate(prompt, **kwargs))

    def chat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Toolable] = (),
        settings: Settable = None,
        schema: Any = None,
        strict: bool = False,
    ) -> LLMResponse:
        """Answer a conversation from sync code; see :meth:`achat`."""
        return run(
            self.achat(messages, tools=tools, settings=settings, schema=schema, strict=strict)
        )

    def stream(
        self, messages: Messages, *, tools: Iterable[Toolable] = (), settings: Settable = None
    ) -> SyncStream:
        """Answer piece by piece from sync code: ``for delta in model.stream("Hello!"):``."""
        return SyncStream(self.astream(messages, tools=tools, settings=settings))

    def parse(
        self,
        messages: Messages,
        schema: type[S],
        *,
        settings: Settable = None,
        strict: bool = False,
    ) -> S:
        """Answer with an instance of a class from sync code; see :meth:`aparse`."""
        return run(self.aparse(messages, schema, settings=settings, strict=strict))

    def embed(self, texts: str | Sequence[str], *, settings: Settable = None) -> Embeddings:
        """Make vectors of texts from sync code; see :meth:`aembed`."""
        return run(self.aembed(texts, settings=settings))

    # --- hooks: what a model overrides that can do more than answer a prompt ------------------

    async def _chat(self, request: ChatRequest) -> LLMResponse:
        """Answer a request. By default by ``agenerate``, without tools and images."""
        return await emulation.chat(self, request)

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """Give the answer in deltas, the last with its ``finish_reason``. By default in one."""
        async for delta in emulation.as_deltas(await self._chat(request)):
            yield delta

    async def _embed(self, texts: Sequence[str], settings: GenerationSettings) -> Embeddings:
        """Make one vector for each text, in their order. By default none can be made."""
        del texts, settings
        raise emulation.refuse(self.model_name, "embeddings")

    async def aprepare(self) -> None:  # noqa: B027  # a model that is ready needs none
        """Do what only the first call has to, such as an import that takes seconds.

        Await it at start-up to spare the first caller the wait. The deadline of a call begins
        after it, or after a minute where it takes longer. It is asked before each call that has
        a deadline, so it remembers that it was done. By default there is nothing to do.
        """

    async def aclose(self) -> None:  # noqa: B027  # a model that holds nothing needs none
        """Release what the model holds. By default it holds nothing.

        For whoever made the model to await. KOR makes models when they are first asked for and
        keeps them with their kernel; what outlasts a call is better held by the provider.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model_name!r}>"


@lru_cache(maxsize=256)
def _profile_of(kind: type[BaseLLMModel]) -> ModelProfile:
    """Return what a class can do, by the hooks that it overrides."""
    methods = {"streaming": ("_stream", "astream"), "embeddings": ("_embed", "aembed")}
    brought = {name for name, ways in methods.items() if _overrides(kind, *ways)}
    own, lacking = kind.capabilities | brought, methods.keys() - brought
    if not _overrides(kind, "_chat", "achat"):
        lacking |= {"tools", "vision", "json_schema"}
    return ModelProfile(supported=own, unsupported=frozenset(lacking - own))


def _overrides(kind: type[BaseLLMModel], *methods: str) -> bool:
    """Say whether a class brings one of these itself."""
    return any(getattr(kind, name) is not getattr(BaseLLMModel, name) for name in methods)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where a provider's key may come from when the configuration gives none.

    Args:
        key_variables: environment variables that may hold the key, in order of precedence.
        url_variables: environment variables that may hold the endpoint; they are read only
            where neither a key nor a ``base_url`` is configured, so that a configured key
            never reaches an endpoint that the configuration does not name.
        required: refuse ``get_model`` when there is neither a key nor a ``base_url``.
            (A ``base_url`` alone is a keyless local server.)
        vendor: which of several vendors the model belongs to; empty where the provider has
            but one. What an operator configured for one vendor serves no tenant at another.
        ambient: whether the SDK may find an identity of the host by itself, such as a cloud's
            role. A tenant uses such a vendor only where the operator's configuration does.
        local: whether a server of the host's own answers without a key. A tenant reaches it
            only where the operator's configuration names the provider.
    """

    key_variables: tuple[str, ...] = ()
    url_variables: tuple[str, ...] = ()
    required: bool = False
    vendor: str = ""
    ambient: bool = False
    local: bool = False


class BaseLLMProvider(ABC):
    """Makes the models of one vendor, API or server.

    A provider is shared by every tenant and holds no credential: keys arrive in the
    ``config`` of ``create_model``.

    >>> class Shouting(BaseLLMModel):
    ...     async def agenerate(self, prompt: str, **kwargs: object) -> str:
    ...         return prompt.upper()
    >>> class ShoutingProvider(BaseLLMProvider):
    ...     id = "shouting"
    ...     def create_model(self, model_name: str, config: dict[str, object]) -> BaseLLMModel:
    ...         return Shouting(model_name, config)
    """

    # The name in references (`id:model`) and in `[llm.providers.<id>]`: a str. It is typed Any
    # because that is the one type under which mypy and pyright both accept a subclass that
    # sets a class attribute and one that defines a property.
    id: Any = ""

    @abstractmethod
    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        """Make the model of that name.

        Args:
            model_name: verbatim from the reference or the configuration.
            config: one flat dict: the provider's settings, its ``extra``, the model's
                settings, its ``extra``. Values are plain; its repr masks secrets.
        """

    def credentials(self, model_name: str) -> Credentials:  # noqa: ARG002  # for overriding
        """Say where the key for a model may come from. By default none is needed."""
        return Credentials()

    def profile(self, model_name: str) -> ModelProfile:  # noqa: ARG002  # for overriding
        """Say what is known of a model. By default nothing is.

        What the configuration and the table of profiles know goes before it.
        """
        return UNKNOWN

    def names(self, model_name: str) -> tuple[str, ...]:
        """Say what a model is called. By default nothing but its name.

        What the operator's configuration says of a model holds under each of its names. Where
        a model can be asked for in several ways, return the same names for all of them.

        Args:
            model_name: verbatim from the reference or the configuration.

        Returns:
            At least one name, the most exact last.
        """
        return (model_name,)

    def close(self) -> None:  # noqa: B027  # a provider that holds nothing needs none
        """Release what the provider holds. By default it holds nothing.

        A container closes the providers that its bindings built. One that was handed in or
        registered belongs to whoever did so.
        """

    async def aclose(self) -> None:
        """Release what the provider holds, from async code."""
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"
