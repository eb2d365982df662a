"""Never more at once than the limit, in turn between tenants, and no place is ever lost."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from threading import Lock, Thread
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kor_core.llm.policies.concurrency import Concurrency, Gate, _Waiter


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def queue(gate: Gate, order: str) -> tuple[list[str], list[asyncio.Task[None]]]:
    """Let calls of these tenants wait, and return the list of those that were served."""
    served: list[str] = []

    async def call(tenant: str) -> None:
        await gate.wait(tenant)
        served.append(tenant)

    tasks = [asyncio.create_task(call(tenant)) for tenant in order]
    await settled()
    return served, tasks


def taken(limit: int) -> Gate:
    gate = Gate(limit)
    assert all(gate.enter() for _ in range(limit))
    return gate


# --- one gate -------------------------------------------------------------------------------


def test_as_many_enter_as_there_are_places():
    gate = Gate(2)

    assert [True, True, False] == [gate.enter() for _ in range(3)]
    gate.leave()
    assert gate.enter()


async def test_tenants_are_served_in_turn_and_the_calls_of_one_in_order():
    gate = taken(1)
    served, _ = await queue(gate, "aaaabcb")

    for _ in range(7):
        gate.leave()
        await settled()

    assert "abcabaa" == "".join(served)


async def test_who_comes_waits_behind_those_who_wait():
    gate = taken(1)
    served, tasks = await queue(gate, "a")

    gate._free.append(0)  # a place that became free this instant, and is not handed on yet

    assert not gate.enter()
    gate._serve()
    await asyncio.gather(*tasks)
    assert ["a"] == served


async def test_a_place_that_becomes_free_while_a_call_queues_is_taken():
    gate = Gate(1)

    await gate.wait()

    assert (0, 0) == (gate.free, gate.waiting)


async def test_a_call_that_gives_up_while_it_waits_leaves_the_queue():
    gate = taken(1)
    served, tasks = await queue(gate, "abc")

    tasks[1].cancel()
    await settled()
    waiting = gate.waiting
    gate.leave()
    gate.leave()
    await settled()

    assert 2 == waiting
    assert "ac" == "".join(served)
    assert (0, 0) == (gate.free, gate.waiting)


async def test_a_call_that_gives_up_when_it_is_served_hands_its_place_on():
    gate = taken(1)
    served, tasks = await queue(gate, "ab")

    gate.leave()  # a is served, and did not run yet
    tasks[0].cancel()
    await settled()

    assert ["b"] == served
    assert tasks[0].cancelled()


async def test_a_call_that_gives_up_between_being_served_and_running_hands_its_place_on():
    gate = taken(1)
    served, tasks = await queue(gate, "ab")

    gate.leave()
    await asyncio.sleep(0)  # its future has its result now
    tasks[0].cancel()
    await settled()

    assert 1 == len(served) - served.count("a")
    assert (0, 0) == (gate.free, gate.waiting)


async def test_a_deadline_ends_the_wait():
    gate = taken(1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await gate.wait()

    gate.leave()
    assert (1, 0) == (gate.free, gate.waiting)


async def test_a_tenant_whose_calls_gave_up_does_not_lose_its_turn():
    gate = taken(1)
    served, tasks = await queue(gate, "aaabb")
    for task in tasks[:2]:
        task.cancel()
    await settled()

    for _ in range(3):
        gate.leave()
        await settled()

    assert "abb" == "".join(served)


async def test_those_who_gave_up_do_not_fill_the_memory():
    gate = taken(1)
    staying, _ = await queue(gate, "s")

    for _ in range(50):
        _, tasks = await queue(gate, "abcdefgh")
        for task in tasks:
            task.cancel()
        await settled()

    assert sum(map(len, gate._queues.values())) <= 40
    assert 1 == gate.waiting
    gate.leave()
    await settled()
    assert ["s"] == staying


async def test_a_call_behind_those_who_gave_up_is_served():
    gate = taken(1)
    _, tasks = await queue(gate, "ab")
    for task in tasks:
        task.cancel()
    await settled()

    gate.leave()

    assert gate.enter()


# --- several loops --------------------------------------------------------------------------


def in_threads(number: int, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    threads = [Thread(target=lambda: asyncio.run(main())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


class Crowd:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.inside = self.most = self.served = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1
            self.served += 1


def test_several_loops_share_the_places():
    concurrency, crowd = Concurrency({"openai": 3}), Crowd()

    async def call(number: int) -> None:
        async with concurrency.place(["openai"], f"tenant {number % 4}"):
            with crowd:
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(call(number) for number in range(200)))

    in_threads(4, main)

    gate = concurrency.gates["openai"]
    assert (800, 0, 3, 0) == (crowd.served, crowd.inside, gate.free, gate.waiting)
    assert 3 >= crowd.most


def test_no_place_is_lost_when_calls_of_several_loops_give_up():
    concurrency, crowd = Concurrency({"openai": 2}), Crowd()

    async def call() -> None:
        async with concurrency.place(["openai"]):
            with crowd:
                await asyncio.sleep(0.0002)

    async def main() -> None:
        for _ in range(10):
            tasks = [asyncio.create_task(call()) for _ in range(20)]
            await asyncio.sleep(0.0005)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    in_threads(3, main)

    gate = concurrency.gates["openai"]
    assert (2, 0) == (gate.free, gate.waiting)
    assert 2 >= crowd.most


def waiting_in(loop: asyncio.AbstractEventLoop, gate: Gate) -> asyncio.Task[None]:
    """Let a call wait in a loop that will be closed over it, which asyncio would complain of."""
    loop.set_exception_handler(lambda _loop, _context: None)
    task = loop.create_task(gate.wait("a"))
    loop.run_until_complete(settled())
    return task


def test_a_loop_that_is_closed_takes_no_place_along():
    gate, dead = taken(1), asyncio.new_event_loop()
    task = waiting_in(dead, gate)

    dead.close()
    gate.leave()
    free = gate.free
    del task
    gc.collect()

    assert 1 == free
    assert 1 == gate.free


def test_a_loop_that_is_closed_after_it_was_served_takes_no_place_along():
    gate, dead = taken(1), asyncio.new_event_loop()
    task = waiting_in(dead, gate)

    gate.leave()  # it will never learn of it
    dead.close()
    free = gate.free
    del task
    gc.collect()

    assert 0 == free
    assert 1 == gate.free


def test_a_place_given_back_while_another_thread_hands_places_on_is_handed_on_too():
    """Giving back takes no lock: the collector may do it in the middle of a queue's change."""
    gate = taken(2)

    with gate._lock:
        gate.leave()  # would wait for ever
    gate._serve()

    assert 1 == gate.free


