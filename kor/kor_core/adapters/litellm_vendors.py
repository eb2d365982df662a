"""The vendors behind litellm as data: where their keys come from, which bare names are theirs.

litellm itself is not asked: importing it takes seconds, and it would read the environment.
Variables and endpoints are those of its documentation
(https://docs.litellm.ai/docs/providers), the bare names those of the vendors' own lists.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kor_core.llm.profile import ModelProfile

__all__ = ["UNTRIED", "VENDORS", "Vendor", "format_of", "names_of", "qualified", "vendor_of"]


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor.

    Args:
        keys: environment variables that may hold the key, in order; none for a local server.
        url: the endpoint. It is passed in every call, because litellm would read the host's
            environment for it otherwise; empty where each user has another.
        urls: environment variables that may hold the endpoint, in order.
        names: pattern of the model names that are the vendor's without saying so.
        asked_as: the vendor in whose format it is asked, where litellm's own is no good.
        reached: whether it was proved that litellm calls it through the connections it is
            given, with the key it is given, once. No other vendor is called.
        instead: what to use where it is not reached.
        embeds_as: the vendor that litellm is told when it is asked for embeddings; empty where
            it was not proved that it gets them through the connections it is given.
        embeds_at: what is added to the endpoint for them.
        lacks: capabilities for which litellm has no way at the vendor.
    """

    keys: tuple[str, ...] = ()
    url: str = ""
    urls: tuple[str, ...] = ()
    names: str = ""
    asked_as: str = ""
    reached: bool = False
    instead: str = ""
    embeds_as: str = ""
    embeds_at: str = ""
    lacks: frozenset[str] = frozenset()

    @property
    def profile(self) -> ModelProfile:
        """What is known of all of the vendor's models."""
        unable = self.lacks if self.embeds_as else self.lacks | {"embeddings"}
        return ModelProfile(unsupported=unable)


_COMPATIBLE: Final = "the provider openai with base_url '{}'"
_IN_FRONT: Final = "a LiteLLM proxy in front, and the provider openai with its base_url"

# litellm sends the texts of a message to these vendors, and leaves its images out.
_IMAGES: Final = frozenset({"vision"})

