"""Generation settings: what a call may set beside its messages. Only what is set is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from kor_core.errors import ConfigurationError, Problem
from kor_core.redaction import Config, is_table
from kor_core.settings import ModelSettings
from kor_core.suggestions import listed, nearest

__all__ = ["GENERATION", "UNSET", "GenerationSettings", "Settable", "checked_timeout"]

# What a call or a [llm.…] table may set beside the model.
GENERATION: Final = ("temperature", "max_tokens", "top_p", "stop", "seed", "timeout")


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """Settings of one call, over those that are configured for the model.

    Args:
        temperature: of the sampling; by default the provider's own.
        max_tokens: longest answer, in tokens.
        top_p: share of the probability mass that is sampled from, 0 to 1.
        stop: a text or several that end the answer.
        seed: for providers that sample repeatably.
        timeout: deadline of the whole call in seconds, all attempts included.
        extra: what only one provider understands, passed on as it is.

    Raises:
        ConfigurationError: a value is none of these.

    >>> GenerationSettings(temperature=0.2, extra={"top_k": 4}).flat()
    Config({'temperature': 0.2, 'top_k': 4})
    """

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    timeout: float | None = None
    extra: Mapping[str, Any] = field(default_factory=Config)

    def __post_init__(self) -> None:
        if not is_table(self.extra):
            words = f"extra is a table, such as {{'top_k': 4}}, not {type(self.extra).__name__}."
            raise ConfigurationError([Problem(words)])
        # Config: it may hold a key, and reprs and tracebacks show this object.
        object.__setattr__(self, "extra", Config(self.extra))
        checked_timeout(self.timeout)
        _refuse_wrong_values({**self.given(), "extra": self.extra})

    @classmethod
    def of(cls, given: "GenerationSettings | Mapping[str, Any] | None") -> "GenerationSettings":
        """Return settings for whatever was given as such.

        Raises:
            ConfigurationError: a name is unknown, or a value wrong.

        >>> GenerationSettings.of({"timeout": 0.5}).timeout
        0.5
        """
        if isinstance(given, GenerationSettings):
            return given
        if given is None or given == {}:
            return UNSET
        if not is_table(given):
            words = (
                f"settings are a table, such as {{'temperature': 0}}, not {type(given).__name__}."
            )
            raise ConfigurationError([Problem(words)])
        # Config: what is given may hold a key, and a traceback may show this frame.
        given = Config({name: value for name, value in given.items() if value is not None})
        unknown = [name for name in given if name not in _NAMES]
        if unknown:
            raise ConfigurationError([_unknown(name) for name in unknown])
        return cls(**given)

    def given(self) -> dict[str, Any]:
        """Return those that are set, without ``extra``."""
        values = ((name, getattr(self, name)) for name in GENERATION)
        return {name: value for name, value in values if value is not None}

    def flat(self) -> Config:
        """Return those that are set as one flat dict, ``extra`` merged in."""
        return Config({**self.given(), **self.extra})

    def without_timeout(self) -> "GenerationSettings":
        """Return the same for a single attempt; the deadline is kept for all of them."""
        if self.timeout is None:
            return self
        # Not by `replace`: what was checked needs no second check at each call.
        once = object.__new__(GenerationSettings)
        for name in _NAMES:
            object.__setattr__(once, name, None if name == "timeout" else getattr(self, name))
        return once


# What is accepted in place of settings.
Settable = GenerationSettings | Mapping[str, Any] | None

_NAMES: Final = (*GENERATION, "extra")


def checked_timeout(seconds: object) -> float | None:
    """Return a deadline given in code.

    Args:
        seconds: a number above zero, or None for no deadline.

    Raises:
        ConfigurationError: it is something else.

    >>> checked_timeout(0.5)
    0.5
    """
    if seconds is None or (isinstance(seconds, int | float) and seconds > 0):
        return seconds
    raise ConfigurationError([Problem(f"timeout is a number of seconds above 0, not {seconds!r}.")])


def _refuse_wrong_values(settings: Mapping[str, Any]) -> None:
    """Hold what is given in code against the same rules as the configuration."""
    if settings == {"extra": {}}:
        return
    try:
        ModelSettings.model_validate({"model": "any", **settings})
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        problems = [Problem(f"{'.'.join(map(str, each['loc']))}: {_said(each)}.") for each in found]
    else:
        return
    raise ConfigurationError(problems)


def _said(found: Mapping[str, Any]) -> str:
    words: str = found["msg"]
    return words.removeprefix("Value error, ").removesuffix(".")


def _unknown(name: str) -> Problem:
    return Problem(
        f"Unknown setting '{name}'. Settings: {listed(_NAMES)}. "
        "What only one provider understands goes into extra={…}.",
        suggestion=nearest(name, _NAMES),
    )


# After the functions that it is checked with.
UNSET: Final = GenerationSettings()
