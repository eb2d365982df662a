"""The loop of tools: side by side, with mistakes told to the model and failures to the caller."""

import asyncio
import threading
from decimal import Decimal
from functools import partial

import pytest

from kor_core.errors import LLMTimeoutError, ToolError, ToolRoundsExceededError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.messages import ToolCall, ToolResult, assistant, user
from kor_core.llm.response import Attempt, LLMResponse, Usage
from kor_core.llm.toolbox import run_tools
from kor_core.llm.tools import Tool
from kor_core.testing import ScriptedModel


def wanting(*calls, **facts):
    wanted = tuple(ToolCall(f"c{n}", name, arguments) for n, (name, arguments) in enumerate(calls))
    return LLMResponse("", wanted, **facts)


def add(a: int, b: int = 1) -> int:
    return a + b


async def twice(text: str) -> str:
    return text * 2


class Adder:
    async def __call__(self, number: int) -> int:
        return number + 100


async def results_of(*calls, tools):
    """What the model was told of its calls."""
    model = ScriptedModel([wanting(*calls), "Done."])
    run = await run_tools(model, "?", tools)
    assert "Done." == run.text
    return [message.tool_results[0] for message in run.messages if message.role == "tool"]


async def test_the_whole_conversation_and_all_that_it_took_come_back():
    attempt = Attempt("m", "answered", 0.1)
    facts = {"usage": Usage(1, 2), "cost": Decimal("0.1"), "attempts": (attempt,)}
    wanted = wanting(("add", {"a": 1, "b": 2}), **facts)
    answer = LLMResponse("Three.", emulated=frozenset({"messages"}), **facts)
    model = ScriptedModel([wanted, answer])

    run = await run_tools(model, "1 + 2?", [add], settings={"seed": 1, "timeout": 60})

    call = wanted.tool_calls[0]
    assert ("Three.", Usage(2, 4), Decimal("0.2")) == (run.text, run.usage, run.cost)
    assert ((attempt, attempt), frozenset({"messages"})) == (run.attempts, run.emulated)
    assert [user("1 + 2?"), assistant(call), assistant("Three.")] == [
        message for message in run.messages if message.role != "tool"
    ]
    assert (ToolResult("c0", "3", "add"),) == run.messages[2].parts
    assert run.messages[:3] == model.calls[1].messages
    assert [{"seed": 1}] * 2 == [each.settings for each in model.calls]


async def test_what_one_round_does_not_say_is_unknown_for_all():
    model = ScriptedModel([wanting(("add", {"a": 1}), usage=Usage(1, 2), cost=Decimal(1)), "Two."])

    run = await run_tools(model, "?", [add])

    assert (None, None) == (run.usage, run.cost)


async def test_functions_of_every_shape_are_called_and_their_results_told_in_order():
    expected = ["3", "abab", "105", "7", "12"]

    results = await results_of(
        ("add", {"a": 1, "b": "2"}),
        ("twice", {"text": "ab"}),
        ("Adder", {"number": 5}),
        ("plus", {"a": 6}),
        ("later", {"b": 2}),
        tools=[
            add,
            twice,
            Adder(),
            Tool("plus", function=lambda a: a + 1),
            Tool("later", function=partial(add, 10)),
        ],
    )

    assert expected == [result.content for result in results]


async def test_calls_of_one_round_run_at_the_same_time():
    barrier, threads = asyncio.Barrier(2), threading.Barrier(2, timeout=10)

    async def meet(name: str) -> str:
        await asyncio.wait_for(barrier.wait(), 10)
        return name

    def meet_in_threads(name: str) -> str:
        threads.wait()
        return name

    results = await results_of(
        *(("meet", {"name": name}) for name in "ab"),
        *(("meet_in_threads", {"name": name}) for name in "cd"),
        tools=[meet, meet_in_threads],
    )

    assert ["a", "b", "c", "d"] == [result.content for result in results]


