"""The loop in which a model calls tools, and reads what they return."""

import asyncio
import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kor_core.errors import ToolError, ToolRoundsExceededError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.deadline import too_late, within
from kor_core.llm.generation import GenerationSettings, Settable
from kor_core.llm.messages import Message, Messages, ToolCall, as_messages, tool_result
from kor_core.llm.response import LLMResponse
from kor_core.llm.tools import Tool, Toolable, as_tools
from kor_core.suggestions import did_you_mean, listed

__all__ = ["ToolRun", "run_tools"]


@dataclass(frozen=True, slots=True)
class ToolRun(LLMResponse):
    """The last answer of a loop; usage, cost and attempts are those of all its rounds.

    Args:
        messages: the whole conversation, the last answer included.
    """

    messages: tuple[Message, ...] = ()


async def run_tools(
    model: BaseLLMModel,
    messages: Messages,
    tools: Iterable[Toolable],
    max_rounds: int = 10,
    *,
    max_calls: int = 64,
    settings: Settable = None,
) -> ToolRun:
    """Ask a model, call the tools that it wants, tell it the results, until it answers.

    The calls of one round run at the same time; sync functions in threads. Arguments that do
    not fit, a tool that does not exist, a call too many and a
    :class:`~kor_core.errors.ToolError` are told to the model, which may try again; other
    exceptions of a tool are raised.

    Args:
        model: any model that calls tools.
        messages: as for :meth:`BaseLLMModel.achat`.
        tools: typed functions, sync or async.
        max_rounds: how often the model may want tools, before it must answer.
        max_calls: how many calls of one round are run; an answer may hold thousands.
        settings: of each call; ``timeout`` is the deadline of the whole loop, in seconds.

    Raises:
        ToolRoundsExceededError: the model still wants tools after the last round.
        LLMTimeoutError: the deadline of the loop passed.
        LLMError: a call failed.

    >>> from kor_core.llm.response import LLMResponse
    >>> from kor_core.testing import ScriptedModel
    >>> def add(a: int, b: int) -> int:
    ...     "Add two numbers."
    ...     return a + b
    >>> wanted = LLMResponse("", (ToolCall("c1", "add", {"a": 1, "b": 2}),))
    >>> model = ScriptedModel([wanted, "It is 3."])
    >>> asyncio.run(run_tools(model, "What is 1 + 2?", [add])).text
    'It is 3.'
    """
    toolbox = as_tools(tools)
    chosen = GenerationSettings.of(settings)
    once = chosen.without_timeout()
    said = as_messages(messages)
    responses: list[LLMResponse] = []
    async with _deadline(chosen.timeout, model.model_name):
        for _ in range(max_rounds + 1):
            response = await model.achat(said, tools=toolbox, settings=once)
            responses.append(response)
            said = (*said, response.message)
            if not response.tool_calls:
                return _run(responses, said)
            if len(responses) <= max_rounds:
                said = (*said, *await _answered(response.tool_calls, toolbox, max_calls))
    raise ToolRoundsExceededError(
        f"The model still wants tools after {max_rounds} rounds. Raise max_rounds, or describe "
        "the tools better.",
        rounds=max_rounds,
        model=model.model_name,
    )


def _deadline(seconds: float | None, model: str) -> AbstractAsyncContextManager[None]:
    if seconds is None:
        return nullcontext()
    return within(asyncio.timeout(seconds), partial(too_late, seconds, model=model))


def _run(responses: Sequence[LLMResponse], said: tuple[Message, ...]) -> ToolRun:
    last = responses[-1]
    total = replace(
        last,
        usage=_sum([each.usage for each in responses]),
        cost=_sum([each.cost for each in responses]),
        attempts=tuple(attempt for each in responses for attempt in each.attempts),
        emulated=frozenset().union(*(each.emulated for each in responses)),
    )
    facts = {name: getattr(total, name) for name in LLMResponse.__dataclass_fields__}
    return ToolRun(**facts, messages=said)


def _sum(values: Sequence[Any]) -> Any:
    """Add what is known; one unknown makes the sum unknown."""
    if any(value is None for value in values):
        return None
    total, *others = values
    for value in others:
        total += value
    return total


async def _answered(calls: Sequence[ToolCall], tools: Sequence[Tool], most: int) -> list[Message]:
    """Run the calls of a round side by side; the first failure cancels the others."""
    words = f"Not called: no more than {most} calls are answered at once. Ask for it again."
    refused = [tool_result(call, words, is_error=True) for call in calls[most:]]
    async with AsyncExitStack() as stack:
        tasks = [asyncio.ensure_future(_result(call, tools)) for call in calls[:most]]
        for task in tasks:
            stack.push_async_callback(_ended, task)
        return [*await asyncio.gather(*tasks), *refused]


async def _ended(task: asyncio.Future[Message]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _result(call: ToolCall, tools: Sequence[Tool]) -> Message:
    try:
        return tool_result(call, await _called(_found(call, tools), call.arguments))
    except ToolError as error:
        return tool_result(call, str(error), is_error=True)


def _found(call: ToolCall, tools: Sequence[Tool]) -> Tool:
    names = [tool.name for tool in tools]
    if call.name not in names:
        hint = did_you_mean(call.name, names)
        raise ToolError(f"No tool '{call.name}'. Tools: {listed(names)}.{hint}")
    return tools[names.index(call.name)]


async def _called(tool: Tool, arguments: Mapping[str, Any]) -> object:
    function, bound = tool.function, tool.bound(arguments)
    if function is None:
        raise TypeError(
            f"The tool '{tool.name}' has no function to call. Give one, or answer the calls of "
            "achat() yourself."
        )
    if inspect.iscoroutinefunction(function):
        return await function(**bound)
    result: object = await asyncio.to_thread(function, **bound)
    return await result if inspect.isawaitable(result) else result
