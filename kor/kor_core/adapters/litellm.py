"""A hundred vendors through litellm, each call on its own: no state of the process is used."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from kor_core.adapters.apis import without_wrapping
from kor_core.adapters.attempt import Caller
from kor_core.adapters.completion import no_text, parsed
from kor_core.adapters.embeddings import embeddings_of, largest_of
from kor_core.adapters.exchange import noted
from kor_core.adapters.litellm_answers import AnyEvents, response_of
from kor_core.adapters.litellm_host import refuse_acting
from kor_core.adapters.litellm_requests import embedding_settings, question, settings_of
from kor_core.adapters.litellm_sdk import SDK
from kor_core.adapters.litellm_settings import GENERATION, NEVER_DROPPED, OURS, refuse_impossible
from kor_core.adapters.litellm_vendors import (
    UNTRIED,
    VENDORS,
    Vendor,
    format_of,
    names_of,
    qualified,
    vendor_of,
)
from kor_core.adapters.loading import load
from kor_core.adapters.network import Transport
from kor_core.adapters.parameters import chosen, given
from kor_core.adapters.streaming import Reading, ends_after, streamed
from kor_core.errors import BadRequestError, CapabilityNotSupportedError, ModelNotFoundError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.llm.generation import GenerationSettings, Settable
from kor_core.llm.profile import ModelProfile
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import Delta, Embeddings, LLMResponse
from kor_core.redaction import Config

__all__ = ["LiteLLMModel", "LiteLLMProvider"]

_Json = dict[str, Any]


# An empty key would make litellm take the host's from the environment.
_NO_KEY: Final = "no-key"

# Headers that litellm would take from the host's environment (OR_SITE_URL, OR_APP_NAME).
_INSTEAD_OF_THE_HOSTS: Final = {"openrouter": {"HTTP-Referer": "", "X-Title": ""}}

# Without stream_options, OpenAI and those like it do not say what a stream took.
_COUNTED: Final = {"stream": True, "stream_options": {"include_usage": True}}
_UNCOUNTED: Final = {"stream": True}


class LiteLLMProvider(BaseLLMProvider):
    """Makes models of any vendor that litellm knows, named ``vendor/model``.

    Bare names that say whose they are, such as ``claude-3-opus``, need no vendor.

    Args:
        transport: the connections, shared with the other providers.
    """

    id = "litellm"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        """Return the model of that name; nothing is imported or opened yet.

        Args:
            model_name: such as ``anthropic/claude-3-opus``, or a bare name.
            config: ``api_key``, ``base_url``, ``timeout`` (seconds), ``drop_params``,
                and generation parameters.

        Raises:
            ConfigurationError: the name holds an endpoint, a setting is unknown, or the
                vendor cannot be called through KOR's connections or has no endpoint.
        """
        refuse_impossible(model_name, config)
        return LiteLLMModel(model_name, config, transport=self._transport)

    def credentials(self, model_name: str) -> Credentials:
        """Return the variables of the model's vendor; litellm is not imported for it."""
        vendor = VENDORS.get(name := vendor_of(model_name), UNTRIED)
        if not vendor.reached:  # most vendors' variables are named like this
            keys = (f"{name.upper()}_API_KEY",) if name else ()
            return Credentials(vendor.keys or keys, vendor=name or model_name, ambient=True)
        required = bool(vendor.keys or not vendor.url)
        return Credentials(vendor.keys, vendor.urls, required, vendor=name)

    def names(self, model_name: str) -> tuple[str, ...]:
        """Return the names with and without the vendor; each means the same model."""
        return names_of(model_name)


