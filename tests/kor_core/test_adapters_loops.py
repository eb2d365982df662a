"""One model object, any loop and any thread; nothing is left behind."""

import asyncio
import gc
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from kor_core import errors
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.llm.base import BaseLLMModel
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.waiting import await_until, wait_until

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)


@pytest.fixture(
    params=[
        pytest.param(OpenAIProvider, id="openai"),
        pytest.param(LiteLLMProvider, id="litellm", marks=needs_litellm),
    ]
)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def transport() -> Transport:
    return Transport(NetworkSettings())


@pytest.fixture
def model(provider: Any, transport: Transport, upstream: Upstream) -> BaseLLMModel:
    if provider is OpenAIProvider:
        return model_of(upstream, transport)
    config = {"api_key": "sk-planted", "base_url": upstream.url}
    return provider(transport).create_model("claude-3-opus", config)


def model_of(upstream: Upstream, transport: Transport) -> BaseLLMModel:
    config = {"api_key": "sk-planted", "base_url": upstream.openai_url}
    return OpenAIProvider(transport).create_model("gpt-4", config)


def sockets() -> int:
    """How many sockets this process holds."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("file descriptors are counted on Linux")
    names = []
    for entry in folder.iterdir():
        try:
            names.append(str(entry.readlink()))
        except OSError:  # the descriptor of this very listing
            continue
    return sum(name.startswith("socket:") for name in names)


def test_the_same_model_answers_in_one_event_loop_after_another(model: BaseLLMModel) -> None:
    answers = [asyncio.run(model.agenerate(str(number))) for number in range(4)]

    assert ["0", "1", "2", "3"] == answers


def test_the_same_model_answers_in_many_threads_each_with_its_loop(model: BaseLLMModel) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: asyncio.run(model.agenerate(str(n))), range(24)))

    assert [str(number) for number in range(24)] == answers


def test_the_sync_twin_answers_in_a_script_and_in_a_pool_of_threads(model: BaseLLMModel) -> None:
    first = model.generate("script")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(model.generate, map(str, range(16))))

    assert "script" == first
    assert [str(number) for number in range(16)] == answers


async def test_the_sync_twin_answers_inside_a_running_loop(model: BaseLLMModel) -> None:
    assert "inside" == model.generate("inside")
    assert "beside" == await model.agenerate("beside")


def test_the_same_model_answers_under_anyio(model: BaseLLMModel) -> None:
    async def main() -> list[str]:
        answers: list[str] = []

        async def ask(prompt: str) -> None:
            answers.append(await model.agenerate(prompt))

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "one")
            group.start_soon(ask, "two")
        return sorted(answers)

    assert ["one", "two"] == anyio.run(main)


def test_many_calls_at_once_each_get_their_own_answer(model: BaseLLMModel) -> None:
    async def main() -> list[str]:
        return await asyncio.gather(*(model.agenerate(str(number)) for number in range(50)))

    assert [str(number) for number in range(50)] == asyncio.run(main())


UNWAITED = """
import asyncio, gc, ssl, sys, threading
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.settings import NetworkSettings

url, bundle, close_in = sys.argv[1:]

async def main():
    transport = Transport(NetworkSettings(ca_bundle=bundle or None))
    model = OpenAIProvider(transport).create_model("gpt-4", {"base_url": url})
    await asyncio.gather(*(model.agenerate("Hello!") for _ in range(3)))
    if close_in == "thread":
        thread = threading.Thread(target=transport.close)
        thread.start()
        thread.join()
    else:
        transport.close()

for _ in range(5):
    asyncio.run(main())
    gc.collect()
"""


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("close_in", ["loop", "thread"])
def test_closing_without_waiting_leaves_no_socket_where_the_loop_ends_at_once(
    tmp_path: Path,
    close_in: str,
    secure: bool,  # noqa: FBT001  # a parameter of the table  # a parameter
) -> None:
    bundle, context = "", None
    if secure:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        bundle = str(tmp_path / "ca.pem")
    with Upstream(ssl_context=context) as upstream:
        run = subprocess.run(
            [
                *(sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", UNWAITED),
                *(upstream.openai_url, bundle, close_in),
            ],
            check=False,
            capture_output=True,
            text=True,
        )

    assert 0 == run.returncode
    assert "ResourceWarning" not in run.stderr
    assert "never awaited" not in run.stderr
    assert "destroyed" not in run.stderr


def test_loops_that_ended_leave_no_socket_and_no_thread(
    model: BaseLLMModel, upstream: Upstream
) -> None:
    asyncio.run(model.agenerate("warm up"))
    gc.collect()
    before = sockets(), threading.active_count()

    for number in range(10):
        asyncio.run(model.agenerate(str(number)))
    gc.collect()
    # The server's ends of the connections close a moment after ours.
    wait_until(lambda: not upstream.open_connections, 10, "connections to close")
    after = sockets(), threading.active_count()

    assert before[0] >= after[0]
    assert before[1] >= after[1]


def test_loops_that_ended_are_not_remembered(upstream: Upstream, transport: Transport) -> None:
    model = model_of(upstream, transport)

    for number in range(3):
        asyncio.run(model.agenerate(str(number)))

    assert 1 == len(transport._wires[False].sessions)


def test_a_loop_closed_without_farewell_keeps_nothing_alive(upstream: Upstream) -> None:
    """asyncio itself warns of its open connections, in development mode; KOR adds nothing."""
    script = f"""
