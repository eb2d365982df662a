"""What is told of a call while it runs, to whoever listens."""

import logging
from time import perf_counter
from typing import Any, Final

from kor_core.llm.events import CallEvent, EventName
from kor_core.llm.pipeline import Policies
from kor_core.llm.plan import Plan
from kor_core.llm.policies.ledger import Ledger
from kor_core.llm.response import LLMResponse
from kor_core.redaction import Config, redact
from kor_core.spellings import spellings_of

__all__ = ["Trace"]

_log: Final = logging.getLogger(__name__)


class Trace:
    """Tells the observer of one call; none of its errors reaches the caller.

    Args:
        plan: what the call is about.
        ledger: its attempts.
        policies: who listens, and whether prompts and answers are told.
    """

    __slots__ = ("_ledger", "_plan", "_policies", "_started")

    def __init__(self, plan: Plan, ledger: Ledger, policies: Policies) -> None:
        self._plan = plan
        self._ledger = ledger
        self._policies = policies
        self._started = perf_counter()

    def tell(self, name: EventName, error: str | None = None, result: Any = None) -> None:
        """Tell of one moment of the call.

        Args:
            name: which moment.
            error: the name of the error's class, where it failed.
            result: the answer, where there is one.
        """
        observer = self._policies.observer
        heeds = getattr(observer, "heeds", None)
        try:
            if heeds is None or heeds(name):
                observer(self._event(name, error, result))
        except Exception:  # noqa: BLE001  # a user's code, and the call goes on
            _log.exception("An observer of calls raised: %r. Mend it.", observer)

    def answered(self, result: object) -> None:
        """Tell that the call was answered."""
        self.tell("llm.call.finished", result=result)

    def _event(self, name: EventName, error: str | None, result: Any) -> CallEvent:
        plan, content = self._plan, self._policies.log_content
        answer = _written(result) if content else None
        return CallEvent(
            name,
            plan.kind,
            str(plan.targets[0].reference) if plan.targets else plan.configured,
            plan.tenant,
            plan.purpose,
            duration=None if name == "llm.call.started" else perf_counter() - self._started,
            attempts=self._ledger.attempts,
            usage=getattr(result, "usage", None),
            cost=getattr(result, "cost", None),
            error=error,
            prompt=self._masked(plan.prompt()) if content else None,
            answer=None if answer is None else self._masked(answer),
        )

    def _masked(self, text: str) -> str:
        """Return a text without keys: some servers repeat them in what they answer."""
        configs = [Config(self._plan.settings.extra), *(t.config for t in self._plan.targets)]
        return redact(text, {secret for each in configs for secret in spellings_of(each)})


def _written(result: object) -> str | None:
    """Return an answer as text, the tools that it calls included; vectors are none."""
    if isinstance(result, str):
        return result
    if not isinstance(result, LLMResponse):
        return None
    calls = [f"{call.name}({call.arguments_text})" for call in result.tool_calls]
    return "\n".join([result.text, *calls] if result.text else calls)
