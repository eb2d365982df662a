"""Exceptions of others stay the causes of ours, and show no key."""

import traceback

import pytest

from kor_core.errors import KorError, LLMTimeoutError, ProviderError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.hiding import raise_typed
from kor_core.llm.registry import LLMRegistry
from kor_core.settings import settings_from

KEY = "sk-planted-key"


class TellingError(Exception):
    """Keeps what it tells where nothing takes it out."""

    def __init__(self, words):
        super().__init__()
        self._words = (words,)
        self._table = {"words": words}

    def __str__(self):
        return self._table["words"]


class MuteError(Exception):
    def __str__(self):
        raise ZeroDivisionError


class StubbornError(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


def refused():
    raise ValueError(f"the server said {KEY}")


def chained():
    try:
        refused()
    except ValueError as error:
        raise RuntimeError("outer") from error


def unrelated():
    try:
        refused()
    except ValueError:
        raise RuntimeError("outer")  # noqa: B904  # its context is the point


def looped():
    first, second = RuntimeError(KEY), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    raise first


def raising(error):
    def act():
        raise error

    return act


CAUSES = {
    "in its arguments": refused,
    "in its cause": chained,
    "in its context": unrelated,
    "in a circle": looped,
    "in a table of its own": raising(TellingError(KEY)),
    "in nothing it can say": raising(MuteError(KEY)),
    "in what it keeps": raising(StubbornError(KEY)),
    "in the system's words": raising(OSError(5, KEY, KEY)),
    "in bytes": raising(UnicodeDecodeError("utf-8", KEY.encode(), 0, 1, KEY)),
    "in a key": raising(KeyError(KEY)),
}


class Model(BaseLLMModel):
    act = staticmethod(refused)

    async def agenerate(self, prompt, **kwargs):
        self.act()


class Provider(BaseLLMProvider):
    id = "mine"

    def __init__(self, act):
        self.act = act

    def create_model(self, model_name, config):
        if model_name == "impossible":
            self.act()
        model = Model(model_name, config)
        model.act = self.act
        return model


def failure(act, name="m"):
    tables = {"llm": {"providers": {"mine": {"api_key": KEY}}, "policies": {"retries": 0}}}
    registry = LLMRegistry(settings_from(tables), Catalogue([Provider(act)]))
    with pytest.raises(KorError) as caught:
        registry.get_model(f"mine:{name}").generate("Hello!")
    return caught.value


def told(error):
    """Return all that is printed of an error, and of everything that hangs on it."""
    found, pending = [], [error]
    while pending:
        each = pending.pop()
        if each is not None and each not in found:
            found.append(each)
            pending += [each.__cause__, each.__context__]
    safely = [f"{type(each).__name__} {each.args!r} {vars(each)!r}" for each in found]
    return "\n".join([*traceback.format_exception(error), *safely])


@pytest.mark.parametrize("name", ["m", "impossible"])
@pytest.mark.parametrize("where", CAUSES)
def test_no_cause_shows_the_key(where, name):
    error = failure(CAUSES[where], name)

    assert isinstance(error, ProviderError)
    assert error.__cause__ is not None
    assert KEY not in told(error)


def test_a_cause_without_a_key_is_the_very_exception():
    cause = ValueError("on purpose")

    assert cause is failure(raising(cause)).__cause__


def test_a_cause_keeps_its_class_and_its_place():
    error = failure(refused)

    assert "ValueError: the server said **********" in told(error)
    assert "in refused" in told(error)


def test_a_timeout_of_others_is_one_of_ours():
    error = failure(raising(TimeoutError(f"{KEY} was slow")))

    assert isinstance(error, LLMTimeoutError)
    assert KEY not in told(error)


def test_what_cannot_be_masked_is_stood_in_for():
    with pytest.raises(KorError) as caught:
        raise_typed(KorError("It failed."), TellingError(KEY), [KEY])

    assert "RuntimeError('TellingError: **********')" == repr(caught.value.__cause__)
    assert caught.value.__cause__ is caught.value.__context__
