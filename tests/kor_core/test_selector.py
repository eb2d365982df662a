"""A purpose gets its model: override, else the purpose's, else the default's."""

import threading

import pytest

from kor_core.errors import (
    CapabilityNotSupportedError,
    ProviderNotFoundError,
    PurposeNotFoundError,
)
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.echo import EchoModel, EchoProvider
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.settings import settings_from


@pytest.fixture
def llm():
    return {
        "default": {"provider": "echo", "model": "plain"},
        "purposes": {
            "coding": {"provider": "echo", "model": "coder", "temperature": 0.1},
            "Coding": {"provider": "echo", "model": "big"},
        },
    }


def selector_of(llm):
    settings = settings_from({"llm": llm})
    return ModelSelector(settings, LLMRegistry(settings, Catalogue([EchoProvider()])))


@pytest.mark.parametrize(
    ("arguments", "model"),
    [
        ({}, "plain"),
        ({"purpose": "default"}, "plain"),
        ({"purpose": None}, "plain"),
        ({"purpose": "coding"}, "coder"),
        ({"purpose": "Coding"}, "big"),
        ({"purpose": "coding", "override": "echo:mine"}, "mine"),
    ],
)
def test_override_then_purpose_then_default(llm, arguments, model):
    assert model == selector_of(llm).get_model(**arguments).model_name


def test_a_purpose_has_settings_of_its_own(llm):
    assert {"temperature": 0.1} == selector_of(llm).get_model("coding").config


def test_the_same_purpose_gives_the_same_object(llm):
    selector = selector_of(llm)

    assert selector.get_model("coding") is selector.get_model("coding")


def test_a_model_object_overrides(llm):
    mine = EchoProvider().create_model("mine", {})

    assert mine is selector_of(llm).get_model("coding", override=mine)


def test_racing_threads_get_the_same_object(llm):
    selector = selector_of(llm)
    barrier = threading.Barrier(16)
    found = []

    def ask():
        barrier.wait()
        found.append(selector.get_model("coding"))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 16 == len(found)
    assert 1 == len({id(model) for model in found})


def test_an_unknown_purpose_is_an_error_with_the_nearest_name(llm):
    with pytest.raises(PurposeNotFoundError) as caught:
        selector_of(llm).get_model("codng")

    assert ("Coding", "coding", "default") == caught.value.known
    assert "Did you mean 'coding'?" in str(caught.value)
    assert "[llm.purposes.codng]" in str(caught.value)


def test_a_reference_in_place_of_a_purpose_is_told_how_to_ask(llm):
    with pytest.raises(PurposeNotFoundError, match=r"write override='echo:x', or ask kernel\.llm"):
        selector_of(llm).get_model("echo:x")


def test_a_model_that_is_given_is_held_against_the_needs(llm):
    given = EchoModel("mine", {})

    assert given is selector_of(llm).get_model(override=given)
    with pytest.raises(CapabilityNotSupportedError, match="calls no tools"):
        selector_of(llm).get_model(override=given, needs=["tools"])
    with pytest.raises(ValueError, match="toolz"):
        selector_of(llm).get_model(override=given, needs=["toolz"])


def test_an_unknown_purpose_may_be_served_by_the_default(llm):
    selector = selector_of({**llm, "unknown_purpose": "default"})

    assert "plain" == selector.get_model("codng").model_name


def test_purposes_made_of_what_users_write_are_not_remembered(llm):
    selector = selector_of({**llm, "unknown_purpose": "default"})

    found = {selector.get_model(f"of a user: {number}") for number in range(3000)}
    needy = {selector.get_model(f"of a user: {number}", needs=["chat"]) for number in range(9)}

    assert {selector.get_model()} == found
    assert 1 == len(needy)
    assert {"default", ("default", frozenset({"chat"}))} == selector._handles.recent.keys()
    assert selector._handles._older is None


def test_an_override_with_an_unknown_provider_is_an_error(llm):
    with pytest.raises(ProviderNotFoundError, match="'eco'"):
        selector_of(llm).get_model(override="eco:x")


def test_its_repr_lists_the_purposes(llm):
    assert "<ModelSelector default, coding, Coding>" == repr(selector_of(llm))
