"""A copy shares with its original what cannot be changed, and nothing else."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kor_core.llm.messages import ToolCall
from kor_core.llm.policies.copying import apart, record_fields
from kor_core.llm.response import Attempt, LLMResponse, Usage


@dataclass(frozen=True, slots=True)
class Frozen:
    first: Any
    second: Any = field(default=None, init=False)


@dataclass
class Changeable:
    value: Any


class Derived(Usage):
    """No dataclass itself: it has a dict, and may hold anything."""


VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.frozensets(st.integers()),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.builds(Frozen, inner)
        | st.builds(Changeable, inner)
    ),
    max_leaves=8,
)


def changeable(value: Any) -> set[int]:
    """Return which objects in it can be changed."""
    if isinstance(value, list):
        return {id(value)}.union(*map(changeable, value))
    if isinstance(value, dict):
        return {id(value)}.union(*map(changeable, value.values()))
    if isinstance(value, tuple):
        return set[int]().union(*map(changeable, value))
    if isinstance(value, Frozen):
        return changeable(value.first)
    return {id(value), *changeable(value.value)} if isinstance(value, Changeable) else set()


@given(value=VALUES)
def test_a_copy_is_equal_and_shares_nothing_that_can_be_changed(value: Any):
    made = apart(value)

    assert deepcopy(value) == made
    assert set() == changeable(value) & changeable(made)
    assert (made is value) == (not changeable(value))


def test_an_answer_of_text_is_not_copied():
    attempts = (Attempt("openai:m", "answered", 0.5),)
    response = LLMResponse("Hello!", usage=Usage(1, 2), attempts=attempts)

    assert response is apart(response)


def test_arguments_of_tool_calls_are_apart():
    response = LLMResponse("", (ToolCall("1", "weather", {"city": "Bern"}),), Usage(1, 2))

    made = apart(response)

    assert response == made
    assert response.usage is made.usage
    assert response.tool_calls[0].arguments is not made.tool_calls[0].arguments


def test_what_cannot_be_copied_is_refused():
    with pytest.raises(TypeError):
        apart({"generator": (each for each in ())})


def test_a_class_derived_from_a_frozen_one_may_hold_more():
    assert record_fields(Derived) is None
    assert record_fields(Changeable) is None
    assert ("first", "second") == record_fields(Frozen)
