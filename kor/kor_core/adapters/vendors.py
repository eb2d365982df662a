"""The vendors whose servers speak like OpenAI's, as data: one row each, called by one adapter.

Endpoints and variables are those of the vendors' own documentation, the page of each beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from kor_core.errors import ConfigurationError, Problem
from kor_core.llm.base import Credentials
from kor_core.llm.profile import ModelProfile

__all__ = ["AZURE_VERSION", "COMPATIBLE", "OPENAI", "CompatibleVendor"]

# The last version of Azure's API that is dated and not a preview.
AZURE_VERSION: Final = "2024-10-21"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompatibleVendor:
    """One vendor, or one kind of server.

    Args:
        id: the name in references and in ``[llm.providers.<id>]``.
        name: as it calls itself.
        source: page of its documentation that the row is taken from.
        base_url: the endpoint; empty where each user has another.
        keys: environment variables that may hold the key, in order.
        urls: environment variables that may hold the endpoint, in order.
        local: whether it is a server of the host's own, which needs no key.
        deployments: whether models are reached as Azure's are: by a deployment in the path,
            a version of the API in the query, and the key in the header ``api-key``.
        table: its name in the table of profiles; empty where the table has none of its models.
        lacks: capabilities that none of its models has, for its API has no way to them.
    """

    id: str
    name: str
    source: str
    base_url: str = ""
    keys: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    local: bool = False
    deployments: bool = False
    table: str = ""
    lacks: frozenset[str] = frozenset()

    @property
    def credentials(self) -> Credentials:
        """Where a key may come from when the configuration gives none."""
        return Credentials(self.keys, self.urls, required=not self.local, local=self.local)

    @property
    def profile(self) -> ModelProfile:
        """What holds for all of its models."""
        return ModelProfile(supported=frozenset({"streaming"}), unsupported=self.lacks)

    def endpoint(self, model_name: str, config: Mapping[str, Any]) -> tuple[str, str]:
        """Return where a model is called: the URL, and the version of Azure's API or nothing.

        Args:
            model_name: as the vendor names it, or of the deployment.
            config: the model's settings: ``base_url`` and ``api_version`` of them.

        Raises:
            ConfigurationError: the vendor has no endpoint of its own, and none is configured.

        >>> COMPATIBLE["groq"].endpoint("llama-3.3-70b-versatile", {})
        ('https://api.groq.com/openai/v1', '')
        """
        url = str(config.get("base_url") or self.base_url)
        if not url:
            raise ConfigurationError([self._placeless()])
        return _deployment(url, model_name, config) if self.deployments else (url, "")

    def _placeless(self) -> Problem:
        variables = f", or set {' or '.join(self.urls)}" if self.urls else ""
        return Problem(
            f"'{self.id}' has no endpoint of its own: add base_url to "
            f"[llm.providers.{self.id}]{variables}. The variable serves where neither base_url "
            "nor api_key is configured.",
            key=f"llm.providers.{self.id}.base_url",
        )


def _deployment(url: str, model_name: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the URL of a deployment; the newer API, ``…/openai/v1``, has none in its path."""
    base = url.rstrip("/")
    if base.endswith("/v1"):
        return base, ""
    root = base if base.endswith("/openai") else f"{base}/openai"
    version = str(config.get("api_version") or AZURE_VERSION)
    return f"{root}/deployments/{quote(model_name, safe='')}", version


_NO_EMBEDDINGS: Final = frozenset({"embeddings"})

OPENAI: Final = CompatibleVendor(
    id="openai",
    name="OpenAI",
    source="https://platform.openai.com/docs/api-reference",
    base_url="https://api.openai.com/v1",
    keys=("OPENAI_API_KEY",),
    urls=("OPENAI_BASE_URL",),
    table="openai",
)

