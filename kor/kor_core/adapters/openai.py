"""OpenAI, and every server that speaks like it, through the official SDK (2 and 3)."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from kor_core.adapters.attempt import Caller
from kor_core.adapters.completion import parsed, text_of
from kor_core.adapters.loading import load
from kor_core.adapters.network import Library, Transport
from kor_core.adapters.parameters import CHAT, chosen, given
from kor_core.errors import ConfigurationError, Problem
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.redaction import Config

__all__ = ["SDK", "OpenAIModel", "OpenAIProvider"]

_URL: Final = "https://api.openai.com/v1"

# The SDK insists on a key; servers without keys ignore it.
_NO_KEY: Final = "no-key"

# Settings of the connection. All others are generation parameters, or what the server of
# `base_url` knows beyond them, and go into the body.
_CONNECTION: Final = frozenset(
    {
        "api_key",
        "base_url",
        "extra_body",
        "extra_headers",
        "extra_query",
        "organization",
        "project",
        "timeout",
    }
)
_RESERVED: Final = frozenset({"messages", "model", "n", "stream"})


class OpenAIProvider(BaseLLMProvider):
    """Makes models of OpenAI's API, or of another server by ``base_url``.

    Args:
        transport: the connections, shared with the other providers.
    """

    id = "openai"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        """Return the model of that name; nothing is imported or opened yet.

        Args:
            model_name: as OpenAI names it.
            config: ``api_key``, ``base_url``, ``organization``, ``project``,
                ``extra_headers``, ``extra_query``, ``timeout`` (seconds), and generation
                parameters. Others go into the body of each request, and so does what
                ``extra_body`` holds.

        Raises:
            ConfigurationError: a setting that is not for configuring.
        """
        _refuse_reserved(config)
        return OpenAIModel(model_name, config, transport=self._transport)

    def credentials(self, model_name: str) -> Credentials:  # noqa: ARG002  # the same for all
        """Return OpenAI's own variables."""
        return Credentials(("OPENAI_API_KEY",), ("OPENAI_BASE_URL",), required=True)


def _refuse_reserved(config: Mapping[str, Any]) -> None:
    if reserved := sorted(_RESERVED & config.keys()):
        raise ConfigurationError(
            [
                Problem(
                    f"'{name}' is decided by the call. Remove it.",
                    key=f"llm.providers.openai.extra.{name}",
                )
                for name in reserved
            ]
        )


class OpenAIModel(BaseLLMModel):
    """One model, callable from any thread and event loop."""

    def __init__(self, model_name: str, config: dict[str, Any], *, transport: Transport) -> None:
        super().__init__(model_name, own := Config(config))
        self._transport = transport
        self._caller = Caller.of("openai", model_name, own)
        sent = {name: value for name, value in own.items() if name not in _CONNECTION}
        self._settings = given({**sent, **own.get("extra_body", {})})
        self._client: Any = None

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt with a chat completion.

        Args:
            prompt: the user's message.
            **kwargs: generation parameters such as ``temperature``, over those configured;
                ``timeout`` in seconds; ``extra``, a table for the body of the request.

        Raises:
            LLMError: the call failed.
        """
        kwargs = Config(kwargs)  # a key in them shows in no traceback
        settings = chosen(
            kwargs, CHAT | {"timeout", "extra"}, provider="openai", model=self.model_name
        )
        timeout = settings.pop("timeout", self.config.get("timeout"))
        extra: Mapping[str, Any] = settings.pop("extra", {})
        messages = [{"role": "user", "content": prompt}]
        body = {
            "model": self.model_name,
            "messages": messages,
            **self._settings,
            **settings,
            **extra,
        }

        async def call(sdk: SDK) -> str:
            return text_of(await self._post(sdk, "/chat/completions", body))

        return await self._caller.attempt(call, timeout, lambda: load("openai", SDK))

    async def _post(self, sdk: "SDK", path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        """Send a request as the SDK builds it, and parse the answer ourselves.

        The SDK's own parsing makes a text of an HTML page and a completion of an error, and
        takes a third of the time of a call.
        """
        if self._client is None:
            self._client = sdk.client(self._transport, self.config)
        response = await self._client.post(path, cast_to=sdk.response_class, body=body)
        return parsed(response.content)


class SDK:
    """The SDK of openai, whichever major it is, with the HTTP library that goes with it."""

    def __init__(self) -> None:
        import openai

        self.library: Final[Library] = "httpx" if openai.VERSION.startswith("2.") else "httpx2"
        self.response_class: Final[Any] = import_module(self.library).Response
        self._client_class: Final[Any] = openai.AsyncOpenAI

    def client(self, transport: Transport, config: Mapping[str, Any], url: str = _URL) -> Any:
        """Return an ``AsyncOpenAI`` that sends through the transport and reads no environment.

        Args:
            transport: the connections.
            config: as for :meth:`OpenAIProvider.create_model`.
            url: the endpoint when ``config`` has none.
        """
        http_client = transport.client(self.library)
        client = self._client_class(
            api_key=config.get("api_key") or _NO_KEY,
            base_url=config.get("base_url") or url,
            default_query=config.get("extra_query"),
            max_retries=0,  # KOR is the only one that retries
            timeout=http_client.timeout,
            http_client=http_client,
        )
        # What is not passed, the SDK takes from the environment of the host: these would
        # follow a tenant's key to the tenant's own endpoint.
        client.organization = config.get("organization")
        client.project = config.get("project")
        client.admin_api_key = None
        client._custom_headers = {}  # noqa: SLF001  # nothing public leaves OPENAI_CUSTOM_HEADERS out
        return client
