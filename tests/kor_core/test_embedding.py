"""Vectors come in the order of the texts, in batches, with all that they took."""

from decimal import Decimal

import pytest

from kor_core.errors import CapabilityNotSupportedError, ProviderError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.echo import EchoModel
from kor_core.llm.generation import GenerationSettings
from kor_core.llm.response import Attempt, Embeddings, Usage

ONE = Attempt("m", "answered", 0.1)


class Counting(BaseLLMModel):
    """The vector of a text is its length."""

    embedding_batch = 2

    def __init__(self, **facts):
        super().__init__("counting", {})
        self.facts = facts
        self.batches = []

    async def agenerate(self, prompt, **kwargs):
        raise NotImplementedError

    async def _embed(self, texts, settings):
        self.batches.append((list(texts), settings.flat()))
        return Embeddings(tuple((float(len(text)),) for text in texts), **self.facts)


async def test_order_is_kept_over_batches():
    model = Counting(model_id="c-1", request_id="r", attempts=(ONE,))

    found = await model.aembed(["a", "bb", "ccc", "dddd", "eeeee"], settings={"seed": 1})

    assert ((1.0,), (2.0,), (3.0,), (4.0,), (5.0,)) == found.vectors
    assert [["a", "bb"], ["ccc", "dddd"], ["eeeee"]] == [texts for texts, _ in model.batches]
    assert [{"seed": 1}] * 3 == [settings for _, settings in model.batches]
    assert ("c-1", "r", (ONE,) * 3) == (found.model_id, found.request_id, found.attempts)
    assert (None, None) == (found.usage, found.cost)


async def test_what_the_batches_took_is_added():
    usage = Usage(1, 0, 0, 0)
    found = await Counting(usage=usage, cost=Decimal("0.1")).aembed(["a", "b", "c"])

    assert (Usage(2, 0, 0, 0), 2, Decimal("0.2")) == (
        found.usage,
        found.usage.total_tokens,
        found.cost,
    )


async def test_cached_tokens_that_one_batch_leaves_out_are_unknown_and_never_zero():
    found = await Counting(usage=Usage(1, 0, None, None)).aembed(["a", "b", "c"])

    assert (None, None) == (found.usage.cached_tokens, found.usage.reasoning_tokens)


async def test_one_text_is_a_batch_of_one():
    assert ((5.0,),) == (await Counting().aembed("Hello")).vectors


async def test_no_texts_need_no_call():
    model = Counting()

    assert (Embeddings(()), []) == (await model.aembed([]), model.batches)


@pytest.mark.parametrize("texts", [["a", 3], [None], [["a"]]])
async def test_what_is_no_text_is_refused(texts):
    model = Counting()

    with pytest.raises(TypeError, match="Texts are embedded, not "):
        await model.aembed(texts)

    assert [] == model.batches


async def test_a_vector_too_few_is_an_error_and_never_a_shift():
    class Short(Counting):
        async def _embed(self, texts, settings):
            return Embeddings(((1.0,),), request_id="r")

    with pytest.raises(ProviderError, match="It gave 1 vectors for 2 texts") as caught:
        await Short().aembed(["a", "b"])

    assert ("counting", "r") == (caught.value.model, caught.value.request_id)


async def test_a_model_without_the_hook_makes_no_embeddings_when_it_is_asked_past_the_check():
    with pytest.raises(CapabilityNotSupportedError) as caught:
        await EchoModel("any", {})._embed(["text"], GenerationSettings())

    assert "embeddings" == caught.value.capability
