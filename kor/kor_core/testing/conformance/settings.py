"""What is sent of settings: those that are set, and no other."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from kor_core.errors import ConfigurationError
from kor_core.redaction import is_table
from kor_core.testing.conformance.subject import Bench, Subject

__all__ = ["SettingsOfCalls"]

# Under the names of all vendors that the upstream speaks like.
_NAMES: Final = frozenset(
    {
        *("temperature", "top_p", "topP", "top_k", "topK", "seed", "stop", "stop_sequences"),
        *("stopSequences", "max_tokens", "max_completion_tokens", "max_output_tokens"),
        *("maxOutputTokens", "num_predict", "presence_penalty", "frequency_penalty"),
    }
)

# Numbers that nothing else sends.
_CONFIGURED: Final = 0.1875
_OF_THE_CALL: Final = 0.3125


class SettingsOfCalls(Subject):
    """Settings that are not set are not sent; the call's go before those configured."""

    def test_what_is_not_set_is_not_sent(self, bench: Bench) -> None:
        """There are no defaults of the provider's own, and no nulls."""
        bench.upstream.reply("Hi!")

        bench.run(bench.model().agenerate("Hello!"))
        sent = _pairs(bench.upstream.requests[-1].json)

        assert [] == sorted({name for name, _ in sent} & (_NAMES - self.always_sent))
        assert [] == [name for name, value in sent if value is None]

    def test_what_is_configured_is_sent(self, bench: Bench) -> None:
        """A setting in ``config`` is in the request."""
        bench.upstream.reply("Hi!")

        bench.run(bench.model(temperature=_CONFIGURED).agenerate("Hello!"))

        assert ("temperature", _CONFIGURED) in _pairs(bench.upstream.requests[-1].json)

    def test_the_call_goes_before_the_configuration(self, bench: Bench) -> None:
        """A setting of the call is in the request in place of the configured one."""
        bench.upstream.reply("Hi!", "Hi!")
        model = bench.model(temperature=_CONFIGURED)

        bench.run(model.agenerate("Hello!", temperature=_OF_THE_CALL))
        bench.run(model.achat("Hello!", settings={"temperature": _OF_THE_CALL}))

        for request in bench.upstream.requests:
            assert ("temperature", _OF_THE_CALL) in _pairs(request.json)
            assert str(_CONFIGURED) not in json.dumps(request.json)

    def test_unknown_settings_are_refused(self, bench: Bench) -> None:
        """A misspelt setting is an error, and nobody is asked."""
        with pytest.raises(ConfigurationError, match="temprature"):
            bench.run(bench.model().achat("Hello!", settings={"temprature": 1}))

        assert bench.behind is None or () == bench.behind.requests


def _pairs(value: Any) -> list[tuple[str, Any]]:
    """Return every name in a body with its value, in tables within tables too."""
    return list(_within(value))


def _within(value: Any) -> Iterator[tuple[str, Any]]:
    if is_table(value):
        for name, item in value.items():
            yield name, item
            yield from _within(item)
