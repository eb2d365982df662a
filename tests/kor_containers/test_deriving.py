"""A derived container owns what it replaces and what depends on that, and shares the rest."""

import copy
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector import providers

from kor_containers.container import KorContainer
from kor_containers.providers import Object, ScopeOf, Singleton
from kor_core.errors import ContainerError


def test_what_depends_on_a_replacement_is_own_and_the_rest_is_shared(app: Any) -> None:
    kernel = app.kernel()
    tenant = app.derive({"config.settings": "tenant's"})

    assert tenant.kernel() is not kernel
    assert tenant.kernel().settings == "tenant's"
    assert tenant.kernel().selector.needs[0] == "tenant's"
    assert tenant.llm.catalogue() is app.llm.catalogue()
    assert tenant.network.transport() is app.network.transport()
    assert app.kernel() is kernel


@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_shared_object_that_is_not_built_yet_is_the_parents_whoever_builds(
    toy: SimpleNamespace, app: Any, first: str
) -> None:
    child = app.derive({"config.settings": "tenant's"})
    builder = {"parent": app, "child": child}[first]
    transport = builder.network.transport()

    assert app.network.transport() is transport
    assert child.network.transport() is transport
    child.close()
    assert transport.closed == 0
    app.close()
    assert transport.closed == 1


def test_a_replaced_leaf_owns_everything_above_it(app: Any) -> None:
    fake = object()
    child = app.derive({"llm.openai": fake})

    assert child.kernel().openai is fake
    assert child.llm.catalogue() is not app.llm.catalogue()
    assert child.llm.litellm() is app.llm.litellm()
    assert child.config.settings() is app.config.settings()


def test_deriving_works_to_any_depth(app: Any) -> None:
    first = app.derive({"llm.openai": "first"})
    second = first.derive({"config.settings": "second"})
    third = second.derive({"llm.litellm": "third"})

    assert third.kernel().settings == "second"
    assert third.kernel().openai == "first"
    assert third.kernel().registry.needs[1].needs[2] == "third"
    assert second.llm.catalogue() is first.llm.catalogue()
    assert third.llm.catalogue() is not first.llm.catalogue()
    assert second.kernel().registry.needs[1] is first.llm.catalogue()


def test_a_replacement_hides_what_its_predecessor_needed(app: Any) -> None:
    """A replaced registry no longer depends on the catalogue: a grandchild shares it."""
    child = app.derive({"llm.registry": "fixed"})
    selector = child.llm.selector()
    grandchild = child.derive({"llm.openai": "fake"})

    assert grandchild.llm.selector() is selector
    assert grandchild.llm.openai() == "fake"


def test_an_unknown_path_changes_nothing_and_names_the_nearest(app: Any) -> None:
    with pytest.raises(ContainerError) as caught:
        app.derive({"llm.litellm": "ok", "llm.opnai": "fake"})

    assert caught.value.path == "llm.opnai"
    assert "Did you mean 'llm.openai'?" in str(caught.value)


def test_a_path_names_a_binding_and_not_a_container(app: Any) -> None:
    with pytest.raises(ContainerError, match="No binding 'llm'"):
        app.derive({"llm": object()})


def test_a_provider_handed_in_is_copied_and_built_here(toy: SimpleNamespace, app: Any) -> None:
    mine = Singleton(toy.OpenAI, app.network.transport, log=toy.log)
    one = app.derive({"llm.openai": mine})
    two = app.derive({"llm.openai": mine})

    assert one.kernel().openai is not two.kernel().openai
    assert one.kernel().openai.needs == (app.network.transport(),)


def test_references_of_a_provider_handed_in_become_the_childs(
    toy: SimpleNamespace, app: Any
) -> None:
    child = app.derive(
        {"config.operator": "new", "llm.openai": Singleton(toy.Part, app.network.transport)}
    )

    assert child.llm.openai().needs[0] is child.network.transport()
    assert child.network.transport().needs == ("new",)
    assert child.network.transport() is not app.network.transport()


def test_a_reference_to_the_replaced_binding_itself_means_the_one_replaced(
    toy: SimpleNamespace, app: Any
) -> None:
    decorator = Singleton(toy.Part, app.llm.openai)
    child = app.derive({"llm.openai": decorator})

    assert child.llm.openai().needs[0] is app.llm.openai()
    assert child.kernel().openai is child.llm.openai()


