"""Plain typed functions become tools: a name, words, and a JSON Schema of what they take."""

from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from kor_core.errors import ToolError
from kor_core.llm.tools import Tool, as_tools


class Place(BaseModel):
    """A town."""

    city: str
    country: str = "France"


@dataclass
class Point:
    x: int
    y: int


def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    The sum may be large.
    """
    return a + b


async def search(
    query: Annotated[str, Field(description="What to look for.")],
    kind: Literal["web", "news"] = "web",
    *,
    limit: Annotated[int, Field(ge=1)] = 10,
) -> list[str]:
    """Search."""
    return [query] * limit


def test_a_function_is_described_by_its_name_docstring_and_types():
    tool = Tool.of(add)

    assert ("add", "Add two numbers.\n\nThe sum may be large.") == (tool.name, tool.description)
    assert {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 1}},
        "required": ["a"],
        "additionalProperties": False,
    } == tool.parameters
    assert add is tool.function


def test_descriptions_choices_and_limits_reach_the_schema():
    properties = Tool.of(search).parameters["properties"]

    assert {"type": "string", "description": "What to look for."} == properties["query"]
    assert ["web", "news"] == properties["kind"]["enum"]
    assert 1 == properties["limit"]["minimum"]


class Shop:
    """Sells."""

    def price(self, item: str) -> int:
        """Say what an item costs."""
        return len(item)

    @classmethod
    def open_on(cls, day: str) -> bool:
        """Say whether it is open."""
        return day != "Sunday"

    @staticmethod
    def greet(name: str) -> str:
        return f"Hello, {name}!"


class Adder:
    """Adds what it was made with."""

    def __init__(self, to: int) -> None:
        self.to = to

    async def __call__(self, number: int) -> int:
        return self.to + number


class Told:
    def __call__(self, number: int) -> int:
        """Give it back."""
        return number


def logged(function):
    @wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


@pytest.mark.parametrize(
    ("function", "name", "words", "parameters"),
    [
        (Shop().price, "price", "Say what an item costs.", ["item"]),
        (Shop.open_on, "open_on", "Say whether it is open.", ["day"]),
        (Shop.greet, "greet", "", ["name"]),
        (Adder(2), "Adder", "Adds what it was made with.", ["number"]),
        (Told(), "Told", "Give it back.", ["number"]),
        (partial(add, 1), "add", Tool.of(add).description, ["b"]),
        (partial(partial(search, limit=3), "x"), "search", "Search.", ["kind"]),
        (partial(Adder(2)), "Adder", "Adds what it was made with.", ["number"]),
        (logged(add), "add", Tool.of(add).description, ["a", "b"]),
        (Place, "Place", "A town.", ["city", "country"]),
    ],
)
def test_whatever_can_be_called_by_name_makes_a_tool(function, name, words, parameters):
    tool = Tool.of(function)

    assert (name, words) == (tool.name, tool.description)
    assert parameters == list(tool.parameters["properties"])


def test_what_a_partial_has_set_by_name_is_not_told_to_the_model():
    def read(path: str, connection: object) -> str:
        return path

    tool = Tool.of(partial(read, connection=object()))

    assert ["path"] == list(tool.parameters["properties"])
    assert {"path": "x"} == tool.bound({"path": "x"})


def test_arguments_are_converted_to_the_types_of_the_parameters():
    def visit(place: Place, point: Point, *, often: int = 1) -> None:
        del place, point, often

    bound = Tool.of(visit).bound(
        {"place": {"city": "Paris"}, "point": {"x": "1", "y": 2}, "often": 3}
    )

    assert {"place": Place(city="Paris"), "point": Point(1, 2), "often": 3} == bound


def test_defaults_are_left_to_the_function():
    assert {"a": 1} == Tool.of(add).bound({"a": 1})


def test_parameters_may_have_names_that_pydantic_uses_itself():
    def odd(schema: str, json: int, _private: int = 0, model_config: str = "") -> None:
        del schema, json, _private, model_config

    tool = Tool.of(odd)
    given = {"schema": "s", "json": 1, "_private": 2, "model_config": "m"}

    assert list(given) == list(tool.parameters["properties"])
    assert given == tool.bound(given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "The arguments of add do not fit: a: Field required."),
        ({"a": "planted"}, "a: Input should be a valid integer"),
        ({"a": 1, "c": 2}, "c: Extra inputs are not permitted"),
    ],
)
def test_arguments_that_do_not_fit_are_told_to_the_model_without_their_values(arguments, words):
    with pytest.raises(ToolError, match=words) as caught:
        Tool.of(add).bound(arguments)

    assert "planted" not in str(caught.value)
    assert None is caught.value.__cause__


def variadic(*args: int) -> None:
    del args


def named(**kwargs: int) -> None:
    del kwargs


def undescribed(of: Tool) -> None:
    del of


def unresolved(of: "Nowhere") -> None:  # noqa: F821  # the point
    del of


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (named, r"tools is a list of functions: tools=\[named\]"),
        (Tool("search"), r"tools is a list of functions: tools=\[…\]"),
        ({"name": "search"}, r"tools is a list of functions: tools=\[…\]"),
    ],
)
def test_a_tool_alone_is_told_that_tools_are_a_list(given, words):
    with pytest.raises(TypeError, match=words):
        as_tools(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "is a function, a Tool or a dict, not int"),
        (variadic, "parameter 'args' of variadic"),
        (named, "parameter 'kwargs' of named"),
        (undescribed, "undescribed.. makes no tool"),
        (unresolved, "unresolved.. makes no tool.*Nowhere"),
        (lambda: 3, "A lambda has no name"),
        (max, "max.. makes no tool"),
        ({}, "A tool's dict is"),
        ({"function": 3}, "A tool's dict is"),
    ],
)
def test_what_makes_no_tool_is_refused_with_the_reason(given, words):
    with pytest.raises(TypeError, match=words):
        Tool.of(given)


def test_a_dict_in_openais_shape_is_a_tool_that_the_caller_answers():
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    whole = {"type": "function", "function": {"name": "search", "parameters": schema}}

    first, second = as_tools([whole, {"name": "now", "description": "The time."}])

    assert Tool("search", parameters=schema) == first
    assert Tool("now", "The time.") == second
    assert {"type": "object", "properties": {}} == second.parameters
    assert {"x": 1} == second.bound({"x": 1})
    assert None is second.function


def test_a_tool_is_taken_as_it_is():
    tool = Tool("search")

    assert tool is Tool.of(tool)


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(ValueError, match="Two tools are named 'add'"):
        as_tools([add, Tool("add")])
