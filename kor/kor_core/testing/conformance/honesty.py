"""What a model says it can do works; what it says it cannot is refused or visibly emulated."""

from collections.abc import Callable
from typing import Final

import pytest
from pydantic import BaseModel

from kor_core.errors import CapabilityNotSupportedError, LLMError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.messages import Image, system, tool_result, user
from kor_core.testing.conformance.subject import Bench, Subject
from kor_core.testing.replies import Reply

__all__ = ["Honesty"]

_PIXEL: Final = Image(data=b"\x89PNG\r\n\x1a\n-a-pixel-of-the-suite")
_TEXTS: Final = ["first text", "second text", "first text"]


class _Town(BaseModel):
    """A town."""

    town: str


def _look_up(town: str) -> str:
    """Look a town up."""
    raise NotImplementedError


class Honesty(Subject):
    """The capabilities of the profile, one by one."""

    @pytest.mark.parametrize(
        "capability", ["embeddings", "json_schema", "streaming", "tools", "vision"]
    )
    def test_what_it_says_it_can_do_works(
        self, bench: Bench, capability: str, record_property: Callable[[str, object], None]
    ) -> None:
        """Or it is refused before any call, or marked as emulated."""
        model = bench.model()
        says = model.profile.supports(capability)
        record_property("capability", capability)
        if says is False:
            record_property("support", _lacking(bench, model, capability))
            return
        if says:
            _has_hook(model, capability)
        try:
            _PROOFS[capability](bench, model)
        except LLMError:
            if says:
                raise
            record_property("support", "unknown")  # and it did not do
        else:
            record_property("support", "native")

    def test_a_conversation_arrives_whole(
        self, bench: Bench, record_property: Callable[[str, object], None]
    ) -> None:
        """All messages reach the server; where they became one prompt, that is marked."""
        bench.upstream.reply("Hi!")

        response = bench.run(bench.model().achat([system("Be brief-1."), user("Greet-2.")]))
        body = bench.upstream.requests[-1].body

        record_property("capability", "system")
        record_property("support", "emulated" if "messages" in response.emulated else "native")
        assert b"Be brief-1." in body
        assert b"Greet-2." in body
        assert "Greet-2." == bench.upstream.requests[-1].text or "messages" in response.emulated

    def test_usage_is_the_servers_or_unknown(
        self, bench: Bench, record_property: Callable[[str, object], None]
    ) -> None:
        """What is not known is None, and never zero."""
        if bench.behind is not None:
            bench.behind.reply(Reply("Hi!", input_tokens=11, output_tokens=7))

        usage = bench.run(bench.model().achat("Hello!")).usage

        record_property("capability", "usage")
        record_property("support", "unknown" if usage is None else "native")
        counted = usage and (usage.input_tokens, usage.output_tokens)
        assert counted in ({None, (11, 7)} if bench.behind is not None else {None, counted})
        assert counted != (0, 0)


# --- what it says it cannot do ------------------------------------------------------------------


def _lacking(bench: Bench, model: BaseLLMModel, capability: str) -> str:
    """Check that what is lacking is refused before any call, or marked; say which."""
    if capability in {"streaming", "json_schema"}:
        return _emulated(bench, model, capability)
    with pytest.raises(CapabilityNotSupportedError) as caught:
        _PROOFS[capability](bench, model)
    assert capability == caught.value.capability
    assert bench.behind is None or () == bench.behind.requests
    return "refused"


def _emulated(bench: Bench, model: BaseLLMModel, capability: str) -> str:
    if capability == "streaming":
        assert "stream" in bench.run(model.astream("Hello!").collect()).emulated
        return "emulated"
    with pytest.raises(CapabilityNotSupportedError):
        bench.run(model.aparse("Where?", _Town, strict=True))
    assert bench.behind is None or () == bench.behind.requests
    if bench.behind is not None:
        bench.behind.reply('{"town": "Paris"}')
        assert "schema" in bench.run(model.achat("Where?", schema=_Town)).emulated
    return "emulated"


# --- what it says it can do ---------------------------------------------------------------------


def _calls_tools(bench: Bench, model: BaseLLMModel) -> None:
    if bench.behind is not None:
        bench.behind.call_tool("_look_up", {"town": "Paris"})
    response = bench.run(model.achat("Where?", tools=[_look_up]))
    if bench.behind is None:
        return
    assert [("_look_up", {"town": "Paris"})] == [(c.name, c.arguments) for c in response.tool_calls]
    result = tool_result(response.tool_calls[0], "sunny-in-paris")
    bench.run(model.achat([user("Where?"), response.message, result], tools=[_look_up]))
    assert b"Look a town up." in bench.behind.requests[-1].body
    assert b"sunny-in-paris" in bench.behind.requests[-1].body


def _takes_images(bench: Bench, model: BaseLLMModel) -> None:
    bench.run(model.achat(user("What is this?", _PIXEL)))
    if bench.behind is not None:
        encoded = _PIXEL.as_url().partition(",")[2].rstrip("=")
        assert encoded.encode() in bench.behind.requests[-1].body


def _holds_to_schemas(bench: Bench, model: BaseLLMModel) -> None:
    if bench.behind is None:
        return  # what it would say is not known
    bench.behind.reply('{"town": "Paris"}')
    response = bench.run(model.achat("Where?", schema=_Town, strict=True))
    assert (_Town(town="Paris"), False) == (response.parsed, "schema" in response.emulated)
    assert b'"town"' in bench.behind.requests[-1].body


def _streams(bench: Bench, model: BaseLLMModel) -> None:
    response = bench.run(model.astream("Tell a story!").collect())
    assert "stream" not in response.emulated
    assert bench.behind is None or bench.behind.requests[-1].streamed


def _embeds(bench: Bench, model: BaseLLMModel) -> None:
    vectors = bench.run(model.aembed(_TEXTS)).vectors
    assert len(_TEXTS) == len(vectors)
    assert vectors[0] == vectors[2] != vectors[1]


def _has_hook(model: BaseLLMModel, capability: str) -> None:
    """Refuse a claim without code: what KOR does in a model's place is not the model's."""
    ways = _WAYS.get(capability, ("_chat", "achat"))
    own = [name for name in ways if getattr(type(model), name) is not getattr(BaseLLMModel, name)]
    assert own, f"{capability} is claimed, and nothing does it: override {ways[0]}()"


_WAYS: Final = {"streaming": ("_stream", "astream"), "embeddings": ("_embed", "aembed")}

_PROOFS: Final[dict[str, Callable[[Bench, BaseLLMModel], None]]] = {
    "embeddings": _embeds,
    "json_schema": _holds_to_schemas,
    "streaming": _streams,
    "tools": _calls_tools,
    "vision": _takes_images,
}