def test_decorators_stack_and_follow_what_is_below(toy: SimpleNamespace, app: Any) -> None:
    child = app.derive({"llm.openai": Singleton(toy.Part, app.llm.openai)})
    grandchild = child.derive({"llm.openai": Singleton(toy.Part, child.llm.openai)})
    renewed = grandchild.derive({"config.operator": "new"})

    assert grandchild.llm.openai().needs[0] is child.llm.openai()
    inner = renewed.llm.openai().needs[0].needs[0]
    assert inner.needs[0].needs == ("new",)
    assert inner is not app.llm.openai()


def test_a_provider_may_refer_to_the_class_it_was_declared_on(toy: SimpleNamespace) -> None:
    app = toy.App()
    child = app.derive({"llm.openai": Singleton(toy.Part, toy.App.network.transport)})

    assert child.llm.openai().needs[0] is app.network.transport()


def test_another_binding_can_be_handed_in_as_it_is(app: Any) -> None:
    child = app.derive({"llm.openai": app.llm.litellm})

    assert child.kernel().openai is app.llm.litellm()


def test_a_circle_made_by_a_replacement_is_refused_with_its_path(
    toy: SimpleNamespace, app: Any
) -> None:
    with pytest.raises(ContainerError) as caught:
        app.derive({"llm.openai": Singleton(toy.Part, app.llm.registry)})

    assert "llm.openai ← llm.registry ← llm.catalogue ← llm.openai" in str(caught.value)


def test_a_binding_of_an_unrelated_container_is_asked_where_it_lives(
    toy: SimpleNamespace, app: Any
) -> None:
    other = toy.App()
    child = app.derive({"llm.openai": Singleton(toy.Part, other.llm.openai)})

    assert child.llm.openai().needs[0] is other.llm.openai()


def test_a_child_gives_handles_of_its_own(app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})
    with child.network.transport.override("fake"):
        assert child.network.transport() == "fake"
        assert child.llm.openai().needs == ("fake",)
        assert app.network.transport() != "fake"
        assert app.llm.openai().needs != ("fake",)

    assert child.llm.openai() is app.llm.openai()


def test_a_child_is_an_instance_of_the_declared_classes(toy: SimpleNamespace, app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})

    assert isinstance(child, toy.App)
    assert isinstance(child.llm(), toy.LLMContainer)
    assert not isinstance(child, toy.LLMContainer)
    assert child.llm().selector() is child.llm.selector()
    assert child.llm() is child.llm()
    assert set(child.providers) == {"config", "network", "llm", "kernel"}


def test_a_sub_container_derives_within_the_whole(app: Any) -> None:
    llm = app.llm().derive({"openai": "fake"})

    assert llm.registry().needs[1].needs[1] == "fake"
    assert llm.litellm() is app.llm.litellm()


def test_a_users_own_application_derives_with_prefixed_paths(toy: SimpleNamespace) -> None:
    mine = toy.UserApp()
    service = mine.service()
    child = mine.derive({"kor.config.settings": "tenant's"})

    assert child.service() is not service
    assert child.service().needs[1] is child.kor.llm.selector()
    assert child.kor.kernel().settings == "tenant's"
    assert child.kor.network.transport() is mine.kor.network.transport()
    assert isinstance(child.kor(), toy.App)


def test_each_container_has_its_own_scope_under_its_parents(app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})

    assert child.kernel().scope.parent is app.kernel().scope
    assert child.kernel().scope is child.derive({"llm.openai": 1}).kernel().scope.parent


def test_the_scope_is_no_dependency() -> None:
    class App(KorContainer):
        word = Object("a")
        scoped = Singleton(dict, scope=ScopeOf())

    app = App()

    assert app.derive({"word": "b"}).scoped() is app.scoped()


def test_a_scope_gives_nothing_by_itself() -> None:
    with pytest.raises(TypeError, match="argument of other bindings"):
        ScopeOf()()


# --- native providers -----------------------------------------------------------------------


class Native(KorContainer):
    settings = Object({"llm": {"model": "a"}, "name": "base"})
    other = Singleton(object)
    model = Singleton(list, providers.List(settings.provided["llm"]["model"]))
    nested = Singleton(
        dict,
        made=providers.Factory(dict, settings=settings, other=other),
        table=providers.Dict(settings=settings, word="x"),
        word=providers.Object("plain"),
        upper=settings.provided["name"].upper.call(),
        factory=providers.Factory(dict, settings=settings).provider,
    )
    factory = providers.Factory(dict, settings=settings)
    single = providers.Singleton(dict, settings=settings)
    above = Singleton(dict, single=single)


