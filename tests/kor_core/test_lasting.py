"""Handles last, and references made of users' input do not fill the memory."""

import gc
import weakref

from kor_core.llm import lasting
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.echo import EchoProvider
from kor_core.llm.registry import LLMRegistry
from kor_core.redaction import Config
from kor_core.settings import settings_from


def registry():
    return LLMRegistry(settings_from({}), Catalogue([EchoProvider()]))


def test_an_old_handle_is_the_same_object_while_somebody_holds_it(monkeypatch):
    monkeypatch.setattr(lasting, "_RECENT", 2)
    models = registry()
    held = models.get_model("echo:held")

    for number in range(5):
        models.get_model(f"echo:{number}")

    assert held is models.get_model("echo:held")


def test_old_handles_that_nobody_holds_are_freed(monkeypatch):
    monkeypatch.setattr(lasting, "_RECENT", 2)
    models = registry()
    first = weakref.ref(models.get_model("echo:first"))

    for number in range(5):
        models.get_model(f"echo:{number}")
    gc.collect()

    assert first() is None
    assert 2 == len(models._handles.recent)


def test_settings_that_mask_themselves_are_told_apart():
    models = registry()
    first, second = (models.get_model("echo:m", extra=Config(api_key=key)) for key in "ab")

    assert first is not second
    assert ("a", "b") == (first.config["api_key"], second.config["api_key"])
    assert first is models.get_model("echo:m", extra={"api_key": "a"})


def test_a_key_given_with_the_settings_is_not_shown_by_what_remembers_it():
    models = registry()

    models.get_model("echo:m", extra={"api_key": "sk-planted-1"})
    models.get_model("echo:m", extra={"api_key": "sk-planted-2"})

    assert 2 == len(models._handles.recent)
    assert "planted" not in repr(models._handles.recent)


def test_what_cannot_be_hashed_is_remembered_by_how_it_reads():
    assert lasting.question("r", {"x": {1, 2}}) == lasting.question("r", {"x": {1, 2}})
    assert lasting.question("r", {"x": {1}}) != lasting.question("r", {"x": {2}})
