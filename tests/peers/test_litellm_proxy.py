"""The OpenAI side of KOR against a server that nobody here wrote: the proxy of LiteLLM.

The models of its configuration are mocked by the proxy itself, or served by our upstream behind it,
so that nothing leaves the machine. Run by `tox -e peers`, and by the suite where it is installed.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pydantic import BaseModel

from kor_containers import create_kernel
from kor_core.errors import (
    AuthenticationError,
    BadRequestError,
    ContextWindowExceededError,
    LLMError,
    MissingCredentialsError,
    ProviderError,
    RateLimitError,
)
from kor_core.kernel import Kernel
from kor_core.testing.faults import Cut
from kor_core.testing.upstream import Upstream

pytestmark = [
    pytest.mark.skipif(
        find_spec("litellm_proxy_extras") is None,
        reason="the proxy is not installed: pip install 'litellm[proxy]', or tox -e peers",
    ),
    pytest.mark.timeout(300),  # it takes half a minute to start on a slow machine
]

KEY = "sk-of-the-fleet"
SAID = "Hello from the gateway, in several words."

COMMAND = [
    *(sys.executable, "-c", "import litellm; litellm.run_server()", "--config", "config.yaml"),
    *("--host", "127.0.0.1", "--telemetry", "False"),
]

# Without a database the proxy knows no key but its own, and says of another that it has no
# database. This is the hook that it offers to those who keep keys themselves.
GATE = f"""
from litellm.proxy._types import ProxyException, UserAPIKeyAuth


async def check(request, api_key: str) -> UserAPIKeyAuth:
    if api_key != "{KEY}":
        raise ProxyException("Authentication Error, invalid key", "auth_error", "key", 401)
    return UserAPIKeyAuth(api_key=api_key)