async def test_mistakes_of_the_model_are_told_to_it():
    def fails(reason: str) -> None:
        raise ToolError(reason)

    results = await results_of(
        ("add", {"a": "x"}),
        ("ad", {}),
        ("fails", {"reason": "No such city."}),
        ("add", {"a": 1}),
        tools=[add, fails],
    )

    assert [True, True, True, False] == [result.is_error for result in results]
    assert "The arguments of add do not fit" in results[0].content
    assert "No tool 'ad'. Tools: add, fails. Did you mean 'add'?" == results[1].content
    assert "No such city." == results[2].content


async def test_any_other_failure_is_the_callers_and_cancels_the_rest():
    cancelled = asyncio.Event()
    waiting = asyncio.Event()

    async def hangs() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def breaks() -> None:
        await waiting.wait()
        raise ZeroDivisionError

    model = ScriptedModel([wanting(("hangs", {}), ("breaks", {}))])
    with pytest.raises(ZeroDivisionError):
        await run_tools(model, "?", [hangs, breaks])

    assert cancelled.is_set()


async def test_a_tool_without_a_function_cannot_be_called_here():
    with pytest.raises(TypeError, match="The tool 'search' has no function"):
        await run_tools(ScriptedModel([wanting(("search", {}))]), "?", [Tool("search")])


async def test_a_model_that_never_stops_is_stopped_and_its_last_calls_are_not_made():
    called = []

    def note() -> None:
        called.append(1)

    model = ScriptedModel([wanting(("note", {}))] * 3)
    with pytest.raises(ToolRoundsExceededError, match="after 2 rounds") as caught:
        await run_tools(model, "?", [note], max_rounds=2)

    assert (2, "scripted") == (caught.value.rounds, caught.value.model)
    assert (3, [1, 1]) == (len(model.calls), called)


async def test_the_deadline_is_that_of_the_whole_loop_and_no_model_sees_it():
    async def hangs() -> None:
        await asyncio.Event().wait()

    model = ScriptedModel([wanting(("hangs", {}))])
    with pytest.raises(LLMTimeoutError, match=r"within the deadline of 0\.05 s") as caught:
        await run_tools(model, "?", [hangs], settings={"timeout": 0.05})

    assert ({}, "scripted") == (model.calls[0].settings, caught.value.model)


async def test_a_timeout_of_the_tools_own_is_no_deadline():
    def slow() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        await run_tools(
            ScriptedModel([wanting(("slow", {}))]), "?", [slow], settings={"timeout": 9}
        )

    assert TimeoutError is type(caught.value)


async def test_without_tools_called_it_is_one_chat():
    run = await run_tools(ScriptedModel(["Hi!"]), "Hello!", [])

    assert ("Hi!", (user("Hello!"), assistant("Hi!"))) == (run.text, run.messages)


async def test_a_model_without_tools_refuses_before_any_call():
    class Plain(BaseLLMModel):
        async def agenerate(self, prompt, **kwargs):
            raise AssertionError(prompt)

    with pytest.raises(Exception, match="calls no tools"):
        await run_tools(Plain("m", {}), "?", [add])


@pytest.mark.parametrize(("wanted", "limits"), [(65, {}), (4, {"max_calls": 3})])
async def test_calls_beyond_those_of_a_round_are_refused_to_the_model(wanted, limits):
    most = wanted - 1
    called = []
    model = ScriptedModel([wanting(*[("note", {"number": n}) for n in range(wanted)]), "Done."])

    def note(number: int) -> None:
        called.append(number)

    run = await run_tools(model, "?", [note], **limits)

    results = [message.tool_results[0] for message in run.messages if message.role == "tool"]
    assert [*range(most)] == sorted(called)
    assert [*[False] * most, True] == [result.is_error for result in results]
    assert f"Not called: no more than {most} calls are answered at once. Ask for it again." == (
        results[-1].content
    )
