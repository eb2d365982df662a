"""Embeddings over OpenAI's API: batches, order, numbers and base64."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.embedding_create_params import EmbeddingCreateParams
from pydantic import TypeAdapter

from kor_core import errors
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIModel, OpenAIProvider
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.response import Usage
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults

MODEL = "text-embedding-3-small"
MEGABYTE = 1 << 20


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def model_of(upstream: Upstream, **config: Any) -> BaseLLMModel:
    provider = OpenAIProvider(Transport(NetworkSettings()))
    return provider.create_model(MODEL, {"base_url": upstream.openai_url, **config})


def answer_of(*rows: Any, **more: Any) -> faults.Body:
    return faults.Body(json.dumps({"object": "list", "data": rows, "model": MODEL, **more}))


async def test_each_text_gets_a_vector_in_its_place(upstream: Upstream) -> None:
    model = model_of(upstream)

    both = await model.aembed(["cat", "a dog"])
    cat = await model.aembed("cat")

    assert both.vectors[:1] == cat.vectors
    assert both.vectors[0] != both.vectors[1]
    assert Usage(3, 0) == both.usage
    assert (MODEL, "req_000000000000000000000001") == (both.model_id, both.request_id)


async def test_what_is_sent_is_known_to_the_official_sdk(upstream: Upstream) -> None:
    await model_of(upstream, temperature=1, user="me").aembed(
        ["cat"], settings={"extra": {"dimensions": 4}}
    )

    expected = {
        "model": MODEL,
        "input": ["cat"],
        "encoding_format": "base64",
        "user": "me",
        "dimensions": 4,
    }
    body = upstream.requests[0].json
    assert expected == body
    assert body.keys() == TypeAdapter(EmbeddingCreateParams).validate_python(body).keys()


async def test_base64_and_numbers_mean_the_same(upstream: Upstream) -> None:
    model = model_of(upstream)

    packed = await model.aembed("cat")
    listed = await model.aembed("cat", settings={"extra": {"encoding_format": "float"}})

    assert pytest.approx(listed.vectors[0], rel=1e-6) == packed.vectors[0]


async def test_vectors_come_in_the_order_of_the_texts(upstream: Upstream) -> None:
    kind = {"object": "embedding"}
    rows = [{**kind, "index": 1, "embedding": [2]}, {**kind, "index": 0, "embedding": [1.5]}]
    answer = answer_of(*rows, usage={"prompt_tokens": 1, "total_tokens": 1})
    CreateEmbeddingResponse.model_validate_json(answer.content)
    upstream.play(answer, answer_of({"embedding": [1]}, {"embedding": [2]}))
    model = model_of(upstream)

    assert ((1.5,), (2.0,)) == (await model.aembed(["a", "b"])).vectors
    unordered = await model.aembed(["a", "b"])
    assert ((1.0,), (2.0,)) == unordered.vectors
    assert None is unordered.usage


async def test_many_texts_are_sent_in_batches(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(upstream)
    expected = await model.aembed(list("abcde"))
    monkeypatch.setattr(OpenAIModel, "embedding_batch", 2)

    found = await model.aembed(list("abcde"))

    assert expected.vectors == found.vectors
    assert expected.usage == found.usage
    assert [["a", "b"], ["c", "d"], ["e"]] == [r.json["input"] for r in upstream.requests[1:]]


def test_a_batch_holds_as_many_texts_as_openai_takes() -> None:
    assert 2048 == OpenAIModel.embedding_batch


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answer_of({"index": 0, "embedding": [1]}), "1 embeddings for 2 texts"),
        (answer_of(*[{"index": 0, "embedding": [1]}] * 2), "2 embeddings for 2 texts"),
        (answer_of({"index": 0, "embedding": [1]}, {"index": 1}), "no list of numbers"),
        (answer_of("?", {"index": 1, "embedding": [1]}), "no list of numbers"),
        (answer_of(*[{"embedding": ["1"]}] * 2), "no list of numbers"),
        (answer_of(*[{"embedding": "AAAA?"}] * 2), "no list of numbers"),
        (answer_of(*[{"embedding": "AAAA"}] * 2), "no list of numbers"),
        (answer_of(*[{"embedding": ""}] * 2), "no list of numbers"),
        (answer_of({"index": 0, "embedding": "AAAA" * MEGABYTE + "AAAA"}), "larger than an answer"),
        (faults.Null(), "no embeddings"),
        (faults.Html(), "HTML"),
    ],
)
async def test_vectors_that_make_no_sense_are_a_provider_error(
    answer: faults.Fault, words: str, upstream: Upstream
) -> None:
    upstream.play(answer)

    with pytest.raises(errors.ProviderError, match=words):
        await model_of(upstream).aembed(["a", "b"])


async def test_an_error_is_the_calls(upstream: Upstream) -> None:
    upstream.play(faults.ErrorEvent(message="Slow down.", code="rate_limit_exceeded"))

    with pytest.raises(errors.RateLimitError, match="Slow down"):
        await model_of(upstream).aembed("cat")


async def test_what_is_no_text_for_embedding_cannot_be_given_as_extra(upstream: Upstream) -> None:
    with pytest.raises(errors.BadRequestError, match="'input' is decided by the call"):
        await model_of(upstream).aembed("cat", settings={"extra": {"input": "dog"}})

    assert not upstream.requests
