"""The list of models, and the answer where no endpoint is."""

import re
from collections.abc import Mapping
from typing import Any

from kor_core.testing.replies import Reply
from kor_core.testing.wire.base import Failure, Question
from kor_core.testing.wire.openai_chat import OpenAIFormat

__all__ = ["Models", "NoEndpoint"]


class Models(OpenAIFormat):
    """``GET /v1/models``.

    Args:
        names: of the models to list.

    Source: https://platform.openai.com/docs/api-reference/models
    """

    name = "openai.models"
    method = "GET"
    path = re.compile(r"/models$")
    content_key = "data"
    makes = "other"

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read nothing: the list has no parameters."""
        del path, query, body
        return Question()

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write a ``list`` of ``model`` objects."""
        del question, reply, number
        return {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": 1700000000, "owned_by": "kor"}
                for name in self._names
            ],
        }


class NoEndpoint(OpenAIFormat):
    """Answers 404 to what no other wire format serves."""

    name = "none"
    path = re.compile("")
    content_key = "error"
    makes = "other"
    status = 404

    def serves(self, method: str, path: str) -> bool:
        """Say yes to everything: it is asked last."""
        del method, path
        return True

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Keep the path, to name it."""
        del query, body
        return Question(text=path)

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write the error that OpenAI answers to an unknown URL."""
        del reply
        return self.error(Failure(404, f"Invalid URL ({question.text})", "unknown_url"), number)
