"""The SDK of openai, whichever major it is, imported on first use."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final

from kor_core.adapters.discretion import hush
from kor_core.adapters.network import Library, Transport
from kor_core.adapters.vendors import OPENAI
from kor_core.redaction import Config

__all__ = ["SDK"]

# The SDK insists on a key; servers without keys ignore it.
_NO_KEY: Final = "no-key"


class SDK:
    """The SDK of openai, whichever major it is, with the HTTP library that goes with it."""

    def __init__(self) -> None:
        import openai

        hush()
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
        for_tenants = isinstance(config, Config) and config.is_tenants
        http_client = transport.client(self.library, for_tenants=for_tenants)
        make = partial(self._azure_class, api_version=api_version)
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
        client._azure_ad_token = None  # noqa: SLF001  # Azure's; openai 2 sends it before the key
        client._custom_headers = {}  # noqa: SLF001  # nothing public leaves OPENAI_CUSTOM_HEADERS out
        return client
