"""Counts in a real Redis: exact over processes, loops and outages, with no secret shown."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from decimal import Decimal

import pytest

from kor_containers import create_kernel
from kor_core.adapters import state_redis
from kor_core.adapters.loops import PerLoop
from kor_core.adapters.state_redis import RedisState, redis_state
from kor_core.errors import BudgetExceededError, ConfigurationError, StateUnavailableError
from kor_core.llm.policies.bounds import Planned
from kor_core.llm.policies.limits import Meter
from kor_core.llm.policies.outages import StateFailure, StateRefusal
from kor_core.llm.policies.state import MOST, WHOLE, Charge, Full
from kor_core.settings import StateSettings, settings_from
from kor_core.testing import Upstream
from kor_core.testing.waiting import await_until, wait_until

PLANTED = "planted-password"
PROGRAM = shutil.which("redis-server")

needs_redis = pytest.mark.skipif(
    PROGRAM is None, reason="redis-server is not installed: apt-get install redis-server"
)


class Server:
    """A Redis of our own, on loopback, that keeps nothing on disk."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"redis://:{PLANTED}@127.0.0.1:{self.port}/0"

    def start(self):
        assert PROGRAM
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": self.folder,
            "requirepass": PLANTED,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.DEVNULL)
        wait_until(self.is_listening, 60, "redis-server")

    def is_listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def signal(self, number):
        os.kill(self.process.pid, number)

    def stop(self):
        self.process.send_signal(signal.SIGCONT)  # a stopped process ends when it goes on
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server():
    with tempfile.TemporaryDirectory(prefix="kor-redis-") as folder:
        server = Server(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def state(server):
    state = RedisState(server.url, prefix="kor", timeout=30)
    yield state
    await state.aclose()


def enduring(server, **settings):
    values = {"url": server.url, "timeout": 30.0, **settings}
    return redis_state(StateSettings.model_validate(values))


BUDGET = {"amount": 1, "per": "month"}
LIMITED = {"llm": {"budgets": {"team": BUDGET}}}


def planned(cost="0.01"):
    return Planned("openai", "gpt-4o", 10, Decimal(cost))


# --- as in memory ---


@needs_redis
async def test_all_charges_are_added_or_none(state):
    requests, tokens = Charge("requests", 1, 2, 60), Charge("tokens", 50, 60, 60)

    assert await state.take([requests, tokens]) is None
    assert Full(1, 50, 0) == await state.take([requests, tokens])
    assert [1, 50, 0] == await state.counts(["requests", "tokens", "others"])


@needs_redis
async def test_the_window_before_counts_by_its_share(state):
    await state.take([Charge("before", 101, None, 60)])
    sliding = Charge("now", 1, 51, 60, "before", WHOLE // 2)

    assert await state.take([sliding]) is None
    assert Full(0, 1, 101) == await state.take([sliding])


@needs_redis
async def test_giving_back_needs_no_room(state):
    await state.take([Charge("count", 9, 9, 60)])
    await state.take([Charge("count", 5, None, 60)])
    await state.take([Charge("count", -10, None, 60)])

    assert [4] == await state.counts(["count"])


@needs_redis
async def test_large_amounts_of_money_are_exact(state):
    """Nine million dollars in billionths, to the last one."""
    most = 9_000_000 * 10**9
    await state.take([Charge("money", most - 1, most, 60)])

    assert Full(0, most - 1, 0) == await state.take([Charge("money", 2, most, 60)])
    assert await state.take([Charge("money", 1, most, 60)]) is None


@needs_redis
async def test_a_count_stays_where_redis_can_add_to_it(state):
    """An answer that claims 10**22 tokens fills a count, and breaks none for all the others."""
    for amount in (MOST, 10**22, 10**400):
        await state.take([Charge("high", amount, None, 60), Charge("low", -amount, None, 60)])
    await state.take([Charge("high", -1, None, 60), Charge("low", 1, 1, 60)])

    assert [MOST - 1, 1] == await state.counts(["high", "low"])
    assert Full(0, MOST - 1, 0) == await state.take([Charge("high", 1, 9, 60)])


@needs_redis
@pytest.mark.parametrize("command", [("set", "kor:bad", "text"), ("rpush", "kor:bad", "item")])
async def test_what_is_no_count_is_a_refusal_that_changes_nothing(state, command):
    await state.take([Charge("good", 1, None, 60)])
    await (await state._here()).storage.bridge.storage.execute_command(*command)

    with pytest.raises(StateRefusal, match=r"NOCOUNT kor:bad|WRONGTYPE"):
        await state.take([Charge("good", 1, None, 60), Charge("bad", 1, None, 60)])
    assert [1] == await state.counts(["good"])


@needs_redis
@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_a_claim_beyond_all_counts_turns_no_limit_off(server, policy):
    limits = {"llm": {"budgets": {"team": {**BUDGET, "each": "tenant"}}}}
    state = enduring(server, on_failure=policy)
    meter = Meter(settings_from(limits), state)
    liar = await meter.reserve(planned())
    await liar.settle(tokens=10**22, cost=Decimal(10**12))
    await state.take([Charge("somebody's", 10**22, None, 60)])

    for _ in range(2):
        await (await meter.reserve(planned("0.5"))).settle(tokens=1, cost=Decimal("0.49"))
    with pytest.raises(BudgetExceededError):
        await meter.reserve(planned("0.5"))
    await state.aclose()


@needs_redis
async def test_keys_have_the_prefix_and_end_by_themselves(server, state):
    await state.take([Charge("count", 1, 9, 60)])
    await state.take([Charge("count", 1, 9, 600)])
    client = (await state._here()).storage.bridge.storage

    assert [b"kor:count"] == await client.keys("*")
    assert 0 < await client.ttl("kor:count") <= 60


# --- processes, threads, loops ---

SPENDER = """
import asyncio, json, sys
from decimal import Decimal
from kor_core.adapters.state_redis import redis_state
from kor_core.errors import BudgetExceededError
from kor_core.llm.policies.bounds import Planned
from kor_core.llm.policies.limits import Meter
from kor_core.settings import settings_from

async def one(meter, cost):
    reserved = await meter.reserve(
        Planned("openai", "gpt-4o", 10, Decimal("0.01"), tenant=cost)
    )
    await asyncio.sleep(0)
    await reserved.settle(tokens=10, cost=Decimal(cost))
    return Decimal(cost)

async def spent(meter, cost):
    total = Decimal(0)
    while True:
        calls = (one(meter, cost) for _ in range(4))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        total += sum(answer for answer in answers if isinstance(answer, Decimal))
        refused = [answer for answer in answers if not isinstance(answer, Decimal)]
        assert all(isinstance(error, BudgetExceededError) for error in refused), refused
        if refused:
            return str(total)

async def main(url, *costs):
    settings = settings_from({
        "llm": {"budgets": {"team": {"amount": 1, "per": "month", "each": "tenant"}}},
        "state": {"url": url, "timeout": 60, "on_failure": "closed"},
    })
    meter = Meter(settings, redis_state(settings.state))
    sys.stdin.readline()
    print(json.dumps([await spent(meter, cost) for cost in costs]))

asyncio.run(main(*sys.argv[1:]))
"""


@needs_redis
def test_eight_processes_spend_a_budget_and_no_more(server):
    """Each of 8 processes makes 4 calls at a time, of 1 US$, until one is refused.

    Calls take as much as was estimated, 0.01 US$; more; less.
    """
    command = [sys.executable, "-c", SPENDER, server.url, "0.01", "0.03", "0.002"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    spenders = [subprocess.Popen(command, **pipes) for _ in range(8)]
    for spender in spenders:
        spender.stdin.write("go\n")
        spender.stdin.flush()
    said = [json.loads(spender.communicate(timeout=110)[0]) for spender in spenders]
    exact, more, less = (sum(map(Decimal, each)) for each in zip(*said, strict=True))

    assert [0] * 8 == [spender.returncode for spender in spenders]
    assert Decimal(1) == exact
    # Each call that was on its way may overspend by what it took beyond its estimate.
    assert Decimal(1) <= more <= 1 + 8 * 4 * Decimal("0.02")
    # What was set aside by all at once is there again once they are settled.
    assert 1 - 8 * 4 * Decimal("0.01") <= less <= 1


@needs_redis
def test_one_object_serves_several_loops_in_turn_and_at_once(server):
    state = RedisState(server.url, prefix="kor", timeout=30)

    def several():
        for _ in range(3):
            asyncio.run(some())

    async def some():
        await asyncio.gather(*(state.take([Charge("count", 1, None, 600)]) for _ in range(20)))

    threads = [threading.Thread(target=several) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [180] == asyncio.run(state.counts(["count"]))
    assert 0 == len(state._opened)


@needs_redis
async def test_closing_without_waiting_lets_go_of_the_connections(server, state):
    other = enduring(server)
    await other.take([Charge("count", 1, None, 60)])
    client = (await state._here()).storage.bridge.storage
    assert 2 == len(await client.client_list())
    other.close()

    await await_until(lambda: not len(other._remote._opened), 60, "the loop's next turn")
    for _ in range(1000):
        left = await client.client_list()
        if len(left) == 1:
            break
        await asyncio.sleep(0.02)
    assert 1 == len(left)


@needs_redis
async def test_more_calls_than_connections_wait_for_their_turn(state):
    await asyncio.gather(*(state.take([Charge("count", 1, None, 60)]) for _ in range(200)))

    assert [200] == await state.counts(["count"])


@needs_redis
def test_two_kernels_on_one_redis_share_a_budget(server):
    with Upstream() as upstream:
        settings = {
            "llm": {
                "default": {"model": "openai:gpt-4o", "max_tokens": 10},
                "providers": {"openai": {"base_url": upstream.openai_url}},
                "models": {"gpt-4o": {"input_price": 0, "output_price": 100_000}},
                "budgets": {"team": {"amount": 1, "per": "month"}},
            },
            "state": {"url": server.url, "timeout": 30, "on_failure": "closed"},
        }
        with create_kernel(settings) as one, create_kernel(settings) as other:
            one.model_selector.get_model().chat("Hello!")
            with pytest.raises(BudgetExceededError, match=r"US\$ 0.9 left"):
                other.model_selector.get_model().chat("Hello!")


# --- outages ---


@needs_redis
async def test_redis_is_killed_and_comes_back_empty(server):
    state = enduring(server, on_failure="open")
    meter = Meter(settings_from(LIMITED), state)
    await (await meter.reserve(planned())).settle(tokens=1, cost=Decimal("0.5"))
    server.stop()
    reserved = await meter.reserve(planned("0.9"))  # more than is left, as nobody knows now
    await reserved.settle(tokens=1, cost=Decimal("0.7"))
    server.start()
    state._ask_again = 0.0

    await meter.reserve(planned("0.3"))
    with pytest.raises(BudgetExceededError, match=r"has US\$ 0 left"):
        await meter.reserve(planned("0.01"))
    await state.aclose()


@needs_redis
async def test_closed_a_killed_redis_lets_no_call_through_until_it_is_back(server):
    state = enduring(server, on_failure="closed")
    meter = Meter(settings_from(LIMITED), state)
    await meter.reserve(planned())
    server.stop()
    with pytest.raises(StateUnavailableError, match="ConnectionError"):
        await meter.reserve(planned())
    server.start()
    state._ask_again = 0.0

    await meter.reserve(planned())
    await state.aclose()


@needs_redis
async def test_a_redis_that_hangs_holds_no_call_and_goes_on_by_itself(server, caplog):
    state = enduring(server, on_failure="open", timeout=0.2)
    meter = Meter(settings_from(LIMITED), state)
    await await_until_counted(meter, state)
    server.signal(signal.SIGSTOP)
    async with asyncio.timeout(60):
        for _ in range(50):
            await meter.reserve(planned("0"))
    server.signal(signal.SIGCONT)
    await await_until_counted(meter, state)

    said = [record.getMessage() for record in caplog.records]
    assert any("no answer within 0.2 s ([state] timeout)" in line for line in said)
    assert "answers again" in said[-1]
    assert PLANTED not in caplog.text
    await state.aclose()


async def await_until_counted(meter, state):
    """Make calls until Redis counts them: a slow machine may take it for away at first."""
    for _ in range(200):
        state._ask_again = 0.0
        await meter.reserve(planned("0"))
        if state._down_since is None:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("Redis did not come back.")


@needs_redis
async def test_a_caller_that_leaves_breaks_no_connection_for_others(server, state):
    await state.take([Charge("count", 1, None, 60)])
    server.signal(signal.SIGSTOP)
    tasks = [asyncio.create_task(state.take([Charge("left", 1, None, 60)])) for _ in range(5)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.signal(signal.SIGCONT)

    for number in range(2, 12):
        await state.take([Charge("count", 1, None, 60)])
        assert [number] == await state.counts(["count"])


# --- secrets ---


@needs_redis
async def test_a_wrong_password_is_said_and_not_shown(server):
    url = f"redis://:{PLANTED}-wrong@127.0.0.1:{server.port}/0"
    state = RedisState(url, prefix="kor", timeout=30)
    with pytest.raises(StateFailure) as caught:
        await state.take([Charge("count", 1, None, 60)])

    assert "AuthenticationError" in str(caught.value)
    assert PLANTED not in shown(caught.value)
    await state.aclose()


@pytest.mark.parametrize("query", ["", "?nonsense=1", "?socket_timeout=x"])
async def test_no_failure_shows_the_address_with_its_password(query):
    url = f"redis://:{PLANTED}@127.0.0.1:{free_port()}/0{query}"
    state = RedisState(url, prefix="kor", timeout=30)
    with pytest.raises(StateFailure) as caught:
        await state.counts(["count"])

    assert PLANTED not in shown(caught.value)
    assert PLANTED not in repr(state)
    assert "redis://**********@127.0.0.1" in repr(state)
    await state.aclose()


async def test_settings_and_errors_show_no_password():
    settings = StateSettings(url=f"redis://:{PLANTED}@127.0.0.1:{free_port()}/0", timeout=30)
    state = redis_state(settings.model_copy(update={"on_failure": "closed"}))
    with pytest.raises(StateUnavailableError) as caught:
        await state.take([Charge("count", 1, 9, 60)])

    assert PLANTED not in f"{settings!r} {settings.model_dump_json()} {state!r}"
    assert PLANTED not in shown(caught.value)
    await state.aclose()


def shown(error):
    """Return all that a traceback with locals shows of KOR's frames."""
    summary = traceback.TracebackException.from_exception(error, capture_locals=True)
    summary.stack[:] = [frame for frame in summary.stack if frame.filename != __file__]
    return "".join(summary.format())


# --- what is not installed, and when ---


def test_what_is_missing_is_said_when_the_state_is_made(monkeypatch):
    monkeypatch.setattr(state_redis, "find_spec", lambda _name: None)

    with pytest.raises(
        ConfigurationError, match=r"limits and redis: pip install 'kor-sdk\[redis\]"
    ):
        redis_state(StateSettings(url="redis://localhost"))


def test_the_vendors_are_imported_on_first_use():
    code = (
        "import sys; from kor_core.adapters import state_memory, state_redis as s;"
        "from kor_core.settings import StateSettings as S;"
        "s.redis_state(S(url='redis://localhost'));"
        "print(sorted({'limits', 'redis'} & sys.modules.keys()))"
    )

    assert (
        "[]\n"
        == subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )


# --- one for each loop ---


class Held:
    def __init__(self):
        self.ended = 0

    async def end(self):
        await asyncio.sleep(0)
        self.ended += 1


def test_what_a_loop_holds_ends_with_it():
    held = PerLoop(Held, Held.end)
    first = asyncio.run(held.current())
    second = asyncio.run(held.current())

    assert first is not second
    assert (1, 1, 0) == (first.ended, second.ended, len(held))


async def test_closing_ends_that_of_this_loop_here_and_the_others_in_theirs():
    held = PerLoop(Held, Held.end)
    mine = await held.current()
    other, leave = await elsewhere(held)

    await held.aclose()

    assert 1 == mine.ended
    await await_until(lambda: other.ended == 1, 60, "the other loop")
    leave()


async def test_closing_without_waiting_ends_each_in_its_loop():
    held = PerLoop(Held, Held.end)
    mine = await held.current()
    held.close()

    await await_until(lambda: mine.ended == 1, 60, "the loop's next turn")
    assert 0 == len(held)


def test_loops_that_were_closed_without_ceremony_are_let_go():
    held = PerLoop(Held, Held.end)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(held.current())
    loop.close()
    held.close()
    assert 1 == len(held)

    asyncio.run(held.current())

    assert 0 == len(held)


async def elsewhere(held):
    """Hold one in the loop of another thread, until ``leave`` is called."""
    found, leave = [], threading.Event()

    async def hold():
        found.append(await held.current())
        await asyncio.to_thread(leave.wait)

    thread = threading.Thread(target=asyncio.run, args=(hold(),))
    thread.start()
    await await_until(lambda: bool(found), 60, "the other thread")
    return found[0], lambda: (leave.set(), thread.join())
