"""A hundred vendors through litellm, each call on its own: no state of the process is used."""

from collections.abc import Mapping
from typing import Any, Final

from kor_core.adapters.attempt import Caller
from kor_core.adapters.completion import text_of
from kor_core.adapters.litellm_sdk import SDK
from kor_core.adapters.litellm_vendors import VENDORS, Vendor, qualified, vendor_of
from kor_core.adapters.loading import load
from kor_core.adapters.network import Transport
from kor_core.adapters.parameters import CHAT, chosen, given
from kor_core.errors import ConfigurationError, ModelNotFoundError, Problem
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.redaction import Config
from kor_core.suggestions import listed, nearest

__all__ = ["LiteLLMModel", "LiteLLMProvider"]

# An empty key would make litellm take the host's from the environment.
_NO_KEY: Final = "no-key"

# litellm swallows `metadata` for its own callbacks, and would send it nowhere.
_GENERATION: Final = (CHAT - {"metadata"}) | {
    "keep_alive",
    "min_p",
    "num_ctx",
    "num_predict",
    "reasoning",
    "repetition_penalty",
    "safety_settings",
    "thinking",
    "top_a",
    "top_k",
}

# How the vendor is reached and who calls it; for the operator's configuration, not for calls.
_CONNECTION: Final = frozenset(
    {
        "api_version",
        "aws_access_key_id",
        "aws_bedrock_runtime_endpoint",
        "aws_profile_name",
        "aws_region_name",
        "aws_role_name",
        "aws_secret_access_key",
        "aws_session_name",
        "aws_session_token",
        "aws_web_identity_token",
        "azure_ad_token",
        "client_id",
        "client_secret",
        "drop_params",
        "extra_body",
        "organization",
        "project_id",
        "region_name",
        "space_id",
        "tenant_id",
        "vertex_credentials",
        "vertex_location",
        "vertex_project",
    }
)
_OURS: Final = frozenset({"api_key", "base_url", "extra_headers", "timeout"})

# With drop_params, litellm leaves out what a model does not take. These change what the
# answer means or how long it is: they are sent regardless, and the vendor may refuse them.
_NEVER_DROPPED: Final = frozenset(
    {
        "audio",
        "max_completion_tokens",
        "max_tokens",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "response_format",
        "stop",
        "tool_choice",
        "tools",
        "web_search_options",
    }
)


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
                generation parameters, and what a vendor needs besides a key, such as
                ``aws_region_name``.

        Raises:
            ConfigurationError: the name holds an endpoint, a setting is unknown, or the
                vendor cannot be called through KOR's connections or has no endpoint.
        """
        _refuse_endpoint(model_name)
        _refuse_unknown(config)
        _refuse_unreached(model_name)
        _refuse_ambient(model_name, config)
        _refuse_placeless(model_name, config)
        return LiteLLMModel(model_name, config, transport=self._transport)

    def credentials(self, model_name: str) -> Credentials:
        """Return the variables of the model's vendor; litellm is not imported for it."""
        vendor = VENDORS.get(name := vendor_of(model_name))
        if vendor is None:  # most vendors' variables are named like this
            keys = (f"{name.upper()}_API_KEY",) if name else ()
            return Credentials(keys, vendor=name or model_name, ambient=True)
        required = bool(vendor.keys or vendor.needs_url) and not vendor.ambient
        return Credentials(
            vendor.keys, vendor.urls, required, vendor=name, ambient=bool(vendor.ambient)
        )


