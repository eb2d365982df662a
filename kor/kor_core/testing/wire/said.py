"""What a model says to a question: what was scripted, or an echo in the form asked for."""

import json
from dataclasses import replace
from typing import Any

from kor_core.testing.replies import Reply, ToolCall, dumped
from kor_core.testing.wire.base import Question
from kor_core.testing.wire.examples import example_of

__all__ = ["as_said"]


def as_said(scripted: str | Reply | None, question: Question) -> Reply:
    """Return the reply in a form that a vendor could have given.

    Nothing scripted is an echo of the user's last message: plain, or in JSON where a schema
    is asked for, or as a call of the tool that the model has no choice but to call. A scripted
    JSON object becomes that call too, because a forced model cannot answer with text.

    >>> as_said(None, Question("gpt-4", "Hello!")).text
    'Hello!'
    """
    if scripted is None:
        return _echo(question)
    reply = Reply(scripted) if isinstance(scripted, str) else scripted
    arguments = None if question.forced is None else _object(reply.text)
    if question.forced is None or arguments is None or reply.tool_calls:
        return reply
    return replace(reply, text="", tool_calls=(ToolCall(question.forced.name, arguments),))


def _echo(question: Question) -> Reply:
    if question.forced is not None:
        arguments = example_of(question.forced.schema, question.text)
        return Reply(tool_calls=(ToolCall(question.forced.name, arguments),))
    if question.schema is not None:
        return Reply(dumped(example_of(question.schema, question.text)))
    return Reply(question.text)


def _object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return found
