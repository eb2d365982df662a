"""A hundred vendors through litellm, each call on its own: no state of the process is used."""

from collections.abc import Mapping
from typing import Any, Final

from kor_core.adapters.attempt import Caller
from kor_core.adapters.completion import text_of
from kor_core.adapters.litellm_host import refuse_acting
from kor_core.adapters.litellm_sdk import SDK
from kor_core.adapters.litellm_vendors import UNTRIED, VENDORS, Vendor, qualified, vendor_of
from kor_core.adapters.loading import load
from kor_core.adapters.network import Transport
from kor_core.adapters.parameters import CHAT, chosen, given
from kor_core.errors import ConfigurationError, ModelNotFoundError, Problem
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.redaction import Config
from kor_core.suggestions import nearest

__all__ = ["LiteLLMModel", "LiteLLMProvider"]

# An empty key would make litellm take the host's from the environment.
_NO_KEY: Final = "no-key"

# litellm swallows `metadata` for its own callbacks, and would send it nowhere.
_GENERATION: Final = (CHAT - {"metadata"}) | {
    "min_p",
    "reasoning",
    "repetition_penalty",
    "safety_settings",
    "thinking",
    "top_a",
    "top_k",
}

# How the vendor is reached and who calls it; for the operator's configuration, not for calls.
_CONNECTION: Final = frozenset({"api_version", "drop_params", "extra_body", "organization"})
_OURS: Final = frozenset({"api_key", "base_url", "extra_headers", "timeout"})

# Headers that litellm would take from the host's environment (OR_SITE_URL, OR_APP_NAME).
_INSTEAD_OF_THE_HOSTS: Final = {"openrouter": {"HTTP-Referer": "", "X-Title": ""}}

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
                and generation parameters.

        Raises:
            ConfigurationError: the name holds an endpoint, a setting is unknown, or the
                vendor cannot be called through KOR's connections or has no endpoint.
        """
        _refuse_endpoint(model_name)
        _refuse_unknown(config)
        _refuse_unreached(model_name)
        _refuse_placeless(model_name, config)
        return LiteLLMModel(model_name, config, transport=self._transport)

    def credentials(self, model_name: str) -> Credentials:
        """Return the variables of the model's vendor; litellm is not imported for it."""
        vendor = VENDORS.get(name := vendor_of(model_name), UNTRIED)
        if not vendor.reached:  # most vendors' variables are named like this
            keys = (f"{name.upper()}_API_KEY",) if name else ()
            return Credentials(vendor.keys or keys, vendor=name or model_name, ambient=True)
        required = bool(vendor.keys or not vendor.url)
        return Credentials(vendor.keys, vendor.urls, required, vendor=name)


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
        kwargs = Config(kwargs)  # a key in them shows in no traceback
        settings = chosen(
            kwargs, _GENERATION | {"timeout"}, provider="litellm", model=self.model_name
        )
        timeout = settings.pop("timeout", self.config.get("timeout"))
        messages = [{"role": "user", "content": prompt}]

        async def call(sdk: SDK) -> str:
            return text_of(await self._complete(sdk, messages, settings))

        return await self._caller.attempt(call, timeout, self._ready)

    async def _ready(self) -> SDK:
        if not vendor_of(self.model_name):
            raise _nobodys(self.model_name)
        self._transport.check(self._endpoint)
        refuse_acting()
        sdk: SDK = await load("litellm", SDK)
        return sdk

    async def _complete(
        self, sdk: SDK, messages: list[dict[str, Any]], settings: dict[str, Any]
    ) -> Mapping[str, Any]:
        url = self._endpoint
        if self._connection is None:
            self._connection = sdk.connection(self._transport, self.config, url)
        arguments = self._settings | settings
        answer = await sdk.complete(
            model=self._sent_name,
            messages=messages,
            client=self._connection,
            api_base=url,
            api_key=self.config.get("api_key") or _NO_KEY,
            extra_headers=_INSTEAD_OF_THE_HOSTS.get(vendor_of(self.model_name)),
            **arguments,
            kept=_NEVER_DROPPED & arguments.keys(),
            timeout=self._transport.settings.read_timeout,
            max_retries=0,  # KOR is the only one that retries
            num_retries=0,
        )
        return _as_table(answer)

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
        f"No vendor is known for '{model_name}'. Write the vendor in front, such as "
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
    vendor = VENDORS.get(name, UNTRIED)
    if not name or vendor.reached:
        return
    problem = Problem(
        f"'{model_name}' is not called: for the vendor '{name}', litellm is not known to keep "
        f"to the proxy, certificates and timeouts of [network]. Use {vendor.instead}."
    )
    raise ConfigurationError([problem])


def _refuse_placeless(model_name: str, config: Mapping[str, Any]) -> None:
    """Refuse a key without an endpoint: litellm would take one from the host's environment."""
    vendor = VENDORS.get(vendor_of(model_name))
    if vendor is None or vendor.url or config.get("base_url"):
        return
    problem = Problem(
        f"'{model_name}' has no endpoint of its own. Set base_url in [llm.providers.litellm].",
        key="llm.providers.litellm.base_url",
    )
    raise ConfigurationError([problem])