import asyncio, gc
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.settings import NetworkSettings
transport = Transport(NetworkSettings())
config = {{"api_key": "sk-planted", "base_url": "{upstream.openai_url}"}}
model = OpenAIProvider(transport).create_model("gpt-4", config)
for _ in range(3):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(model.agenerate("Hello!"))
    loop.close()
asyncio.run(model.agenerate("after"))
del loop
gc.collect(), gc.collect()
alive = [o for o in gc.get_objects() if isinstance(o, asyncio.BaseEventLoop)]
print(len(transport._wires[False].sessions), len(alive))
"""
    assert ("1 1\n", "") == output_of(script)
    wait_until(lambda: not upstream.open_connections, 10, "connections to close")


@pytest.mark.parametrize("sync", [True, False])
def test_a_closed_transport_closes_its_connections_and_refuses_calls(
    sync: bool,  # noqa: FBT001  # a parameter of the table
    upstream: Upstream,
    transport: Transport,
) -> None:
    model = model_of(upstream, transport)

    async def main() -> None:
        await model.agenerate("Hello!")
        if sync:
            transport.close()
        else:
            await transport.aclose()
        await await_until(lambda: not upstream.open_connections, 10, "connections to close")
        with pytest.raises(errors.KernelError, match="closed"):
            await model.agenerate("again")

    asyncio.run(main())


def test_closing_from_another_loop_closes_the_connections_of_a_running_one(
    upstream: Upstream, transport: Transport
) -> None:
    model = model_of(upstream, transport)

    async def main() -> None:
        await model.agenerate("Hello!")
        await asyncio.to_thread(asyncio.run, transport.aclose())
        await await_until(lambda: not upstream.open_connections, 10, "connections to close")

    asyncio.run(main())


def test_a_transport_that_is_dropped_lets_its_connections_go(upstream: Upstream) -> None:
    async def main() -> None:
        model = model_of(upstream, Transport(NetworkSettings()))
        await model.agenerate("Hello!")
        del model
        await await_until(
            lambda: not gc.collect() and not upstream.open_connections, 10, "connections to close"
        )

    asyncio.run(main())


def test_closing_before_the_first_call_is_nothing(transport: Transport) -> None:
    transport.close()
    asyncio.run(transport.aclose())


async def test_cancelling_a_call_closes_its_request(
    model: BaseLLMModel, upstream: Upstream
) -> None:
    await model.agenerate("warm up")  # imports the SDK
    upstream.play(faults.Hang())
    call = asyncio.create_task(model.agenerate("Hello!"))
    _, request = await upstream.await_requests(2)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await await_until(lambda: request.disconnected, 10, "the server to see it")

    assert "still there" == await model.agenerate("still there")


EXITS = {
    "asyncio.run": "asyncio.run(model.agenerate('Hello!'))",
    "sync": "model.generate('Hello!')",
    "open loop": "loop.run_until_complete(model.agenerate('Hello!'))",
    "thread": (
        "threading.Thread(target=loop.run_forever, daemon=True).start()\n"
        "asyncio.run_coroutine_threadsafe(model.agenerate('Hello!'), loop).result()"
    ),
    "closed": "asyncio.run(model.agenerate('Hello!'))\ntransport.close()",
}


@pytest.mark.parametrize("way", EXITS)
def test_the_interpreter_exits_cleanly_whether_or_not_anyone_closed(
    way: str, upstream: Upstream
) -> None:
    script = f"""
import asyncio, threading
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.settings import NetworkSettings
transport = Transport(NetworkSettings())
config = {{"api_key": "sk-planted", "base_url": "{upstream.openai_url}"}}
model = OpenAIProvider(transport).create_model("gpt-4", config)
loop = asyncio.new_event_loop()
{EXITS[way]}
"""
    assert ("", "") == output_of(script)
    assert 1 == len(upstream.requests)


def output_of(script: str) -> tuple[str, str]:
    """What a process of its own prints to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    return done.stdout, done.stderr


async def test_connections_that_were_let_go_of_are_let_go_of_once(
    transport: Transport, upstream: Upstream
) -> None:
    await model_of(upstream, transport).agenerate("Hello!")
    session = await transport._wires[False].sessions.current()
    session.abandon()
    session.abandon()
    await asyncio.sleep(0)

    assert session.ended or session.client.closed
