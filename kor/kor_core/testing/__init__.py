"""Doubles, an upstream and a conformance kit for applications and plugins that use KOR.

The doubles need nothing; :class:`Upstream` needs the extra: ``pip install 'kor-sdk[testing]'``,
or from a clone ``pip install '.[testing]'``. Its faults are in :mod:`kor_core.testing.faults`.
"""

from kor_core.llm.echo import EchoProvider
from kor_core.testing.blocking import block_real_calls
from kor_core.testing.cassettes import Cassette, cassette
from kor_core.testing.doubles import (
    Call,
    Response,
    ScriptedModel,
    ScriptedProvider,
    ScriptExhaustedError,
)
from kor_core.testing.mismatch import CassetteError, NotOnCassetteError
from kor_core.testing.proxy import ForwardProxy, Proxied
from kor_core.testing.recording import Headers, Received
from kor_core.testing.replies import Reply, ToolCall
from kor_core.testing.script import ALWAYS, Scripted, When
from kor_core.testing.upstream import Upstream

__all__ = [
    "ALWAYS",
    "Call",
    "Cassette",
    "CassetteError",
    "EchoProvider",
    "ForwardProxy",
    "Headers",
    "NotOnCassetteError",
    "Proxied",
    "Received",
    "Reply",
    "Response",
    "ScriptExhaustedError",
    "Scripted",
    "ScriptedModel",
    "ScriptedProvider",
    "ToolCall",
    "Upstream",
    "When",
    "block_real_calls",
    "cassette",
]