class LiteLLMModel(BaseLLMModel):
    """One model, callable from any thread and event loop."""

    def __init__(self, model_name: str, config: dict[str, Any], *, transport: Transport) -> None:
        super().__init__(model_name, own := Config(config))
        self._transport = transport
        self._caller = Caller.of("litellm", model_name, own)
        self._settings = given({name: value for name, value in own.items() if name not in _OURS})
        self._connection: Any = None

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt with a chat completion.

        Args:
            prompt: the user's message.
            **kwargs: generation parameters such as ``temperature``, over those configured;
                ``timeout`` in seconds.

        Raises:
            LLMError: the call failed.
        """
        settings = chosen(
            kwargs, _GENERATION | {"timeout"}, provider="litellm", model=self.model_name
        )
        timeout = settings.pop("timeout", self.config.get("timeout"))
        messages = [{"role": "user", "content": prompt}]

        async def call(sdk: SDK) -> str:
            return text_of(await self._complete(sdk, messages, settings))

        return await self._caller.attempt(call, timeout, self._ready)

    async def _ready(self) -> SDK:
        self._transport.check(self._endpoint or f"//{self._vendor}")
        sdk: SDK = await load("litellm", SDK)
        return sdk

    async def _complete(
        self, sdk: SDK, messages: list[dict[str, Any]], settings: dict[str, Any]
    ) -> Mapping[str, Any]:
        url = self._endpoint
        if not sdk.knows(self._sent_name):
            raise _nobodys(self.model_name)
        if self._connection is None:
            self._connection = sdk.connection(self._transport, self.config, url)
        arguments = self._settings | settings
        answer = await sdk.complete(
            model=self._sent_name,
            messages=messages,
            client=self._connection,
            api_base=url or None,
            api_key=self.config.get("api_key") or (None if self._is_ambient else _NO_KEY),
            **arguments,
            allowed_openai_params=sorted(_NEVER_DROPPED & arguments.keys()),
            timeout=self._transport.settings.read_timeout,
            max_retries=0,  # KOR is the only one that retries
            num_retries=0,
        )
        return _as_table(answer)

    @property
    def _vendor(self) -> str:
        return vendor_of(self.model_name)

    @property
    def _is_ambient(self) -> bool:
        return bool(VENDORS.get(self._vendor, Vendor()).ambient)

    @property
    def _sent_name(self) -> str:
        """The name that litellm is given."""
        name = qualified(self.model_name)
        # litellm's "ollama" makes one text of the messages; "ollama_chat" sends them as they are.
        return f"ollama_chat/{name[7:]}" if name.startswith("ollama/") else name

    @property
    def _endpoint(self) -> str:
        """The endpoint, always explicit: litellm would look for one in the environment."""
        url: str = self.config.get("base_url") or VENDORS.get(self._vendor, Vendor()).url
        # litellm adds the path's beginning itself for this vendor, whose SDK has it in the URL.
        return url.rstrip("/").removesuffix("/v1") if self._vendor == "anthropic" else url


def _as_table(answer: Any) -> Mapping[str, Any]:
    """Return a chat completion of litellm's classes in the shape of OpenAI's JSON."""
    return {
        "choices": [
            {
                "finish_reason": choice.finish_reason,
                "message": {
                    name: getattr(choice.message, name, None)
                    for name in ("content", "refusal", "tool_calls")
                },
            }
            for choice in answer.choices
        ]
    }


def _nobodys(model_name: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"litellm knows no vendor for '{model_name}'. Write the vendor in front, such as "
        f"'ollama/{model_name}'."
    )


def _refuse_endpoint(model_name: str) -> None:
    """Refuse a name such as ``huggingface/https://…``, which litellm would call with the key."""
    if "://" in model_name:
        problem = Problem(
            f"The model name '{model_name}' holds an endpoint. Name the model alone, and give "
            "the endpoint as base_url in [llm.providers.litellm]."
        )
        raise ConfigurationError([problem])


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    known = _GENERATION | _CONNECTION | _OURS
    if unknown := sorted(config.keys() - known):
        raise ConfigurationError(
            [
                Problem(
                    f"The setting '{name}' is not passed to litellm. What only the vendor "
                    "knows goes into extra_body.",
                    key=f"llm.providers.litellm.extra.{name}",
                    suggestion=nearest(name, known),
                )
                for name in unknown
            ]
        )


def _refuse_unreached(model_name: str) -> None:
    """Refuse a vendor that litellm calls past the transport, or that nobody has tried."""
    name = vendor_of(model_name)
    if not name or VENDORS.get(name, Vendor(reached=False)).reached:
        return
    problem = Problem(
        f"'{model_name}' is not called: for the vendor '{name}', litellm is not known to keep "
        "to the proxy, certificates and timeouts of [network]. Use the provider openai with "
        "the vendor's OpenAI-compatible base_url, or put a LiteLLM proxy in front."
    )
    raise ConfigurationError([problem])


def _refuse_placeless(model_name: str, config: Mapping[str, Any]) -> None:
    """Refuse a key without an endpoint: litellm would take one from the host's environment."""
    vendor = VENDORS.get(vendor_of(model_name))
    if vendor is None or vendor.url or vendor.ambient or config.get("base_url"):
        return
    problem = Problem(
        f"'{model_name}' has no endpoint of its own. Set base_url in [llm.providers.litellm].",
        key="llm.providers.litellm.base_url",
    )
    raise ConfigurationError([problem])


def _refuse_ambient(model_name: str, config: Mapping[str, Any]) -> None:
    """Refuse the host's own identity, in a cloud say, unless the configuration asks for it."""
    vendor = VENDORS.get(vendor_of(model_name), Vendor())
    if not vendor.ambient or any(config.get(name) for name in ("api_key", *vendor.ambient)):
        return
    problem = Problem(
        f"'{model_name}' would be called with the identity of this host. To allow that, set "
        f"one of {listed(vendor.ambient)} in the extra of [llm.providers.litellm].",
        key="llm.providers.litellm.extra",
    )
    raise ConfigurationError([problem])
