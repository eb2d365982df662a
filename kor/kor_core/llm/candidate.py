"""A candidate: a model that was asked for, with its settings and the place that asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from kor_core.errors import ConfigurationError, Problem
from kor_core.llm.reference import Reference
from kor_core.settings import ModelSettings, Settings
from kor_core.suggestions import listed, nearest

__all__ = [
    "GENERATION",
    "Candidate",
    "checked_settings",
    "checked_timeout",
    "generation_settings",
    "refuse_unserved",
]

# What a call or a [llm.…] table may set beside the model; only what is set is sent.
GENERATION: Final = ("temperature", "max_tokens", "top_p", "stop", "seed", "timeout")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that was asked for.

    Args:
        reference: the provider and the model's name.
        settings: the settings given with it, flat: generation settings and ``extra``.
        key: the key path in the configuration that asked; empty for code.
    """

    reference: Reference
    settings: Mapping[str, Any]
    key: tuple[str, ...] = ()

    @classmethod
    def configured(
        cls, model: ModelSettings, key: tuple[str, ...], known: Iterable[str]
    ) -> "tuple[Candidate, ...]":
        """Read those of a table of the configuration, in the order in which they are asked.

        With ``provider``, ``model`` is verbatim; without, it is a reference.

        Raises:
            ProviderNotFoundError: a reference names no registered provider.
        """
        ids = tuple(known)
        settings = generation_settings(model)
        first = [Reference(model.provider, model.model)] if model.provider else []
        texts = [text for _, text in model.references()]
        references = [*first, *(Reference.parse(text, ids) for text in texts)]
        return tuple(cls(reference, settings, key) for reference in references)

    @classmethod
    def asked(cls, text: str, settings: Mapping[str, Any], known: Iterable[str]) -> "Candidate":
        """Read one from a reference and keyword arguments in code.

        Raises:
            ConfigurationError: a setting has an unknown name.
        """
        return cls(Reference.parse(text, known), checked_settings(settings))

    def with_settings(self, settings: Mapping[str, Any]) -> "Candidate":
        """Return the same model with more settings, which win."""
        merged = {**self.settings, **checked_settings(settings)}
        return Candidate(self.reference, merged, self.key)


def generation_settings(model: ModelSettings) -> dict[str, Any]:
    """Return what a table sets for the call, as one flat dict, ``extra`` merged in.

    >>> generation_settings(ModelSettings(model="echo:m", seed=7, extra={"top_k": 4}))
    {'seed': 7, 'top_k': 4}
    """
    given = {name: getattr(model, name) for name in GENERATION}
    return {name: value for name, value in given.items() if value is not None} | dict(model.extra)


def refuse_unserved(model: ModelSettings, settings: Settings, key: tuple[str, ...]) -> None:
    """Refuse what a table asks for and this version does not do yet, rather than ignore it.

    Raises:
        ConfigurationError: every such key of the table.
    """
    asked = [
        name
        for name in ("strategy", "needs", "min_context", "max_price")
        if getattr(model, name) != type(model).model_fields[name].default
    ]
    if asked:
        words = "This version asks candidates in the order given and filters none: leave it out."
        raise ConfigurationError([settings.problem((*key, name), words) for name in asked])


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings given in code as one flat dict, ``extra`` merged in, None left out.

    Raises:
        ConfigurationError: a setting has an unknown name.

    >>> checked_settings({"temperature": 0.2, "seed": None, "extra": {"top_k": 4}})
    {'temperature': 0.2, 'top_k': 4}
    """
    names = (*GENERATION, "extra")
    unknown = [name for name in settings if name not in names]
    if unknown:
        raise ConfigurationError([_unknown(name, names) for name in unknown])
    given = {name: value for name, value in settings.items() if value is not None}
    _refuse_wrong_values(given)
    extra = given.pop("extra", {})
    return {**given, **extra}


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
    try:
        ModelSettings.model_validate({"model": "any", **settings})
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        problems = [Problem(f"{'.'.join(map(str, each['loc']))}: {each['msg']}.") for each in found]
    else:
        return
    raise ConfigurationError(problems)


def _unknown(name: str, names: tuple[str, ...]) -> Problem:
    return Problem(
        f"Unknown setting '{name}'. Settings: {listed(names)}. "
        "What only one provider understands goes into extra={…}.",
        suggestion=nearest(name, names),
    )
