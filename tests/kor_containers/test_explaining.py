"""why() tells what an object is built from, who replaced what, what exists and whose it is."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector import providers

from kor_containers.container import KorContainer
from kor_containers.providers import Object, Singleton
from kor_core.errors import ContainerError


def here(offset: int = 0) -> str:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return f"{__file__}:{frame.f_back.f_lineno + offset}"


def test_the_tree_shows_what_is_built_and_shared(app: Any) -> None:
    app.kernel()
    child, place = app.derive({"config.settings": "tenant's"}), here()
    child.llm.registry()

    assert str(child.why("llm.selector")).splitlines() == [
        "llm.selector: Selector, not built yet",
        "├─ llm.settings: the same as config.settings, built",
        f"│  └─ config.settings: an object of str, built, replaced at {place}",
        "└─ llm.registry: Registry, built",
        "   ├─ llm.settings: the same as config.settings, built, see above",
        "   └─ llm.catalogue: Catalogue, built, shared with the parent",
        "      ├─ llm.operator: the same as config.operator, built, shared with the parent",
        "      │  └─ config.operator: Settings, built, shared with the parent",
        "      ├─ llm.openai: OpenAI, built, shared with the parent",
        "      │  └─ llm.transport: the same as network.transport, built, shared with the parent",
        "      │     └─ network.transport: Transport, built, shared with the parent",
        (
            "      │        └─ network.operator: the same as config.operator, built, "
            "shared with the parent"
        ),
        "      │           └─ config.operator: Settings, built, shared with the parent",
        "      └─ llm.litellm: LiteLLM, built, shared with the parent",
        (
            "         └─ llm.transport: the same as network.transport, built, "
            "shared with the parent, see above"
        ),
    ]


def test_it_builds_nothing(toy: SimpleNamespace, app: Any) -> None:
    why = app.why("kernel")

    assert why.built is False
    assert why.needs[0].built is False
    app.close()
    assert toy.log == []


def test_it_names_who_overrode_what_the_last_one_first(toy: SimpleNamespace, app: Any) -> None:
    child, derived = app.derive({"llm.openai": Singleton(toy.Part, app.llm.openai)}), here()
    first = here(1)
    with app.llm.openai.override("first"):
        second = here(1)
        with child.override({"llm.openai": "second"}):
            outer = child.why("llm.openai")
            parents = app.why("llm.openai")
        inner = child.why("llm.openai")

    assert outer.replaced_at == (second, derived)
    assert outer.owner == "an override"
    assert parents.replaced_at == (first,)
    assert inner.replaced_at == (derived,)
    assert inner.needs[0].path.startswith("llm.openai~")
    assert "llm.openai (the one replaced): an object of str" in str(inner)


def test_an_override_says_where_it_was_made(app: Any) -> None:
    override, place = app.override({"llm.openai": "fake"}), here()

    assert repr(override) == f"<Override of llm.openai at {place}>"
    assert override.caller.file == __file__
    override.end()


def test_natives_containers_and_what_is_not_bound_are_explained() -> None:
    class Inner(KorContainer):
        need = providers.Dependency()

    class App(KorContainer):
        inner = providers.Container(Inner)
        word = Object("a")
        factory = providers.Factory(dict, word=word)
        listed = Singleton(list, providers.List(word, factory))
        whole = Singleton(list, inner)

    app = App()

    assert "factory: Factory of dict, made at each call" in str(app.why("listed"))
    assert "listed(0): List, made at each call" in str(app.why("listed"))
    assert "whole(0): the container inner., built" in str(app.why("whole"))
    assert "need: bound to nothing" in str(app.why("whole"))


def test_what_an_override_makes_independent_is_shown_as_the_parents(app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})
    with app.llm.registry.override("fixed"):
        assert child.why("llm.registry").owner == "a parent"
    assert child.why("llm.registry").owner == "this container"


def test_a_sub_container_explains_with_its_own_paths(app: Any) -> None:
    assert app.llm().why("openai").path == "llm.openai"


def test_an_unknown_path_names_the_nearest(app: Any) -> None:
    with pytest.raises(ContainerError, match=r"Did you mean 'llm\.openai'"):
        app.why("llm.opnai")


def test_an_explanation_is_data_without_secrets(app: Any) -> None:
    secret = "sk-" + "planted"
    child = app.derive({"config.settings": {"api_key": secret}, "llm.openai": secret})
    child.kernel()
    why = child.why("kernel")
    plain = why.as_dict()

    assert json.loads(json.dumps(plain)) == plain
    assert plain["needs"][0]["path"] == "config.settings"
    for text in (repr(why), str(why), json.dumps(plain), repr(child.validate())):
        assert secret not in text
    for level in (child._space.ground, *child._space._handles.values()):
        assert secret not in repr(level)
    assert secret not in repr(child._space.ground.definitions)
    assert Path(plain["needs"][0]["replaced_at"][0].rpartition(":")[0]) == Path(__file__)
