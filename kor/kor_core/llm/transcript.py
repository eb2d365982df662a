"""One prompt for a whole conversation, for models that take nothing but a prompt."""

from collections.abc import Sequence
from typing import Final

from kor_core.llm.messages import Message

__all__ = ["as_prompt", "is_plain"]

_SPEAKERS: Final = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


def is_plain(messages: Sequence[Message]) -> bool:
    """Say whether it is one message of the user, which is its own prompt."""
    return len(messages) == 1 and messages[0].role == "user"


def as_prompt(messages: Sequence[Message]) -> str:
    """Return the conversation as one prompt.

    One message of the user is given verbatim. Otherwise each message becomes a paragraph
    behind its speaker, and the prompt ends where the model is to go on.

    >>> from kor_core.llm.messages import assistant, system, user
    >>> print(as_prompt([system("Be brief."), user("Hi!"), assistant("Hello."), user("Why?")]))
    System: Be brief.
    <BLANKLINE>
    User: Hi!
    <BLANKLINE>
    Assistant: Hello.
    <BLANKLINE>
    User: Why?
    <BLANKLINE>
    Assistant:
    """
    if is_plain(messages):
        return messages[0].text
    paragraphs = [f"{_SPEAKERS[each.role]}: {each.text}" for each in messages]
    return "\n\n".join([*paragraphs, "Assistant:"])
