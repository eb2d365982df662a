"""Answers that must fit a schema: in the model's own mode, or by words and one repair."""

from dataclasses import dataclass
from decimal import Decimal

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict  # typing's own pydantic takes from 3.12 on

from kor_core.errors import CapabilityNotSupportedError, InvalidAnswerError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.messages import Image, ToolCall, assistant, system, user
from kor_core.llm.response import Attempt, LLMResponse, Usage
from kor_core.llm.structured import Schema, with_one_repair
from kor_core.testing import ScriptedModel


class City(BaseModel):
    name: str
    people: int = 0


@dataclass
class Point:
    x: int


class Movie(TypedDict):
    title: str


class Plain(BaseLLMModel):
    """Has nothing but ``agenerate``."""

    def __init__(self, *answers):
        super().__init__("plain", {})
        self.answers = list(answers)
        self.prompts = []

    async def agenerate(self, prompt):
        self.prompts.append(prompt)
        return self.answers.pop(0)


PARIS = '{"name": "Paris"}'


@pytest.mark.parametrize(
    ("wanted", "text", "expected"),
    [
        (City, PARIS, City(name="Paris")),
        (Point, '{"x": 1}', Point(1)),
        (Movie, '{"title": "Ran"}', {"title": "Ran"}),
        (list[int], "[1, 2]", [1, 2]),
        (City, f"```json\n{PARIS}\n```", City(name="Paris")),
        (City, f"  ```\n{PARIS}```\n", City(name="Paris")),
    ],
)
async def test_whatever_pydantic_checks_is_a_schema(wanted, text, expected):
    assert expected == await Plain(text).aparse("?", wanted)
    assert expected == await ScriptedModel([text]).aparse("?", wanted, strict=True)


@pytest.mark.parametrize("wanted", [3, {"type": "object"}, "Nowhere"])
async def test_what_makes_no_schema_is_refused_before_any_call(wanted):
    with pytest.raises(TypeError, match="Give a pydantic model, a dataclass or a TypedDict"):
        await Plain().aparse("?", wanted)


async def test_a_mode_of_the_models_own_is_no_emulation():
    response = await ScriptedModel([PARIS]).achat("Where?", schema=City)

    assert (City(name="Paris"), frozenset()) == (response.parsed, response.emulated)


async def test_a_mode_of_the_models_own_gets_no_second_chance():
    model = ScriptedModel(["no idea", PARIS])

    with pytest.raises(InvalidAnswerError):
        await model.aparse("Where?", City)

    assert ["Where?"] == model.prompts


async def test_without_a_mode_the_schema_is_told_with_the_question():
    model = Plain(PARIS)

    response = await model.achat("Where?", schema=City)

    assert (City(name="Paris"), {"schema"}) == (response.parsed, response.emulated)
    (prompt,) = model.prompts
    assert prompt.startswith("Where?\n\nAnswer with one JSON object and nothing else.")
    assert '"people"' in prompt


async def test_an_answer_that_does_not_fit_is_repaired_once():
    model = Plain("Paris!", PARIS)

    response = await model.achat("Where?", schema=City)

    assert (City(name="Paris"), {"schema", "messages"}) == (response.parsed, response.emulated)
    assert "Assistant: Paris!\n\nUser: That does not fit: Invalid JSON" in model.prompts[1]


async def test_what_does_not_fit_twice_is_an_error_that_holds_the_answer_and_no_value():
    model = Plain("{}", '{"name": ["planted"]}', PARIS)

    with pytest.raises(InvalidAnswerError, match=r"The answer is no City: name: Input should") as e:
        await model.aparse("Where?", City)

    assert ('{"name": ["planted"]}', 2) == (e.value.text, len(model.prompts))
    assert "planted" not in str(e.value)
    assert (True, None) == (e.value.retryable, e.value.__cause__)


async def test_strict_refuses_emulation_before_any_call():
    model = Plain()

    with pytest.raises(CapabilityNotSupportedError, match="no mode for schemas") as caught:
        await model.aparse("Where?", City, strict=True)

    assert ("json_schema", []) == (caught.value.capability, model.prompts)


async def test_usage_cost_and_attempts_of_a_repair_are_those_of_both_answers():
    one = Attempt("m", "answered", 0.1)
    facts = {"usage": Usage(1, 1), "cost": Decimal(1), "attempts": (one,)}
    answers = [LLMResponse("?", **facts), LLMResponse(PARIS, **facts)]

    async def ask(messages):
        return answers.pop(0)

    response = await with_one_repair(Schema.of(City), (user("Where?"),), ask)

    assert (Usage(2, 2), Decimal(2), (one, one)) == (
        response.usage,
        response.cost,
        response.attempts,
    )


async def test_where_one_answer_does_not_say_what_it_took_both_are_unknown():
    answers = [LLMResponse("?"), LLMResponse(PARIS, usage=Usage(1, 1), cost=Decimal(1))]

    async def ask(messages):
        return answers.pop(0)

    response = await with_one_repair(Schema.of(City), (user("Where?"),), ask)

    assert (None, None) == (response.usage, response.cost)


async def test_instructions_join_the_users_last_message_and_follow_any_other():
    asked = []

    async def ask(messages):
        asked.append(messages)
        return LLMResponse(PARIS)

    image = Image("https://example.com/cat.jpg")
    await with_one_repair(Schema.of(City), (system("Be brief."), user("Where?", image)), ask)
    await with_one_repair(Schema.of(City), (user("Where?"), assistant("Hm.")), ask)

    assert ["system", "user"] == [each.role for each in asked[0]]
    assert (image,) == asked[0][1].images
    assert ["user", "assistant", "user"] == [each.role for each in asked[1]]


@pytest.mark.parametrize("native", [True, False])
async def test_tools_that_the_model_wants_first_are_no_answer_to_check(native):
    wanted = LLMResponse("", (ToolCall("c1", "look", {}),))

    class Calling(ScriptedModel):
        capabilities = frozenset({"tools", "json_schema"} if native else {"tools"})

    response = await Calling([wanted]).achat("Where?", tools=[look], schema=City)

    assert (wanted.tool_calls, None) == (response.tool_calls, response.parsed)
    assert (set() if native else {"schema"}) == response.emulated


def look() -> str:
    return PARIS


def test_a_schema_is_made_once_for_a_type_and_taken_as_it_is():
    schema = Schema.of(City)

    assert schema is Schema.of(City) is Schema.of(schema)
    assert "people" not in repr(schema)


def test_a_schema_given_as_json_schema_is_told_that_a_class_is_wanted():
    with pytest.raises(TypeError, match=r"A schema is a class, .* pydantic model"):
        Schema.of({"type": "object"})
