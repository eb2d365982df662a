"""What a call is about, before anybody is asked."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kor_core.errors import LLMError
from kor_core.llm.events import Kind
from kor_core.llm.generation import UNSET, GenerationSettings
from kor_core.llm.target import Target

__all__ = ["Plan"]


class Plan(NamedTuple):
    """What a call is about.

    Args:
        kind: what is asked for.
        targets: the candidates that qualify, in the order in which they are asked.
        rejected: why the others do not.
        tokens: how many the request may take, answer included.
        max_tokens: how many of them are the answer's.
        tenant: whose call it is; None for the application's.
        purpose: what it is for; None where the model was asked for by reference.
        prompt: writes out what is asked, for those who may see it.
        settings: of the call.
        configured: the reference that is configured first.
    """

    kind: Kind
    targets: Sequence[Target]
    rejected: Sequence[LLMError] = ()
    tokens: int = 0
    max_tokens: int = 0
    tenant: str | None = None
    purpose: str | None = None
    prompt: Callable[[], str] = str
    settings: GenerationSettings = UNSET
    configured: str = ""