async def test_who_hands_places_on_finds_what_came_back_meanwhile():
    class Meanwhile(Gate):
        """Gets a place back while the lock is held."""

        __slots__ = ()

        def _hand_on(self) -> None:
            super()._hand_on()
            if not served:
                served.append("…")
                self.leave()

    served: list[str] = []
    gate = Meanwhile(2)
    assert gate.enter()
    assert gate.enter()
    after, tasks = await queue(gate, "ab")

    gate.leave()
    await asyncio.gather(*tasks)

    assert ["a", "b"] == after


def test_a_call_thrown_away_while_it_is_served_gives_its_place_back_once():
    """Of the two who find out, the server and the collector, one returns the place."""
    loop = asyncio.new_event_loop()

    async def waiter() -> _Waiter:
        return _Waiter()

    first, second = (loop.run_until_complete(waiter()) for _ in range(2))
    loop.close()

    assert (False, False) == (first.serve(), first.give_up())

    second._loop = Meddling(second)
    assert second.serve()
    assert [True] == second._loop.given_back


class Meddling:
    """A loop that is closed, and whose call is collected just as it is served."""

    def __init__(self, waiter: _Waiter) -> None:
        self.waiter = waiter
        self.given_back: list[bool] = []

    def call_soon_threadsafe(self, _callback: object) -> None:
        self.given_back.append(self.waiter.give_up())
        raise RuntimeError


# --- several gates --------------------------------------------------------------------------


async def test_an_account_has_gates_of_its_own_that_go_when_nobody_is_there():
    concurrency = Concurrency({"openai": 1})

    async with concurrency.place(["openai:m", "openai"], "acme", "acme"):
        second = asyncio.create_task(concurrency.place(["openai"], "acme", "acme").__aenter__())
        await settled()
        async with concurrency.place(["openai"], "globex"), concurrency.place(["openai"], "x", "x"):
            assert not second.done()  # the same account has the same limit

    await second
    del second
    gc.collect()
    assert {} == dict(concurrency._of_accounts)
    assert 1 == concurrency.gates["openai"].free


async def test_names_without_a_limit_cost_nothing():
    concurrency = Concurrency({})

    async with concurrency.place(["openai:m", "openai"]):
        pass

    assert {} == concurrency.gates


