"""Doubles, an upstream and a conformance kit for applications and plugins that use KOR."""

from kor_core.llm.echo import EchoProvider
from kor_core.testing.doubles import (
    Call,
    Response,
    ScriptedModel,
    ScriptedProvider,
    ScriptExhaustedError,
)

__all__ = [
    "Call",
    "EchoProvider",
    "Response",
    "ScriptExhaustedError",
    "ScriptedModel",
    "ScriptedProvider",
]
