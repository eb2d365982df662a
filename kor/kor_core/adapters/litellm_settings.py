"""What may be set for litellm, by name, and what is refused before any call."""

import re
from collections.abc import Mapping
from typing import Any, Final

from kor_core.adapters.litellm_vendors import UNTRIED, VENDORS, qualified, vendor_of
from kor_core.adapters.parameters import CHAT
from kor_core.errors import ConfigurationError, Problem
from kor_core.settings.limits import leaves_path
from kor_core.suggestions import nearest

__all__ = ["GENERATION", "NEVER_DROPPED", "OURS", "RESERVED", "refuse_impossible"]

# litellm swallows `metadata` for its own callbacks, and would send it nowhere.
GENERATION: Final = (CHAT - {"metadata"}) | {
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
OURS: Final = frozenset({"api_key", "base_url", "extra_headers", "timeout"})

# What a call cannot change, whatever it is named in.
RESERVED: Final = _CONNECTION | OURS | {"input", "messages", "model", "n", "stream"}

# With drop_params, litellm leaves out what a model does not take. These change what the
# answer means or how long it is: they are sent regardless, and the vendor may refuse them.
NEVER_DROPPED: Final = frozenset(
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


def refuse_impossible(model_name: str, config: Mapping[str, Any]) -> None:
    """Refuse a model that cannot be called.

    Args:
        model_name: as it was configured.
        config: the settings of the model.

    Raises:
        ConfigurationError: the name holds an endpoint or a path, a setting is unknown, or the
            vendor cannot be called through KOR's connections or has no endpoint.
    """
    _refuse_endpoint(model_name)
    _refuse_sideways(model_name)
    _refuse_unknown(config)
    _refuse_unreached(model_name)
    _refuse_placeless(model_name, config)


def _refuse_endpoint(model_name: str) -> None:
    """Refuse a name such as ``huggingface/https://…``, which litellm would call with the key."""
    if "://" in model_name:
        problem = Problem(
            f"The model name '{model_name}' holds an endpoint. Name the model alone, and give "
            "the endpoint as base_url in [llm.providers.litellm]."
        )
        raise ConfigurationError([problem])


# For these names litellm asks other APIs, by clients of its own: past the proxy, the certificates
# and the limits, and with redirects, which the key follows.
_SIDEWAYS: Final = re.compile(r"(^|/)(assistants|responses)/|agents/", re.IGNORECASE)
# Whose names of models are a part of the URL; those of others are in the body.
_IN_PATHS: Final = frozenset({"gemini"})
_BY_TEXT: Final = re.compile(r"claude-(2|instant)(?![0-9])", re.IGNORECASE)


def _refuse_sideways(model_name: str) -> None:
    """Refuse a name for which litellm leaves KOR's connections, or the vendor's API."""
    vendor, _, name = qualified(model_name).partition("/")
    parts = name.replace("\\", "/").split("/")
    if _SIDEWAYS.search(name):
        words = "would be asked by another API, past the connections of KOR"
        cure = "Name the model alone; for the Responses API use the provider openai"
    elif vendor == "anthropic" and _BY_TEXT.match(name):
        words = "is of an API that is no more, and would be asked past the connections of KOR"
        cure = "Choose a newer model"
    elif not {".", ".."}.isdisjoint(parts) or (vendor in _IN_PATHS and leaves_path(name)):
        words = "would be a path of its own at the endpoint"
        cure = "Name the model alone"
    else:
        return
    raise ConfigurationError([Problem(f"'{model_name}' is not called: it {words}. {cure}.")])


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    known = GENERATION | _CONNECTION | OURS
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
