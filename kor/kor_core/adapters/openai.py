"""OpenAI, and every server that speaks like it, through the official SDK (2 and 3)."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from kor_core.adapters.apis import APIS, Api, for_reasoning, layered, without_wrapping
from kor_core.adapters.attempt import Caller
from kor_core.adapters.completion import LARGEST_ANSWER, no_text, parsed
from kor_core.adapters.embeddings import embeddings_of, largest_of
from kor_core.adapters.exchange import noted
from kor_core.adapters.loading import load
from kor_core.adapters.network import Transport
from kor_core.adapters.openai_sdk import SDK
from kor_core.adapters.parameters import CHAT, chosen, given
from kor_core.adapters.streaming import Reading, ends_after, streamed
from kor_core.adapters.vendors import OPENAI, CompatibleVendor
from kor_core.errors import BadRequestError, ConfigurationError, Problem
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.llm.generation import GenerationSettings
from kor_core.llm.profile import ModelProfile
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import Delta, Embeddings, LLMResponse
from kor_core.redaction import Config
from kor_core.suggestions import listed, nearest

__all__ = ["SDK", "OpenAIModel", "OpenAIProvider"]

T = TypeVar("T", LLMResponse, Embeddings)

# Settings of the connection. All others are generation parameters, or what the server of
# `base_url` knows beyond them, and go into the body.
_CONNECTION: Final = frozenset(
    {
        "api",
        "api_key",
        "api_version",
        "base_url",
        "extra_body",
        "extra_headers",
        "extra_query",
        "organization",
        "project",
        "timeout",
    }
)

_RESERVED: Final = frozenset({"input", "messages", "model", "n", "stream"})


class OpenAIProvider(BaseLLMProvider):
    """Makes models of OpenAI's API, or of another server that speaks like it.

    Args:
        transport: the connections, shared with the other providers.
        vendor: whose server it is; ``base_url`` leads to another all the same.
    """

    def __init__(self, transport: Transport, vendor: CompatibleVendor = OPENAI) -> None:
        self.id = vendor.id
        self._transport = transport
        self._vendor = vendor

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        """Return the model of that name; nothing is imported or opened yet.

        Args:
            model_name: as the vendor names it; of Azure, the name of the deployment.
            config: ``api_key``, ``base_url``, ``organization``, ``project``,
                ``extra_headers``, ``extra_query``, ``timeout`` (seconds), of Azure
                ``api_version``; ``api``, which is ``chat`` (the default) or ``responses``; and
                generation parameters. Others go into the body of each request, and so does what
                ``extra_body`` holds.

        Raises:
            ConfigurationError: a setting that is not for configuring, or no endpoint where the
                vendor has none of its own.
        """
        _refuse_reserved(self._vendor.id, config)
        _refuse_unknown_api(self._vendor.id, config)
        return OpenAIModel(model_name, config, transport=self._transport, vendor=self._vendor)

    def credentials(self, model_name: str) -> Credentials:  # noqa: ARG002  # the same for all
        """Return the vendor's own variables."""
        return self._vendor.credentials

    def profile(self, model_name: str) -> ModelProfile:  # noqa: ARG002  # the same for all
        """Return what the vendor's API is known to have and to lack."""
        return self._vendor.profile


def _refuse_reserved(provider: str, config: Mapping[str, Any]) -> None:
    if reserved := sorted(_RESERVED & config.keys()):
        raise ConfigurationError(
            [
                Problem(
                    f"'{name}' is decided by the call. Remove it.",
                    key=f"llm.providers.{provider}.extra.{name}",
                )
                for name in reserved
            ]
        )


def _refuse_unknown_api(provider: str, config: Mapping[str, Any]) -> None:
    name = config.get("api", "chat")
    if name in APIS:
        return
    problem = Problem(
        f"No api {name!r}. Expected {listed(APIS)}.",
        key=f"llm.providers.{provider}.extra.api",
        suggestion=nearest(str(name), APIS),
    )
    raise ConfigurationError([problem])