class LiteLLMModel(BaseLLMModel):
    """One model, callable from any thread and event loop."""

    capabilities = frozenset(
        {"chat", "json_schema", "parallel_tools", "system", "tool_choice", "tools", "vision"}
    )

    # The least that one of the vendors takes: https://docs.together.ai/docs/embeddings-overview
    embedding_batch = 100

    def __init__(self, model_name: str, config: dict[str, Any], *, transport: Transport) -> None:
        super().__init__(model_name, own := Config(config))
        self._transport = transport
        self._caller = Caller.of("litellm", model_name, own)
        self._settings = given({name: value for name, value in own.items() if name not in OURS})
        self._known = super().profile.overlaid(self._vendor.profile)
        self._counts_streams = True
        self._connections: dict[str, Any] = {}

    @property
    def profile(self) -> ModelProfile:
        """What this class can do, apart from what it has no way to at the vendor."""
        return self._known

    # --- asking ------------------------------------------------------------------------------

    async def aprepare(self) -> None:
        """Import litellm, which takes seconds, beside the event loop."""
        await self._ready()

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt.

        Args:
            prompt: the user's message.
            **kwargs: generation parameters such as ``temperature``, over those configured;
                ``timeout`` in seconds; ``extra``, a table of what only the vendor knows.

        Raises:
            LLMError: the call failed.
        """
        kwargs = Config(kwargs)  # a key in them shows in no traceback
        settings = chosen(
            kwargs, GENERATION | {"timeout", "extra"}, provider="litellm", model=self.model_name
        )
        timeout = settings.pop("timeout", self._timeout)
        extra: Mapping[str, Any] = settings.pop("extra", {})
        asked = self._asked(ChatRequest.of(prompt), settings, extra)
        return (await self._ask(asked, _with_text, timeout, extra)).text

    async def _chat(self, request: ChatRequest) -> LLMResponse:
        settings = request.settings
        asked = self._asked(request, _sent(settings), settings.extra)
        response = await self._ask(asked, response_of, self._within(settings), settings.extra)
        return without_wrapping(response, request.schema)

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        settings = request.settings
        asked = self._asked(request, _sent(settings), settings.extra)
        reading = await self._opened(asked, settings)
        caller = self._caller.hiding(settings.extra)
        async with aclosing(streamed(reading, caller, AnyEvents(), response_of)) as deltas:
            async for delta in deltas:
                yield delta

    async def aembed(self, texts: str | Sequence[str], *, settings: Settable = None) -> Embeddings:
        """Make vectors of texts; see :meth:`BaseLLMModel.aembed`.

        Raises:
            CapabilityNotSupportedError: the vendor is not asked for embeddings here.
            LLMError: of the class that says what happened.
        """
        if not self._vendor.embeds_as:
            raise CapabilityNotSupportedError(
                f"Of the vendor '{vendor_of(self.model_name)}', litellm is not known to get "
                "embeddings through the connections of KOR, so it was not asked. Use the provider "
                "openai with the vendor's OpenAI-compatible base_url, or another vendor's model.",
                capability="embeddings",
                provider="litellm",
                model=self.model_name,
            )
        return await super().aembed(texts, settings=settings)

    async def _embed(self, texts: Sequence[str], settings: GenerationSettings) -> Embeddings:
        caller, vendor = self._caller.hiding(settings.extra), self._vendor
        asked = self._checked(embedding_settings, self._settings, settings.extra)
        name = qualified(self.model_name).partition("/")[2]
        url = f"{self._endpoint.rstrip('/')}{vendor.embeds_at}"

        async def call(sdk: SDK) -> Embeddings:
            answer = await sdk.embed(
                model=f"{vendor.embeds_as}/{name}",
                input=list(texts),
                extra_headers=_INSTEAD_OF_THE_HOSTS.get(vendor_of(self.model_name)),
                **asked,
                **self._reached(sdk, url),
            )
            count = len(texts)
            found = embeddings_of(parsed(answer.content, largest_of(count)), count)
            return caller.cleaned(replace(found, request_id=caller.request_id(noted())), noted())

        return await caller.attempt(call, self._within(settings), self._ready)

    # --- what is sent ------------------------------------------------------------------------

    @property
    def _timeout(self) -> float | None:
        timeout: float | None = self.config.get("timeout")
        return timeout

    def _within(self, settings: GenerationSettings) -> float | None:
        return self._timeout if settings.timeout is None else settings.timeout

    def _asked(
        self, request: ChatRequest, settings: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> _Json:
        form = format_of(self.model_name)
        below = self._checked(settings_of, form, {**self._settings, **settings}, extra)
        return {**below, **self._checked(question, form, request)}

    def _checked(self, write: Callable[..., _Json], *args: Any) -> _Json:
        """Write a part of a request; what cannot be written is this model's error."""
        try:
            return write(*args)
        except BadRequestError as error:
            error.provider, error.model = "litellm", self.model_name
            raise

    # --- the call ----------------------------------------------------------------------------

    async def _ask(
        self,
        asked: _Json,
        read: Callable[[Mapping[str, Any]], LLMResponse],
        seconds: float | None,
        extra: Mapping[str, Any],
    ) -> LLMResponse:
        caller = self._caller.hiding(extra)

        async def call(sdk: SDK) -> LLMResponse:
            answer = await self._complete(sdk, asked)
            found = caller.cleaned(read(parsed(answer.content)), noted())
            return replace(found, request_id=caller.request_id(noted()) or found.request_id)

        return await caller.attempt(call, seconds, self._ready)

    async def _opened(self, asked: _Json, settings: GenerationSettings) -> Reading:
        """Open a stream; where a server does not know how to count it, without its count."""
        asking = _COUNTED if self._counts_streams else _UNCOUNTED
        try:
            return await self._open({**asking, **asked}, settings)
        except BadRequestError as error:
            if asking is _UNCOUNTED or "stream_options" not in str(error):
                raise
        self._counts_streams = False
        return await self._open({**_UNCOUNTED, **asked}, settings)

    async def _open(self, asked: _Json, settings: GenerationSettings) -> Reading:
        seconds = self._within(settings)

        async def call(sdk: SDK) -> Reading:
            ends = ends_after(seconds)
            answer = await self._complete(sdk, asked)
            return Reading(answer.stream, noted(), seconds, ends)

        return await self._caller.hiding(settings.extra).attempt(call, seconds, self._ready)

    async def _ready(self) -> SDK:
        if not vendor_of(self.model_name):
            raise _nobodys(self.model_name)
        self._transport.check(self._endpoint)
        refuse_acting()
        sdk: SDK = await load("litellm", SDK)
        return sdk

    async def _complete(self, sdk: SDK, asked: _Json) -> Any:
        return await sdk.complete(
            model=self._sent_name,
            extra_headers=_INSTEAD_OF_THE_HOSTS.get(vendor_of(self.model_name)),
            **asked,
            kept=NEVER_DROPPED & asked.keys(),
            **self._reached(sdk, self._endpoint),
        )

    def _reached(self, sdk: SDK, url: str) -> _Json:
        """Return how the vendor is reached, and who calls it."""
        if url not in self._connections:
            self._connections[url] = sdk.connection(self._transport, Config(self.config), url)
        return {
            "client": self._connections[url],
            "api_base": url,
            "api_key": self.config.get("api_key") or _NO_KEY,
            "timeout": self._transport.settings.read_timeout,
            "max_retries": 0,  # KOR is the only one that retries
            "num_retries": 0,
        }

    @property
    def _vendor(self) -> Vendor:
        return VENDORS.get(vendor_of(self.model_name), UNTRIED)

    @property
    def _sent_name(self) -> str:
        """The name that litellm is given."""
        name = qualified(self.model_name)
        asked_as = self._vendor.asked_as
        return f"{asked_as}/{name.partition('/')[2]}" if asked_as else name

    @property
    def _endpoint(self) -> str:
        """The endpoint, always explicit: litellm would look for one in the environment."""
        url: str = self.config.get("base_url") or self._vendor.url
        bare = url.rstrip("/").removesuffix("/v1")
        if self._vendor.asked_as:  # litellm adds only the path's end for these formats
            return f"{bare}/v1"
        if vendor_of(self.model_name) == "anthropic":
            # The whole of it: LITELLM_ANTHROPIC_DISABLE_URL_SUFFIX would leave litellm's part out.
            return f"{bare.removesuffix('/v1/messages')}/v1/messages"
        return url


def _with_text(answer: Mapping[str, Any]) -> LLMResponse:
    response = response_of(answer)
    if not response.text:
        raise no_text()
    return response


def _sent(settings: GenerationSettings) -> _Json:
    return given(settings.without_timeout().given())


def _nobodys(model_name: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"No vendor is known for '{model_name}'. Write the vendor in front, such as "
        f"'ollama/{model_name}'."
    )
