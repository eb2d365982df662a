"""The vendors behind litellm as data: where their keys come from, which bare names are theirs.

litellm itself is not asked: importing it takes seconds, and it would read the environment.
Variables and endpoints are those of its documentation
(https://docs.litellm.ai/docs/providers), the bare names those of the vendors' own lists.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["VENDORS", "Vendor", "qualified", "vendor_of"]


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor.

    Args:
        keys: environment variables that may hold the key, in order; none for a local server.
        url: the endpoint. It is passed in every call, because litellm would read the host's
            environment for it otherwise; empty where litellm has no single one.
        urls: environment variables that may hold the endpoint, in order.
        names: pattern of the model names that are the vendor's without saying so.
        needs_url: whether an endpoint must be configured, because each user has another.
        ambient: settings one of which must be given for the host's own identity to be used
            (a cloud's role, a profile); for vendors that find it without a key.
        reached: whether litellm calls it through the connections it is given. Some vendors
            it calls through its own, past the proxy, the certificates and the limits.
    """

    keys: tuple[str, ...] = ()
    url: str = ""
    urls: tuple[str, ...] = ()
    names: str = ""
    needs_url: bool = False
    ambient: tuple[str, ...] = ()
    reached: bool = True


_AWS: Final = (
    "aws_access_key_id",
    "aws_profile_name",
    "aws_region_name",
    "aws_role_name",
    "aws_web_identity_token",
)

VENDORS: Final[Mapping[str, Vendor]] = {
    "ai21": Vendor(("AI21_API_KEY",), "https://api.ai21.com/studio/v1", names=r"jamba-"),
    "anthropic": Vendor(
        ("ANTHROPIC_API_KEY",),
        "https://api.anthropic.com",
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"),
        names=r"claude-",
    ),
    "azure": Vendor(("AZURE_API_KEY",), urls=("AZURE_API_BASE",), needs_url=True),
    "azure_ai": Vendor(("AZURE_AI_API_KEY",), urls=("AZURE_AI_API_BASE",), needs_url=True),
    "bedrock": Vendor(("AWS_BEARER_TOKEN_BEDROCK",), ambient=_AWS),
    "cerebras": Vendor(("CEREBRAS_API_KEY",), "https://api.cerebras.ai/v1"),
    "cohere": Vendor(
        ("COHERE_API_KEY", "CO_API_KEY"),
        "https://api.cohere.com/v2/chat",
        names=r"command(-|$)",
        reached=False,
    ),
    "dashscope": Vendor(
        ("DASHSCOPE_API_KEY",),
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        names=r"qwen(-|\d+-)(max|plus|turbo|flash)",
    ),
    "deepinfra": Vendor(("DEEPINFRA_API_KEY",), "https://api.deepinfra.com/v1/openai"),
    "deepseek": Vendor(
        ("DEEPSEEK_API_KEY",),
        "https://api.deepseek.com/beta",
        ("DEEPSEEK_API_BASE",),
        names=r"deepseek-(chat|reasoner|coder)",
    ),
    "fireworks_ai": Vendor(
        ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"), "https://api.fireworks.ai/inference/v1"
    ),
    "gemini": Vendor(
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "https://generativelanguage.googleapis.com/v1beta",
        ("GEMINI_API_BASE",),
        names=r"gemini-|learnlm-",
    ),
    "groq": Vendor(("GROQ_API_KEY",), "https://api.groq.com/openai/v1", ("GROQ_API_BASE",)),
    "hosted_vllm": Vendor(urls=("HOSTED_VLLM_API_BASE",), needs_url=True),
    "huggingface": Vendor(("HF_TOKEN", "HUGGINGFACE_API_KEY"), reached=False),
    "lm_studio": Vendor(urls=("LM_STUDIO_API_BASE",), needs_url=True),
    "mistral": Vendor(
        ("MISTRAL_API_KEY",),
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_BASE",),
        names=r"(open-)?(mistral|mixtral)-|ministral-|magistral-|codestral-|pixtral-|devstral-",
    ),
    "moonshot": Vendor(
        ("MOONSHOT_API_KEY",), "https://api.moonshot.ai/v1", names=r"kimi-|moonshot-"
    ),
    "nvidia_nim": Vendor(("NVIDIA_NIM_API_KEY",), "https://integrate.api.nvidia.com/v1"),
    "ollama": Vendor(url="http://localhost:11434", urls=("OLLAMA_API_BASE",)),
    "ollama_chat": Vendor(url="http://localhost:11434", urls=("OLLAMA_API_BASE",)),
    "openai": Vendor(
        ("OPENAI_API_KEY",),
        "https://api.openai.com/v1",
        ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        names=r"(gpt|chatgpt)-|o[1-9](-|$)|ft:",
    ),
    "openrouter": Vendor(("OPENROUTER_API_KEY",), "https://openrouter.ai/api/v1"),
    "perplexity": Vendor(
        ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
        "https://api.perplexity.ai",
        names=r"sonar(-|$)",
    ),
    "replicate": Vendor(("REPLICATE_API_KEY",), reached=False),
    "sagemaker": Vendor(ambient=_AWS),
    "sambanova": Vendor(("SAMBANOVA_API_KEY",), "https://api.sambanova.ai/v1"),
    "together_ai": Vendor(
        ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY"),
        "https://api.together.ai/v1",
    ),
    "vertex_ai": Vendor(ambient=("vertex_credentials", "vertex_project")),
    "xai": Vendor(("XAI_API_KEY",), "https://api.x.ai/v1", ("XAI_API_BASE",), names=r"grok-"),
    "zai": Vendor(("ZAI_API_KEY",), "https://api.z.ai/api/paas/v4", names=r"glm-"),
}

_BARE: Final = tuple(
    (re.compile(vendor.names, re.IGNORECASE), name)
    for name, vendor in VENDORS.items()
    if vendor.names
)


def qualified(model_name: str) -> str:
    """Return the name with its vendor in front, where a bare name says whose it is.

    >>> qualified("claude-3-opus"), qualified("ollama/llama3:8b"), qualified("llama3")
    ('anthropic/claude-3-opus', 'ollama/llama3:8b', 'llama3')
    """
    if "/" in model_name:
        return model_name
    owner = next((name for names, name in _BARE if names.match(model_name)), None)
    return f"{owner}/{model_name}" if owner else model_name


def vendor_of(model_name: str) -> str:
    """Return the vendor that a model name is sent to; empty when only litellm knows.

    >>> vendor_of("gemini-1.5-pro"), vendor_of("groq/llama-3.3-70b"), vendor_of("llama3")
    ('gemini', 'groq', '')
    """
    return qualified(model_name).rpartition("/")[0].partition("/")[0]