# For each that is reached, a test of that name sends a request (tests/kor_core/
# test_adapters_vendors.py); docs/providers.md lists them all, held to this table by a test.
VENDORS: Final[Mapping[str, Vendor]] = {
    "ai21": Vendor(
        ("AI21_API_KEY",), "https://api.ai21.com/studio/v1", names=r"jamba-", reached=True
    ),
    "anthropic": Vendor(
        ("ANTHROPIC_API_KEY",),
        "https://api.anthropic.com",
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"),
        names=r"claude-",
        reached=True,
    ),
    # https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
    "azure": Vendor(
        ("AZURE_API_KEY",),
        instead=_COMPATIBLE.format("https://<resource>.openai.azure.com/openai/v1"),
    ),
    "azure_ai": Vendor(
        ("AZURE_AI_API_KEY",), urls=("AZURE_AI_API_BASE",), reached=True, embeds_as="azure_ai"
    ),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html
    "bedrock": Vendor(
        ("AWS_BEARER_TOKEN_BEDROCK",),
        instead=_COMPATIBLE.format("https://bedrock-runtime.<region>.amazonaws.com/openai/v1"),
    ),
    "cerebras": Vendor(("CEREBRAS_API_KEY",), "https://api.cerebras.ai/v1", reached=True),
    # https://docs.cohere.com/docs/compatibility-api
    "cohere": Vendor(
        ("COHERE_API_KEY", "CO_API_KEY"),
        names=r"command(-|$)",
        instead=_COMPATIBLE.format("https://api.cohere.ai/compatibility/v1"),
    ),
    "dashscope": Vendor(
        ("DASHSCOPE_API_KEY",),
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        names=r"qwen(-|\d+-)(max|plus|turbo|flash)",
        reached=True,
        embeds_as="dashscope",
    ),
    "deepinfra": Vendor(
        ("DEEPINFRA_API_KEY",), "https://api.deepinfra.com/v1/openai", reached=True
    ),
    "deepseek": Vendor(
        ("DEEPSEEK_API_KEY",),
        "https://api.deepseek.com/beta",
        ("DEEPSEEK_API_BASE",),
        names=r"deepseek-(chat|reasoner|coder)",
        reached=True,
        lacks=_IMAGES,
    ),
    "fireworks_ai": Vendor(
        ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
        "https://api.fireworks.ai/inference/v1",
        reached=True,
        embeds_as="fireworks_ai",
    ),
    # Asked for embeddings in Gemini's own format, litellm would go past the transport:
    # https://ai.google.dev/gemini-api/docs/openai
    "gemini": Vendor(
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "https://generativelanguage.googleapis.com/v1beta",
        ("GEMINI_API_BASE",),
        names=r"gemini-|learnlm-",
        reached=True,
        embeds_as="openai",
        embeds_at="/openai",
    ),
    "groq": Vendor(
        ("GROQ_API_KEY",), "https://api.groq.com/openai/v1", ("GROQ_API_BASE",), reached=True
    ),
    "hosted_vllm": Vendor(urls=("HOSTED_VLLM_API_BASE",), reached=True, embeds_as="hosted_vllm"),
    # https://huggingface.co/docs/inference-providers
    "huggingface": Vendor(
        ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        instead=_COMPATIBLE.format("https://router.huggingface.co/v1"),
    ),
    "lm_studio": Vendor(urls=("LM_STUDIO_API_BASE",), reached=True, embeds_as="lm_studio"),
    "mistral": Vendor(
        ("MISTRAL_API_KEY",),
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_BASE",),
        names=r"(open-)?(mistral|mixtral)-|ministral-|magistral-|codestral-|pixtral-|devstral-",
        reached=True,
        embeds_as="mistral",
    ),
    "moonshot": Vendor(
        ("MOONSHOT_API_KEY",),
        "https://api.moonshot.ai/v1",
        names=r"kimi-|moonshot-",
        reached=True,
    ),
    "nvidia_nim": Vendor(
        ("NVIDIA_NIM_API_KEY",),
        "https://integrate.api.nvidia.com/v1",
        reached=True,
        embeds_as="nvidia_nim",
    ),
    # In Ollama's own format, litellm asks the server about the model first: several times a
    # call, blocking the event loop, past the transport, at the host's OLLAMA_API_BASE.
    # https://docs.ollama.com/api/openai-compatibility
    "ollama": Vendor(
        url="http://localhost:11434",
        urls=("OLLAMA_API_BASE",),
        asked_as="lm_studio",
        reached=True,
        embeds_as="lm_studio",
    ),
    "ollama_chat": Vendor(
        url="http://localhost:11434",
        urls=("OLLAMA_API_BASE",),
        asked_as="lm_studio",
        reached=True,
        embeds_as="lm_studio",
    ),
    "openai": Vendor(
        ("OPENAI_API_KEY",),
        "https://api.openai.com/v1",
        ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        names=r"(gpt|chatgpt)-|o[1-9](-|$)|ft:",
        reached=True,
        embeds_as="openai",
    ),
    "openrouter": Vendor(
        ("OPENROUTER_API_KEY",),
        "https://openrouter.ai/api/v1",
        reached=True,
        embeds_as="openrouter",
    ),
    "perplexity": Vendor(
        ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
        "https://api.perplexity.ai",
        names=r"sonar(-|$)",
        reached=True,
    ),
    "replicate": Vendor(("REPLICATE_API_KEY",), instead=_IN_FRONT),
    "sagemaker": Vendor(instead=_IN_FRONT),
    "sambanova": Vendor(
        ("SAMBANOVA_API_KEY",),
        "https://api.sambanova.ai/v1",
        reached=True,
        embeds_as="sambanova",
        lacks=_IMAGES,
    ),
    "together_ai": Vendor(
        ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY"),
        "https://api.together.ai/v1",
        reached=True,
        embeds_as="together_ai",
    ),
    "vertex_ai": Vendor(instead=f"'gemini/…' with a key of Google AI Studio; or {_IN_FRONT}"),
    "xai": Vendor(
        ("XAI_API_KEY",), "https://api.x.ai/v1", ("XAI_API_BASE",), names=r"grok-", reached=True
    ),
    "zai": Vendor(("ZAI_API_KEY",), "https://api.z.ai/api/paas/v4", names=r"glm-", reached=True),
}

# What is said of a vendor that the table does not have.
UNTRIED: Final = Vendor(
    instead=f"the provider openai with the vendor's OpenAI-compatible base_url; or {_IN_FRONT}"
)

_BARE: Final = tuple(
    (re.compile(vendor.names, re.IGNORECASE), name)
    for name, vendor in VENDORS.items()
    if vendor.names
)


# One server by two names.
_TWINS: Final = ("ollama_chat", "ollama")


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


def names_of(model_name: str) -> tuple[str, ...]:
    """Return all that a model may be called, the most exact last; the same for each of them.

    >>> names_of("claude-3-opus") == names_of("anthropic/claude-3-opus")
    True
    >>> names_of("openrouter/openai/gpt-4o")
    ('gpt-4o', 'openai/gpt-4o', 'openrouter:openai/gpt-4o', 'openrouter/openai/gpt-4o')
    """
    vendor, _, name = qualified(model_name).partition("/")
    if not name:  # whose it is, nobody knows
        return (model_name,)
    vendors = _TWINS if vendor in _TWINS else (vendor,)
    bare = name.rpartition("/")[2] or name
    qualifieds = (f"{each}{separator}{name}" for each in vendors for separator in ":/")
    return tuple(dict.fromkeys((bare, name, *qualifieds)))


def format_of(model_name: str) -> str:
    """Return whose wire format a model is asked in; OpenAI's but for two.

    >>> format_of("claude-3-opus"), format_of("azure_ai/claude-sonnet-4-5"), format_of("groq/x")
    ('anthropic', 'anthropic', 'openai')
    """
    vendor = vendor_of(model_name)
    if vendor == "azure_ai" and "claude" in model_name.lower():
        return "anthropic"
    return vendor if vendor in {"anthropic", "gemini"} else "openai"