"""


def configuration(behind: Upstream) -> dict[str, Any]:
    """What the proxy is configured with; JSON is YAML."""

    def model(name: str, **litellm: Any) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": "openai/gpt-4o"} | litellm}

    call = {"name": "weather", "arguments": '{"city": "Paris"}'}
    served = {"api_base": behind.openai_url, "api_key": "sk-of-the-vendor"}
    return {
        "model_list": [
            model("plain", mock_response=SAID),
            model("schema", mock_response='{"city": "Paris", "degrees": 21}'),
            model("tools", mock_tool_calls=[{"id": "c1", "type": "function", "function": call}]),
            model("limited", mock_response="litellm.RateLimitError"),
            model("broken", mock_response="litellm.InternalServerError"),
            model("window", mock_response="litellm.ContextWindowExceededError"),
            model("served", **served),
            model("vectors", **served | {"model": "openai/text-embedding-3-small"}),
        ],
        "general_settings": {"master_key": KEY, "custom_auth": "gate.check"},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    """The upstream that the proxy sends on to."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(behind: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running proxy."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "config.yaml").write_text(json.dumps(configuration(behind)))
    (folder / "gate.py").write_text(GATE)
    port = free_port()
    log = folder / "log.txt"
    with log.open("w") as writing:
        process = subprocess.Popen(
            [*COMMAND, "--port", str(port)],
            cwd=folder,
            env=environment(folder),
            stdout=writing,
            stderr=subprocess.STDOUT,
        )
        try:
            await_answer(f"http://127.0.0.1:{port}/health/liveliness", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def environment(home: Path) -> dict[str, str]:
    """That of this process, without keys and proxies."""
    foreign = re.compile(r"_API_KEY$|_PROXY$|^(OPENAI|LITELLM|DATABASE)_", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not foreign.search(name)}
    # Otherwise it asks the internet for the latest prices.
    return kept | {"HOME": str(home), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < until:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"The proxy did not start:\n{log.read_text()[-4000:]}")


@pytest.fixture
def kernel(gateway: str) -> Iterator[Kernel]:
    openai = {"base_url": f"{gateway}/v1", "api_key": KEY}
    llm = {
        "providers": {"openai": openai, "litellm": openai},
        "policies": {"retries": 0},
        "purposes": {
            "fleet": {"model": "openai:broken", "fallbacks": ["openai:limited", "openai:plain"]},
            "misspelt": {"model": "openai:plian", "fallbacks": ["openai:plain"]},
        },
    }
    with create_kernel({"llm": llm}) as kernel:
        yield kernel


async def test_a_chat_brings_text_usage_and_what_it_is_known_by(kernel):
    response = await kernel.llm_registry.get_model("openai:plain").achat("Hello!")

    assert SAID == response.text
    assert (10, 20) == (response.usage.input_tokens, response.usage.output_tokens)
    assert ("plain", "stop") == (response.model_id, response.finish_reason)
    assert frozenset() == response.emulated


async def test_the_floor_and_the_sync_twin_answer_too(kernel):
    model = kernel.llm_registry.get_model("openai:plain")

    assert SAID == await model.agenerate("Hello!") == model.generate("Hello!")


async def test_a_stream_brings_its_deltas_and_the_usage_at_its_end(kernel):
    async with kernel.llm_registry.get_model("openai:plain").astream("Hello!") as stream:
        pieces = [delta.text async for delta in stream]

    assert SAID == "".join(pieces) == stream.response.text
    assert len(pieces) > 3
    assert stream.response.usage.output_tokens
    assert "stop" == stream.response.finish_reason


async def test_a_stream_that_is_left_early_hurts_nobody(kernel):
    model = kernel.llm_registry.get_model("openai:plain")
    async with model.astream("Hello!") as stream:
        first = await anext(stream)

    assert SAID.startswith(first.text)
    assert SAID == await model.agenerate("again")


async def test_a_call_of_a_tool_comes_with_its_arguments(kernel):
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    model = kernel.llm_registry.get_model("openai:tools")
    response = await model.achat("How is Paris?", tools=[weather])
    call = response.tool_calls[0]

    assert ("c1", "weather", {"city": "Paris"}) == (call.id, call.name, dict(call.arguments))


class Weather(BaseModel):
    city: str
    degrees: int


async def test_an_answer_is_parsed_into_a_schema(kernel):
    model = kernel.llm_registry.get_model("openai:schema")

    assert Weather(city="Paris", degrees=21) == await model.aparse("How is Paris?", Weather)


async def test_embeddings_keep_their_order_through_the_proxy(kernel, behind):
    behind.embed([1.0, 0.0], [0.0, 1.0])
    found = await kernel.llm_registry.get_model("openai:vectors").aembed(["one", "two"])

    assert [(1.0, 0.0), (0.0, 1.0)] == [tuple(vector) for vector in found.vectors]
    assert found.usage.input_tokens


async def test_what_kor_sends_reaches_the_vendor_behind_the_proxy(kernel, behind):
    behind.reply("Hi!")
    settings = {"temperature": 0.5, "max_tokens": 7, "seed": 3, "stop": ["END"]}
    response = await kernel.llm_registry.get_model("openai:served").achat(
        "Hello!", settings=settings
    )
    request = behind.requests[-1]

    assert "Hi!" == response.text
    assert ("sk-of-the-vendor", "gpt-4o") == (request.key, request.model)
    assert settings == {name: request.json[name] for name in settings}


@pytest.mark.parametrize(
    ("model", "expected", "status"),
    [
        ("limited", RateLimitError, 429),
        ("broken", ProviderError, 500),
        ("window", ContextWindowExceededError, 400),
        ("nobody-knows-it", BadRequestError, 400),
    ],
)
async def test_each_failure_of_the_proxy_is_an_error_of_its_class(kernel, model, expected, status):
    with pytest.raises(expected) as chat:
        await kernel.llm_registry.get_model(f"openai:{model}").achat("Hello!")
    with pytest.raises(expected) as streamed:
        async with kernel.llm_registry.get_model(f"openai:{model}").astream("Hello!") as stream:
            await anext(stream)

    assert (status, status) == (chat.value.status, streamed.value.status)
    assert KEY not in f"{chat.value!r}{streamed.value!r}"


async def test_a_wrong_key_is_an_authentication_error_that_does_not_show_it(gateway):
    openai = {"base_url": f"{gateway}/v1", "api_key": "sk-of-somebody-else"}
    with create_kernel({"llm": {"providers": {"openai": openai}}}) as kernel:
        with pytest.raises(AuthenticationError) as caught:
            await kernel.llm_registry.get_model("openai:plain").achat("Hello!")

        assert 401 == caught.value.status
        assert "sk-of-somebody-else" not in str(caught.value)


async def test_without_a_key_it_is_asked_without_one_and_refuses(gateway):
    openai = {"base_url": f"{gateway}/v1"}
    with (
        create_kernel({"llm": {"providers": {"openai": openai}}}) as kernel,
        pytest.raises((AuthenticationError, MissingCredentialsError)),
    ):
        await kernel.llm_registry.get_model("openai:plain").achat("Hello!")


async def test_a_vendor_that_breaks_off_behind_the_proxy_ends_in_a_typed_error(kernel, behind):
    behind.play(Cut(after_deltas=2), "one two three four five")

    async def read() -> None:
        async with kernel.llm_registry.get_model("openai:served").astream("Hello!") as stream:
            async for _ in stream:
                pass

    with pytest.raises(LLMError):
        await read()


async def test_no_fallback_is_asked_after_a_name_that_the_proxy_does_not_know(kernel):
    with pytest.raises(BadRequestError) as caught:
        await kernel.model_selector.get_model("misspelt").achat("Hello!")

    assert ["openai:plian"] == [each.model for each in caught.value.attempts]


async def test_fallbacks_go_on_from_one_model_of_the_gateway_to_the_next(kernel):
    response = await kernel.model_selector.get_model("fleet").achat("Hello!")
    record = [(each.model, each.status) for each in response.attempts]

    assert SAID == response.text
    assert ["openai:broken", "openai:limited", "openai:plain"] == [model for model, _ in record]
    assert [500, 429] == [status for _, status in record[:2]]
