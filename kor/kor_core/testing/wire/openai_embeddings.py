"""OpenAI embeddings, as floats and as base64."""

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kor_core.testing.replies import Reply, vector_of
from kor_core.testing.wire.base import Question, required, words
from kor_core.testing.wire.openai_chat import OpenAIFormat

__all__ = ["DIMENSIONS", "Embeddings", "vectors_of"]

# Enough to tell texts apart, and short to read in a failing test.
DIMENSIONS: Final = 8


class Embeddings(OpenAIFormat):
    """``POST /v1/embeddings``. The official SDK asks for base64 unless told otherwise.

    Source: https://platform.openai.com/docs/api-reference/embeddings
    """

    name = "openai.embeddings"
    path = re.compile(r"/embeddings$")
    content_key = "data"
    makes = "embeddings"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the texts; lists of token numbers are written out as text."""
        del path, query
        inputs = _texts(required(body, "input"))
        return Question(
            model=required(body, "model"),
            text=inputs[-1] if inputs else "",
            input_tokens=words(*inputs),
            inputs=inputs,
            body=body,
        )

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write a ``list`` of ``embedding`` objects in the order of the texts."""
        del number
        written = _base64 if question.body.get("encoding_format") == "base64" else list
        vectors = vectors_of(question, reply, question.body.get("dimensions") or DIMENSIONS)
        taken, _ = reply.tokens(question.input_tokens)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": written(vector)}
                for index, vector in enumerate(vectors)
            ],
            "model": question.model,
            "usage": {"prompt_tokens": taken, "total_tokens": taken},
        }


def vectors_of(
    question: Question, reply: Reply, dimensions: int = DIMENSIONS
) -> Sequence[Sequence[float]]:
    """Return the scripted vectors, or one for each text that depends on that text alone."""
    if reply.vectors is not None:
        return reply.vectors
    return [vector_of(text, dimensions) for text in question.inputs]


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    items: list[Any] = list(value)
    if items and isinstance(items[0], int):  # one text as token numbers
        return (str(items),)
    return tuple(str(item) for item in items)


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