class OpenAIModel(BaseLLMModel):
    """One model, callable from any thread and event loop."""

    capabilities = frozenset(
        {"chat", "json_schema", "parallel_tools", "system", "tool_choice", "tools", "vision"}
    )

    # The most that OpenAI takes: https://platform.openai.com/docs/api-reference/embeddings
    embedding_batch = 2048

    def __init__(
        self,
        model_name: str,
        config: dict[str, Any],
        *,
        transport: Transport,
        vendor: CompatibleVendor = OPENAI,
    ) -> None:
        super().__init__(model_name, own := Config(config))
        self._transport = transport
        self._vendor = vendor
        self._url, self._api_version = vendor.endpoint(model_name, own)
        self._caller = Caller.of(vendor.id, model_name, own)
        self._api_name: str = own.get("api", "chat")
        sent = {name: value for name, value in own.items() if name not in _CONNECTION}
        self._settings = given({**sent, **own.get("extra_body", {})})
        self._configured = self._written(self._settings)
        self._known = super().profile.overlaid(vendor.profile)
        self._counts_streams = True
        self._client: Any = None

    @property
    def profile(self) -> ModelProfile:
        """What this class can do, apart from what the vendor's API has no way to."""
        return self._known

    # --- asking ------------------------------------------------------------------------------

    async def aprepare(self) -> None:
        """Import the SDK, beside the event loop."""
        await _sdk()

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt.

        Args:
            prompt: the user's message.
            **kwargs: generation parameters such as ``temperature``, over those configured;
                ``timeout`` in seconds; ``extra``, a table for the body of the request.

        Raises:
            LLMError: the call failed.
        """
        kwargs = Config(kwargs)  # a key in them shows in no traceback
        settings = chosen(
            kwargs, CHAT | {"timeout", "extra"}, provider=self._vendor.id, model=self.model_name
        )
        timeout = settings.pop("timeout", self._timeout)
        extra: Mapping[str, Any] = settings.pop("extra", {})
        body = self._body(ChatRequest.of(prompt), settings, extra)
        read = self._api.response

        def text_of(answer: Mapping[str, Any]) -> LLMResponse:
            response = read(answer)
            if not response.text:
                raise no_text()
            return response

        return (await self._ask(self._api.path, body, text_of, timeout, extra)).text

    async def _chat(self, request: ChatRequest) -> LLMResponse:
        settings = request.settings
        body = self._body(request, _sent(settings), settings.extra)
        response = await self._ask(
            self._api.path, body, self._api.response, self._within(settings), settings.extra
        )
        return without_wrapping(response, request.schema)

    async def _embed(self, texts: Sequence[str], settings: GenerationSettings) -> Embeddings:
        self._refuse_decided(settings.extra)
        body = {
            "model": self.model_name,
            "input": list(texts),
            # Read in a tenth of the time; servers that do not know it send numbers.
            "encoding_format": "base64",
            **{name: value for name, value in self._settings.items() if name not in _OF_CHAT},
            **settings.extra,
        }
        read = partial(embeddings_of, count=len(texts))
        seconds, extra = self._within(settings), settings.extra
        largest = largest_of(len(texts))
        return await self._ask("/embeddings", body, read, seconds, extra, largest=largest)

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        settings = request.settings
        body = self._body(request, _sent(settings), settings.extra)
        reading = await self._opened(body, settings)
        caller, api = self._caller.hiding(settings.extra), self._api
        async with aclosing(streamed(reading, caller, api.reader(), api.response)) as deltas:
            async for delta in deltas:
                yield delta

    # --- what is sent ------------------------------------------------------------------------

    @property
    def _api(self) -> Api:
        return APIS[self._api_name]

    @property
    def _timeout(self) -> float | None:
        timeout: float | None = self.config.get("timeout")
        return timeout

    def _within(self, settings: GenerationSettings) -> float | None:
        return self._timeout if settings.timeout is None else settings.timeout

    def _body(
        self, request: ChatRequest, settings: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> dict[str, Any]:
        self._refuse_decided(extra)
        asked = {"model": self.model_name, **self._api.question(request)}
        return {**layered({**self._configured, **self._written(settings)}, asked), **extra}

    def _written(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        if self._vendor.id in _OPENAIS_OWN and self._api_name == "chat":
            return for_reasoning(self.model_name, settings)
        return self._api.settings(settings)

    def _refuse_decided(self, extra: Mapping[str, Any]) -> None:
        for name in _RESERVED & extra.keys():
            raise BadRequestError(
                f"'{name}' is decided by the call. Take it out of extra.",
                provider=self._vendor.id,
                model=self.model_name,
            )

    # --- the call ----------------------------------------------------------------------------

    async def _ask(
        self,
        path: str,
        body: dict[str, Any],
        read: Callable[[Mapping[str, Any]], T],
        seconds: float | None,
        extra: Mapping[str, Any],
        *,
        largest: int = LARGEST_ANSWER,
    ) -> T:
        caller = self._caller.hiding(extra)

        async def call(sdk: SDK) -> T:
            # The SDK's own parsing makes a text of an HTML page and a completion of an error,
            # and takes a third of the time of a call.
            response = await self._post(sdk, path, body, stream=False)
            found = caller.cleaned(read(parsed(response.content, largest)), noted())
            return replace(found, request_id=caller.request_id(noted()))

        return await caller.attempt(call, seconds, _sdk)

    async def _opened(self, body: dict[str, Any], settings: GenerationSettings) -> Reading:
        """Open a stream; where a server does not know how to count it, without its count."""
        asking = self._api.streaming if self._counts_streams else _UNCOUNTED
        try:
            return await self._open({**asking, **body}, settings)
        except BadRequestError as error:
            if asking is _UNCOUNTED or "stream_options" not in str(error):
                raise
        self._counts_streams = False
        return await self._open({**_UNCOUNTED, **body}, settings)

    async def _open(self, body: dict[str, Any], settings: GenerationSettings) -> Reading:
        seconds = self._within(settings)

        async def call(sdk: SDK) -> Reading:
            ends = ends_after(seconds)
            response = await self._post(sdk, self._api.path, body, stream=True)
            return Reading(response.stream, noted(), seconds, ends)

        return await self._caller.hiding(settings.extra).attempt(call, seconds, _sdk)

    async def _post(self, sdk: SDK, path: str, body: dict[str, Any], *, stream: bool) -> Any:
        if self._client is None:
            self._client = sdk.client(self._transport, self.config, self._url, self._api_version)
        return await self._client.post(path, cast_to=sdk.response_class, body=body, stream=stream)


# Whose models of the reasoning families are OpenAI's.
_OPENAIS_OWN: Final = frozenset({"azure", "openai"})

_UNCOUNTED: Final[Mapping[str, Any]] = {"stream": True}

# Settings that mean nothing for embeddings; `user` does.
_OF_CHAT: Final = CHAT - {"user"}


def _sent(settings: GenerationSettings) -> dict[str, Any]:
    return given(settings.without_timeout().given())


async def _sdk() -> SDK:
    sdk: SDK = await load("openai", SDK)
    return sdk