def test_native_providers_nested_in_arguments_derive() -> None:
    app = Native()
    child = app.derive({"settings": {"llm": {"model": "b"}, "name": "child"}})

    assert app.model() == ["a"]
    assert child.model() == ["b"]
    assert child.nested()["made"]["settings"]["name"] == "child"
    assert child.nested()["made"]["other"] is app.other()
    assert child.nested()["table"]["settings"]["name"] == "child"
    assert child.nested()["word"] == "plain"
    assert child.nested()["upper"] == "CHILD"
    assert child.nested()["factory"]()["settings"]["name"] == "child"
    assert app.nested()["factory"]()["settings"]["name"] == "base"


def test_native_bindings_derive() -> None:
    app = Native()
    single = app.single()
    child = app.derive({"settings": {"name": "child"}})

    assert child.factory(word="x") == {"settings": {"name": "child"}, "word": "x"}
    assert child.single() is child.single()
    assert child.single() == {"settings": {"name": "child"}}
    assert child.above()["single"] is child.single()
    assert app.single() is single
    assert app.derive({"other": 1}).single() is single


def test_what_is_one_object_takes_no_arguments() -> None:
    child = Native().derive({"settings": {}})
    with pytest.raises(TypeError, match="takes no arguments"):
        child.single(1)


def test_a_native_singleton_with_attributes_stays_what_it_is() -> None:
    class Thing:
        word = ""

    single = providers.Singleton(Thing)
    single.add_attributes(word="set")
    app = Native().derive({"single": single})

    assert app.above()["single"].word == "set"
    assert app.above()["single"] is app.single()


def test_a_copy_of_a_container_stands_alone(app: Any) -> None:
    copied = copy.deepcopy(app.llm())
    child = copied.derive({"operator": 1, "settings": 2, "transport": 3})

    assert child.selector().needs[0] == 2


def test_native_bindings_can_be_replaced() -> None:
    app = Native()
    child = app.derive({"single": "fake", "factory": providers.Factory(dict, app.settings)})

    assert child.above() == {"single": "fake"}
    assert child.factory()["name"] == "base"


def test_a_nested_native_singleton_is_shared_unless_it_depends_on_a_replacement() -> None:
    class App(KorContainer):
        one = Object(1)
        two = Object(2)
        top = Singleton(dict, two=two, nested=providers.Singleton(list, providers.List(one)))

    app = App()

    assert app.derive({"two": 3}).top()["nested"] is app.top()["nested"]
    assert app.derive({"one": 3}).top()["nested"] == [3]


def test_a_native_override_in_force_is_derived_with_what_it_needs() -> None:
    app = Native()
    app.factory.override(providers.Factory(list, providers.List(app.settings.provided["name"])))
    child = app.derive({"settings": {"name": "child"}})

    assert app.factory() == ["base"]
    assert child.factory() == ["child"]


def test_deriving_from_a_container_with_overrides_in_force(toy: SimpleNamespace, app: Any) -> None:
    """What an override put in force belongs to the child too, dependents of a change renewed."""
    with app.llm.openai.override(Singleton(toy.Part, app.config.settings)):
        child = app.derive({"config.settings": "tenant's"})
        shared = app.derive({"llm.litellm": "other"})

        assert child.kernel().openai.needs == ("tenant's",)
        assert child.kernel().openai is not app.llm.openai()
        assert shared.kernel().openai is app.llm.openai()
        inside = child.kernel()

    assert child.kernel() is not inside
    assert child.kernel().openai is app.llm.openai()
    assert isinstance(app.llm.openai(), toy.OpenAI)


def test_a_container_can_be_injected_whole() -> None:
    class Inner(KorContainer):
        word = Object("a")

    class App(KorContainer):
        inner = providers.Container(Inner)
        reader = Singleton(lambda inner: inner.word(), inner)
        itself = providers.Self()
        me = Singleton(lambda app: app, itself)

    app = App()
    child = app.derive({"inner.word": "b"})

    assert app.reader() == "a"
    assert child.reader() == "b"
    assert app.me() is app
    assert child.me() is child
    assert child.itself() is child


def test_a_foreign_container_is_handed_over_as_it_is() -> None:
    class Inner(KorContainer):
        word = Object("a")

    other = Inner()
    app = Native()
    child = app.derive({"single": providers.Container(Inner, other)})

    assert child.above()["single"] is other


# --- cost ---------------------------------------------------------------------------------


def test_a_thousand_derived_containers_are_freed(app: Any) -> None:
    app.kernel()
    refs = []
    for number in range(1000):
        child = app.derive({"config.settings": number})
        refs.append(weakref.ref(child.kernel()))
    del child
    gc.collect()

    assert not any(ref() for ref in refs)
    assert app._space.children == []
    assert app._space._children == set()