_ROWS: Final = (
    CompatibleVendor(
        id="azure",
        name="Azure OpenAI",
        source="https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        keys=("AZURE_OPENAI_API_KEY",),
        urls=("AZURE_OPENAI_ENDPOINT",),
        deployments=True,
        table="azure",
    ),
    CompatibleVendor(
        id="cerebras",
        name="Cerebras",
        source="https://inference-docs.cerebras.ai/resources/openai",
        base_url="https://api.cerebras.ai/v1",
        keys=("CEREBRAS_API_KEY",),
        table="cerebras",
        lacks=_NO_EMBEDDINGS,
    ),
    CompatibleVendor(
        id="deepseek",
        name="DeepSeek",
        source="https://api-docs.deepseek.com",
        base_url="https://api.deepseek.com",
        keys=("DEEPSEEK_API_KEY",),
        table="deepseek",
        lacks=_NO_EMBEDDINGS,
    ),
    CompatibleVendor(
        id="fireworks",
        name="Fireworks AI",
        source="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        base_url="https://api.fireworks.ai/inference/v1",
        keys=("FIREWORKS_API_KEY",),
        table="fireworks_ai",
    ),
    CompatibleVendor(
        id="gemini",
        name="Google Gemini",
        source="https://ai.google.dev/gemini-api/docs/openai",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        table="gemini",
    ),
    CompatibleVendor(
        id="groq",
        name="Groq",
        source="https://console.groq.com/docs/openai",
        base_url="https://api.groq.com/openai/v1",
        keys=("GROQ_API_KEY",),
        table="groq",
        lacks=_NO_EMBEDDINGS,
    ),
    CompatibleVendor(
        id="llamacpp",
        name="llama.cpp",
        source="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
        base_url="http://localhost:8080/v1",
        keys=("LLAMA_API_KEY",),
        local=True,
    ),
    CompatibleVendor(
        id="lmstudio",
        name="LM Studio",
        source="https://lmstudio.ai/docs/developer/openai-compat",
        base_url="http://localhost:1234/v1",
        keys=("LM_API_TOKEN",),
        local=True,
    ),
    CompatibleVendor(
        id="mistral",
        name="Mistral AI",
        source="https://docs.mistral.ai/api",
        base_url="https://api.mistral.ai/v1",
        keys=("MISTRAL_API_KEY",),
        table="mistral",
    ),
    CompatibleVendor(
        id="nvidia",
        name="NVIDIA NIM",
        source="https://docs.api.nvidia.com/nim/reference/llm-apis",
        base_url="https://integrate.api.nvidia.com/v1",
        keys=("NVIDIA_API_KEY",),
        table="nvidia_nim",
    ),
    CompatibleVendor(
        id="ollama",
        name="Ollama",
        source="https://docs.ollama.com/api/openai-compatibility",
        base_url="http://localhost:11434/v1",
        local=True,
        table="ollama",
    ),
    CompatibleVendor(
        id="openrouter",
        name="OpenRouter",
        source="https://openrouter.ai/docs/api-reference/overview",
        base_url="https://openrouter.ai/api/v1",
        keys=("OPENROUTER_API_KEY",),
        table="openrouter",
    ),
    CompatibleVendor(
        id="perplexity",
        name="Perplexity",
        source="https://docs.perplexity.ai/guides/chat-completions-guide",
        base_url="https://api.perplexity.ai",
        keys=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        table="perplexity",
    ),
    CompatibleVendor(
        id="together",
        name="Together AI",
        source="https://docs.together.ai/docs/inference/openai-compatibility",
        base_url="https://api.together.ai/v1",
        keys=("TOGETHER_API_KEY",),
        table="together_ai",
    ),
    CompatibleVendor(
        id="vllm",
        name="vLLM",
        source="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        base_url="http://localhost:8000/v1",
        keys=("VLLM_API_KEY",),
        local=True,
    ),
    CompatibleVendor(
        id="xai",
        name="xAI",
        source="https://docs.x.ai/docs/api-reference",
        base_url="https://api.x.ai/v1",
        keys=("XAI_API_KEY",),
        table="xai",
    ),
)

COMPATIBLE: Final[Mapping[str, CompatibleVendor]] = {row.id: row for row in _ROWS}
