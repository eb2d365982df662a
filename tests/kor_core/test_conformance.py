"""Our own providers, and the example of a plugin, pass the suite that plugins are proved by."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import pytest

from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.errors import BadRequestError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.response import LLMResponse
from kor_core.settings import NetworkSettings
from kor_core.testing import EchoProvider, ScriptedProvider, Upstream
from kor_core.testing.conformance import Bench, ProviderConformance

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kor-plugin-reverse" / "src"

needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)


class TestOpenAI(ProviderConformance):
    model_name = "gpt-4"
    more_names = ("ft:gpt-4o:acme::x1", "org/model")
    upstream = "openai"

    def make_provider(self):
        return OpenAIProvider(Transport(NetworkSettings()))


class TestOpenAIResponses(TestOpenAI):
    config = MappingProxyType({"api": "responses"})


class OfLiteLLM(ProviderConformance):
    def make_provider(self):
        return LiteLLMProvider(Transport(NetworkSettings()))


@needs_litellm
class TestLiteLLMOpenAI(OfLiteLLM):
    model_name = "openai/gpt-4"
    more_names = ("claude-3-opus", "ollama/llama3:8b")
    upstream = "openai"


@needs_litellm
class TestLiteLLMAnthropic(OfLiteLLM):
    model_name = "claude-3-opus"
    upstream = "root"
    always_sent = frozenset({"max_tokens"})


@needs_litellm
class TestLiteLLMGemini(OfLiteLLM):
    model_name = "gemini-2.5-flash"
    upstream = "gemini"


class TestEcho(ProviderConformance):
    more_names = ("a:b/c", "x")

    def make_provider(self):
        return EchoProvider()


class TestExamplePlugin(ProviderConformance):
    def make_provider(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
            return import_module("kor_plugin_reverse").ReverseProvider()


def of_the_guide():
    """Run the code of the page, as it stands there, and return its provider."""
    page = (ROOT / "docs" / "how-to-write-an-http-provider.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(compile(code, "house.py", "exec"), names)
    return names["HouseProvider"]


class TestProviderOfTheGuide(ProviderConformance):
    upstream = "openai"

    def make_provider(self):
        return of_the_guide()()


class PromptsAlone(BaseLLMModel):
    """Takes prompts over HTTP, and has nothing but ``agenerate``."""

    def __init__(self, model_name, config):
        super().__init__(model_name, config)
        self.inner = OpenAIProvider(Transport(NetworkSettings())).create_model(model_name, config)

    async def agenerate(self, prompt, **kwargs):
        return await self.inner.agenerate(prompt, **kwargs)


class Dice(BaseLLMModel):
    async def agenerate(self, prompt, **kwargs):
        return str(uuid4())


class Unsure(Dice):
    """Says nothing of what it can do, and refuses tools when it is asked."""

    async def _chat(self, request):
        if request.needs or request.schema:
            raise BadRequestError("texts alone", provider="unsure", model=self.model_name)
        return LLMResponse("Hi!")


class Provider(BaseLLMProvider):
    def __init__(self, kind, name):
        self.id = name
        self.kind = kind

    def create_model(self, model_name, config):
        return self.kind(model_name, config)


class TestPromptsAlone(ProviderConformance):
    model_name = "gpt-4"
    upstream = "openai"

    def make_provider(self):
        return Provider(PromptsAlone, "openai")


class TestDice(ProviderConformance):
    deterministic = False

    def make_provider(self):
        return Provider(Dice, "dice")


class TestUnsure(ProviderConformance):
    deterministic = False

    def make_provider(self):
        return Provider(Unsure, "unsure")


def test_keys_are_not_looked_for_where_none_is_sent():
    with Upstream() as server:
        bench = Bench(Provider(Dice, "dice"), "m", {}, server, deterministic=False, patience=1)

        with pytest.raises(pytest.skip.Exception, match="it sends no key"):
            ProviderConformance().test_models_at_once_use_their_own_keys(bench)


class TestScripted(ProviderConformance):
    """The doubles of applications are as honest as the models that they stand in for."""

    def make_provider(self):
        return ScriptedProvider([str.upper] * 100)
