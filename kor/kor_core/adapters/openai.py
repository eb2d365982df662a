"""OpenAI, and every server that speaks like it, through the official SDK (2 and 3)."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final

from kor_core.adapters.attempt import Caller
from kor_core.adapters.completion import parsed, text_of
from kor_core.adapters.loading import load
from kor_core.adapters.network import Library, Transport
from kor_core.adapters.parameters import CHAT, chosen, given
from kor_core.adapters.vendors import OPENAI, CompatibleVendor
from kor_core.errors import ConfigurationError, Problem
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.llm.profile import ModelProfile
from kor_core.redaction import Config

__all__ = ["SDK", "OpenAIModel", "OpenAIProvider"]

# The SDK insists on a key; servers without keys ignore it.
_NO_KEY: Final = "no-key"

# Settings of the connection. All others are generation parameters, or what the server of
# `base_url` knows beyond them, and go into the body.
_CONNECTION: Final = frozenset(
    {
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

# Anything, so that Azure's client does not look for one in the environment.
_NO_TOKEN: Final = "no-token"  # noqa: S105  # none

_RESERVED: Final = frozenset({"messages", "model", "n", "stream"})


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
                ``api_version``, and generation
                parameters. Others go into the body of each request, and so does what
                ``extra_body`` holds.

        Raises:
            ConfigurationError: a setting that is not for configuring, or no endpoint where the
                vendor has none of its own.
        """
        _refuse_reserved(self._vendor.id, config)
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


class OpenAIModel(BaseLLMModel):
    """One model, callable from any thread and event loop."""

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
        self._provider = vendor.id
        self._url, self._api_version = vendor.endpoint(model_name, own)
        self._caller = Caller.of(vendor.id, model_name, own)
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
            kwargs, CHAT | {"timeout", "extra"}, provider=self._provider, model=self.model_name
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

        return await self._caller.hiding(extra).attempt(call, timeout, lambda: load("openai", SDK))

    async def _post(self, sdk: "SDK", path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        """Send a request as the SDK builds it, and parse the answer ourselves.

        The SDK's own parsing makes a text of an HTML page and a completion of an error, and
        takes a third of the time of a call.
        """
        if self._client is None:
            self._client = sdk.client(self._transport, self.config, self._url, self._api_version)
        response = await self._client.post(path, cast_to=sdk.response_class, body=body)
        return parsed(response.content)


class SDK:
    """The SDK of openai, whichever major it is, with the HTTP library that goes with it."""

    def __init__(self) -> None:
        import openai

        self.library: Final[Library] = "httpx" if openai.VERSION.startswith("2.") else "httpx2"
        self.response_class: Final[Any] = import_module(self.library).Response
        self._client_class: Final[Any] = openai.AsyncOpenAI
        self._azure_class: Final[Any] = openai.AsyncAzureOpenAI

    def client(
        self, transport: Transport, config: Mapping[str, Any], url: str = "", api_version: str = ""
    ) -> Any:
        """Return an ``AsyncOpenAI`` that sends through the transport and reads no environment.

        Args:
            transport: the connections.
            config: as for :meth:`OpenAIProvider.create_model`.
            url: the endpoint; by default that of ``config``, or OpenAI's.
            api_version: of Azure, whose servers want the key in another header.
        """
        http_client = transport.client(self.library)
        make = partial(self._azure_class, api_version=api_version, azure_ad_token=_NO_TOKEN)
        client = (make if api_version else self._client_class)(
            api_key=config.get("api_key") or _NO_KEY,
            base_url=url or config.get("base_url") or OPENAI.base_url,
            max_retries=0,  # KOR is the only one that retries
            timeout=http_client.timeout,
            http_client=http_client,
        )
        # What is not passed, the SDK takes from the environment of the host: these would
        # follow a tenant's key to the tenant's own endpoint.
        client.organization = config.get("organization")
        client.project = config.get("project")
        client.admin_api_key = None
        client._azure_ad_token = None  # noqa: SLF001  # it goes before the key
        client._custom_headers = {}  # noqa: SLF001  # nothing public leaves OPENAI_CUSTOM_HEADERS out
        return client