async def test_a_call_holds_a_place_at_each_gate_and_gives_all_back():
    concurrency = Concurrency({"openai:m": 2, "openai": 3})

    async with concurrency.place(["openai:m", "openai"]):
        during = [gate.free for gate in concurrency.gates.values()]

    assert [1, 2] == during
    assert [2, 3] == [gate.free for gate in concurrency.gates.values()]


async def test_a_failed_call_gives_its_places_back():
    concurrency = Concurrency({"openai": 1})

    with pytest.raises(ZeroDivisionError):
        async with concurrency.place(["openai"]):
            raise ZeroDivisionError

    assert 1 == concurrency.gates["openai"].free


async def test_a_call_that_gives_up_at_the_second_gate_leaves_the_first():
    concurrency = Concurrency({"openai:m": 1, "openai": 1})
    assert concurrency.gates["openai"].enter()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), concurrency.place(["openai:m", "openai"]):
            pytest.fail("there is no place")

    assert 1 == concurrency.gates["openai:m"].free


async def test_a_busy_model_keeps_no_place_of_its_provider_from_others():
    concurrency = Concurrency({"openai:busy": 1, "openai": 2})

    async def call(model: str, entered: asyncio.Event, done: asyncio.Event) -> None:
        async with concurrency.place([model, "openai"]):
            entered.set()
            await done.wait()

    done, entered = asyncio.Event(), [asyncio.Event() for _ in range(6)]
    busy = [asyncio.create_task(call("openai:busy", each, done)) for each in entered[:5]]
    await settled()
    other = asyncio.create_task(call("openai:other", entered[5], done))
    await settled()

    assert [True, *[False] * 4, True] == [each.is_set() for each in entered]
    done.set()
    await asyncio.gather(*busy, other)
    assert [1, 2] == [gate.free for gate in concurrency.gates.values()]


# --- the model ------------------------------------------------------------------------------


class GateMachine(RuleBasedStateMachine):
    """Calls of three tenants come, go and give up in any order, served one step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.gate = Gate(2)
        self.inside: list[asyncio.Task[None]] = []
        self.waiting: list[tuple[str, asyncio.Task[None]]] = []
        self.turns: list[str] = []

    def run(self) -> None:
        self.loop.run_until_complete(settled())

    async def call(self, tenant: str) -> None:
        if not self.gate.enter():
            await self.gate.wait(tenant)

    @rule(tenant=st.sampled_from("abc"))
    def come(self, tenant: str):
        task = self.loop.create_task(self.call(tenant))
        self.run()
        if task.done():
            assert not self.waiting
            self.inside.append(task)
            return
        assert 2 == len(self.inside)
        self.waiting.append((tenant, task))
        if tenant not in self.turns:
            self.turns.append(tenant)

    @precondition(lambda self: self.inside)
    @rule()
    def go(self):
        self.inside.pop()
        expected = self.whose_turn()

        self.gate.leave()
        self.run()

        if expected is not None:
            assert expected[1].done()
            self.inside.append(expected[1])

    def whose_turn(self) -> tuple[str, asyncio.Task[None]] | None:
        """Take the next one out of the model's queue."""
        while self.turns:
            tenant = self.turns.pop(0)
            theirs = [each for each in self.waiting if each[0] == tenant]
            if theirs:
                self.waiting.remove(theirs[0])
                if theirs[1:]:
                    self.turns.append(tenant)
                return theirs[0]
        return None

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject):
        each = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(each)
        each[1].cancel()
        self.run()
        assert each[1].cancelled()

    @precondition(lambda self: self.inside and self.waiting)
    @rule(steps=st.integers(0, 1))
    def give_up_when_served(self, steps: int):
        """The place goes on to the next one, as if it had never been given."""
        self.inside.pop()
        first = self.whose_turn()
        second = self.whose_turn()

        self.gate.leave()
        for _ in range(steps):
            self.loop.run_until_complete(asyncio.sleep(0))
        assert first is not None
        first[1].cancel()
        self.run()

        if not first[1].cancelled():  # it ran in that one step, and left again
            self.gate.leave()
            self.run()
        if second is not None:
            assert second[1].done()
            self.inside.append(second[1])

    @invariant()
    def places_are_held_or_free(self):
        assert 2 == self.gate.free + len(self.inside)
        assert len(self.waiting) == self.gate.waiting
        assert not any(task.done() for _, task in self.waiting)

    def teardown(self) -> None:
        for _, task in self.waiting:
            task.cancel()
        self.run()
        self.loop.close()


TestGateMachine = GateMachine.TestCase
