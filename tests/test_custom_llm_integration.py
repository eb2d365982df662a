"""The page on custom models is true: its code and TOML run as written, over real HTTP."""

import ast
import asyncio
import inspect
import re
from hashlib import sha256
from pathlib import Path

import pytest

from kor_containers import create_container
from kor_core.kernel import get_kernel, reset_kernel, use_kernel
from kor_core.testing.upstream import Upstream

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "custom-llm-integration.md"

# Of the blocks of the page that the project was asked to implement, to the letter.
ASKED_FOR = [
    ("python", "44da8d447c481e70"),
    ("toml", "963a4efab93523ba"),
    ("python", "bfd388a3342bbae7"),
    ("python", "af5af0dc6fae4818"),
    ("toml", "393717e253ef34e7"),
    ("python", "a74a7d07f6d86e3f"),
]


def blocks(page):
    found = re.findall(r"^```(python|toml)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [(language, code) for language, code in found]


PYTHON = [code for language, code in blocks(PAGE) if language == "python"]
TOML = [code for language, code in blocks(PAGE) if language == "toml"]
ASK, CUSTOM, PLUGIN, SELECT = PYTHON
LITELLM, MY_PROVIDER = TOML


async def run(code, namespace):
    """Run a block as the page shows it, ``await`` at its top level included."""
    compiled = compile(code, PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    pending = eval(compiled, namespace)
    if inspect.iscoroutine(pending):
        await pending
    return namespace


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def no_default():
    yield
    reset_kernel()


def test_the_blocks_are_those_of_the_page_that_was_asked_for():
    """If this fails, a formatter or an editor has been at the page: restore its blocks."""
    digests = [
        (language, sha256(code.encode()).hexdigest()[:16]) for language, code in blocks(PAGE)
    ]

    assert ASKED_FOR == digests


async def test_the_registry_answers_through_the_default_kernel(upstream, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-host")
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.openai_url)
    upstream.reply("Hello to you.")

    namespace = await run(ASK, {})

    request = upstream.requests[-1]
    assert "Hello to you." == namespace["response"]
    assert "Bearer sk-of-the-host" == request.headers["authorization"]
    assert "gpt-4" == request.json["model"]
    assert [{"role": "user", "content": "Hello!"}] == request.json["messages"]
    assert "temperature" not in request.json


async def test_litellm_serves_a_purpose_with_the_vendors_own_variable(upstream, monkeypatch):
    Path("config.toml").write_text(LITELLM)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-host")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", upstream.url)
    upstream.reply("def f(): ...")

    namespace = await run(SELECT, {"kernel": get_kernel()})
    answer = await namespace["coding_model"].agenerate("Write f.")

    request = upstream.requests[-1]
    assert "def f(): ..." == answer
    assert "/v1/messages" == request.path
    assert "sk-ant-of-the-host" == request.headers["x-api-key"]
    assert "claude-3-opus" == request.json["model"]


async def test_a_custom_provider_from_a_plugin_serves_the_default():
    Path("config.toml").write_text(MY_PROVIDER)
    namespace = await run(CUSTOM, {})
    await run(PLUGIN, namespace)

    with create_container(plugins=[namespace["MyPlugin"]()]).kernel() as kernel, use_kernel(kernel):
        model = get_kernel().registry.get_service("llm").get_model()

        assert "Echo: Hello!" == await model.agenerate("Hello!")
        assert "Echo: Hello!" == await asyncio.to_thread(model.generate, "Hello!")
        assert isinstance(model.inner, namespace["MyCustomModel"])
        assert "custom-v1" == model.inner.model_name


async def test_a_custom_provider_handed_in_or_registered_by_hand_serves_too():
    namespace = await run(CUSTOM, {})
    provider = namespace["MyCustomProvider"]

    with create_container({}, providers=[provider()]).kernel() as kernel:
        assert "Echo: 1" == await kernel.llm_registry.get_model("my-provider:m").agenerate("1")
    with create_container({}).kernel() as kernel:
        kernel.llm_registry.register(provider())
        assert "Echo: 2" == await kernel.llm_registry.get_model("my-provider/m").agenerate("2")
