"""An override in place: dependents follow inside, and the same objects are back after it."""

import asyncio
import threading
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector import containers, providers
from dependency_injector.errors import Error

from kor_containers.container import KorContainer
from kor_containers.providers import Dependency, Object, Singleton
from kor_core.errors import ContainerError


def path_of(app: Any, path: str) -> Any:
    for name in path.split("."):
        app = getattr(app, name)
    return app


SPELLINGS = {
    "mapping": lambda app, fake: app.override({"llm.openai": fake}),
    "provider": lambda app, fake: app.llm.openai.override(fake),
    "provider of the container": lambda app, fake: app.llm().openai.override(fake),
    "override_providers": lambda app, fake: app.llm.override_providers(openai=fake),
    "sub-container": lambda app, fake: app.llm().override({"openai": fake}),
    "container": lambda app, fake: app.llm().override(dynamic(openai=providers.Object(fake))),
}


def dynamic(**bindings: Any) -> Any:
    container = containers.DynamicContainer()
    container.set_providers(**bindings)
    return container


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_dependents_follow_and_the_same_objects_are_back(app: Any, spelling: str) -> None:
    kernel, openai = app.kernel(), app.llm.openai()
    with SPELLINGS[spelling](app, "fake"):
        assert app.llm.openai() == "fake"
        assert app.kernel().openai == "fake"
        assert app.kernel() is app.kernel()
        assert app.llm.litellm() is kernel.registry.needs[1].needs[2]
        assert app.config.settings() is kernel.settings

    assert app.kernel() is kernel
    assert app.llm.openai() is openai


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_override_without_with_acts_at_once_until_it_is_reset(app: Any, spelling: str) -> None:
    kernel = app.kernel()
    SPELLINGS[spelling](app, "fake")

    assert app.kernel().openai == "fake"
    app.llm.openai.reset_override()
    assert app.kernel() is kernel
    app.llm.openai.reset_override()


def test_what_is_first_built_inside_does_not_outlive_the_block(app: Any) -> None:
    with app.llm.openai.override("fake"):
        inside = app.kernel()

    assert app.kernel() is not inside
    assert app.kernel().openai != "fake"


def test_with_as_gives_what_dependency_injector_gives(app: Any) -> None:
    provider = providers.Object("fake")
    with app.llm.openai.override(provider) as given:
        assert given is provider
    with app.override({"llm.openai": "fake"}) as given:
        assert given is app
    with app.llm.override_providers(openai="fake") as given:
        assert given is app.llm()


def test_several_names_are_replaced_all_or_none(app: Any) -> None:
    kernel = app.kernel()
    for attempt in (
        lambda: app.override({"llm.openai": 1, "llm.litelm": 2}),
        lambda: app.llm.override_providers(openai=1, litelm=2),
        lambda: app.llm().override(dynamic(openai=providers.Object(1), litelm=providers.Object(2))),
    ):
        with pytest.raises(ContainerError, match=r"Did you mean 'llm\.litellm'"):
            attempt()

    assert app.kernel() is kernel
    with app.override({"llm.openai": 1, "llm.litellm": 2}):
        assert app.llm.catalogue().needs[1:] == (1, 2)
    assert app.kernel() is kernel


def test_nested_blocks_restore_step_by_step(app: Any) -> None:
    outside = app.kernel()
    with app.llm.openai.override("first"):
        first = app.kernel()
        with app.llm.openai.override("second"):
            assert app.kernel().openai == "second"
        assert app.kernel() is first
        with app.llm.litellm.override("other"):
            assert app.kernel().openai == "first"
            assert app.llm.catalogue().needs[2] == "other"
        assert app.kernel() is first
    assert app.kernel() is outside


@pytest.mark.parametrize("paths", [("llm.openai",) * 2, ("llm.openai", "llm.litellm")])
def test_overlapping_blocks_end_each_its_own(app: Any, paths: tuple[str, str]) -> None:
    kernel = app.kernel()
    first = app.override({paths[0]: "first"})
    second = app.override({paths[1]: "second"})
    app.kernel()

    first.end()
    assert path_of(app, paths[1])() == "second"
    assert "first" not in app.llm.catalogue().needs
    assert "second" in app.llm.catalogue().needs
    second.end()
    assert app.kernel() is kernel


def test_an_overlapping_block_keeps_objects_that_the_other_had_no_part_in(
    toy: SimpleNamespace, app: Any
) -> None:
    first = app.override({"llm.openai": "first"})
    second = app.override({"network.transport": Singleton(toy.Part)})
    transport, litellm = app.network.transport(), app.llm.litellm()
    catalogue = app.llm.catalogue()

    first.end()
    assert app.network.transport() is transport
    assert app.llm.litellm() is litellm
    assert app.llm.catalogue() is not catalogue
    assert app.llm.openai().needs == (transport,)
    second.end()
    assert transport.closed == 1


def test_a_decorator_over_an_override_follows_when_that_ends(
    toy: SimpleNamespace, app: Any
) -> None:
    first = app.llm.openai.override("first")
    second = app.llm.openai.override(Singleton(toy.Part, app.llm.openai))
    assert app.kernel().openai.needs == ("first",)

    first.end()
    assert app.kernel().openai.needs == (app.llm.openai().needs[0],)
    assert isinstance(app.llm.openai().needs[0], toy.OpenAI)
    second.end()
    assert isinstance(app.llm.openai(), toy.OpenAI)


def test_an_override_may_wrap_what_it_replaces(toy: SimpleNamespace, app: Any) -> None:
    openai = app.llm.openai()
    with app.llm.openai.override(Singleton(toy.Part, app.llm.openai)):
        assert app.kernel().openai.needs == (openai,)
    with app.llm.openai.override(providers.Factory(list, providers.List(app.llm.openai))):
        assert app.kernel().openai == [openai]
    assert openai.closed == 0


def test_ending_twice_is_once(app: Any) -> None:
    override = app.llm.openai.override("fake")
    with override:
        app.llm.openai.reset_override()
        assert app.llm.openai() != "fake"
    override.end()

    assert app.llm.openai() != "fake"


def test_reset_last_overriding_ends_the_last(app: Any) -> None:
    app.llm.openai.override("first")
    app.llm.openai.override("second")

    assert [provider() for provider in app.llm.openai.overridden] == ["first", "second"]
    assert app.llm.openai.last_overriding() == "second"
    app.llm.openai.reset_last_overriding()
    assert app.kernel().openai == "first"
    app.llm.openai.reset_last_overriding()
    assert app.llm.openai.last_overriding is None
    with pytest.raises(Error, match="is not overridden"):
        app.llm.openai.reset_last_overriding()


def test_a_containers_resets_end_overrides_and_leave_the_composition(app: Any) -> None:
    kernel = app.kernel()
    app.override({"llm.openai": 1})
    app.override({"llm.litellm": 2, "kernel": 3})

    app.reset_last_overriding()
    assert app.kernel().openai == 1
    app.override({"llm.litellm": 2})
    app.reset_override()
    assert app.kernel() is kernel
    with pytest.raises(Error, match="is not overridden"):
        app.reset_last_overriding()


def test_a_sub_containers_reset_ends_its_own(app: Any) -> None:
    app.override({"network.transport": "wire"})
    app.override({"llm.openai": "fake"})
    app.llm().reset_override()

    assert app.llm.openai().needs == ("wire",)


def test_a_whole_container_provider_can_be_overridden(toy: SimpleNamespace, app: Any) -> None:
    class Fakes(containers.DeclarativeContainer):
        openai = providers.Object("fake")

    kernel = app.kernel()
    app.llm.override(providers.Container(Fakes))

    assert app.kernel().openai == "fake"
    app.llm.reset_override()
    assert app.kernel() is kernel


def test_containers_in_a_container_override_by_path(toy: SimpleNamespace, app: Any) -> None:
    fakes = dynamic(openai=providers.Object("fake"))
    with app.override_providers(llm=fakes):
        assert app.kernel().openai == "fake"
    with app.override(dynamic(llm=providers.Container(containers.DynamicContainer, fakes))):
        assert app.kernel().openai == "fake"


def test_a_binding_cannot_override_itself(app: Any) -> None:
    with pytest.raises(Error, match="could not be overridden with itself"):
        app.llm.openai.override(app.llm.openai)


# --- leaving in other ways ----------------------------------------------------------------


def test_an_exception_leaves_the_block_restored(app: Any) -> None:
    kernel = app.kernel()
    with pytest.raises(ZeroDivisionError), app.llm.openai.override("fake"):  # noqa: PT012 # a block
        app.kernel()
        raise ZeroDivisionError

    assert app.kernel() is kernel


def test_a_generator_and_an_exit_stack_leave_the_block_restored(app: Any) -> None:
    kernel = app.kernel()

    @contextmanager
    def faked() -> Any:
        with app.llm.openai.override("fake"):
            yield

    with ExitStack() as stack:
        stack.enter_context(faked())
        stack.enter_context(app.llm.litellm.override("other"))
        assert app.llm.catalogue().needs[1:] == ("fake", "other")
    assert app.kernel() is kernel


async def test_a_cancelled_task_leaves_the_block_restored(app: Any) -> None:
    kernel = app.kernel()

    async def faked() -> None:
        async with app.override({"llm.openai": "fake"}):
            await asyncio.sleep(60)

    task = asyncio.create_task(faked())
    await asyncio.sleep(0)
    assert app.llm.openai() == "fake"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert app.kernel() is kernel


# --- closing what a block built -----------------------------------------------------------


def test_what_a_block_builds_is_closed_when_it_ends(toy: SimpleNamespace, app: Any) -> None:
    kept = app.kernel()
    with app.llm.openai.override(Singleton(toy.OpenAI, log=toy.log)):
        inside = app.kernel()

    assert toy.log == ["Kernel", "Selector", "Registry", "Catalogue", "OpenAI"]
    assert inside.closed == inside.openai.closed == 1
    assert kept.closed == kept.openai.closed == kept.registry.closed == 0


def test_an_object_handed_in_is_not_closed(toy: SimpleNamespace, app: Any) -> None:
    fake = toy.Part()
    with app.llm.openai.override(fake), app.override({"llm.litellm": providers.Object(fake)}):
        app.kernel()
    app.derive({"llm.openai": fake}).close()

    assert fake.closed == 0


async def test_an_async_block_closes_by_aclose(app: Any) -> None:
    closed = []

    class Client:
        async def aclose(self) -> None:
            closed.append(asyncio.get_running_loop())

    async with app.override({"llm.openai": Singleton(Client)}):
        app.kernel()

    assert closed == [asyncio.get_running_loop()]


def test_a_failing_closer_ends_the_override_all_the_same(toy: SimpleNamespace, app: Any) -> None:
    class Bad:
        def close(self) -> None:
            raise OSError("stuck")

    kernel = app.kernel()
    with pytest.raises(ExceptionGroup) as caught, app.llm.openai.override(Singleton(Bad)):
        app.kernel()

    assert str(caught.value.exceptions[0]) == "stuck"
    assert caught.value.exceptions[0].__notes__ == ["while closing llm.openai"]
    assert app.kernel() is kernel
    assert toy.log[-1] == "Catalogue"


# --- living children ----------------------------------------------------------------------


def test_children_follow_an_override_of_their_parent(app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})
    kernel, parents = child.kernel(), app.kernel()
    with app.llm.openai.override("fake"):
        assert child.kernel().openai == "fake"
        assert child.kernel().settings == "tenant's"
        assert child.kernel() is child.kernel()

    assert child.kernel() is kernel
    assert app.kernel() is parents


def test_children_follow_an_override_of_what_they_own(app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})
    kernel = child.kernel()
    with app.override({"llm.registry": "fixed"}):
        assert child.kernel().registry == "fixed"
        assert child.kernel().settings == "tenant's"
        assert child.llm.registry() == "fixed"

    assert child.kernel() is kernel


def test_a_child_shares_what_an_override_makes_independent_of_its_own(
    toy: SimpleNamespace, app: Any
) -> None:
    """The override cuts the registry from the settings: one registry serves both."""
    child = app.derive({"config.settings": "tenant's"})
    with app.llm.registry.override(Singleton(toy.Part)):
        assert child.llm.registry() is app.llm.registry()
        assert child.kernel() is not app.kernel()


def test_a_child_that_replaced_a_path_does_not_follow_it(app: Any) -> None:
    child = app.derive({"llm.openai": "own"})
    kernel = child.kernel()
    with app.llm.openai.override("fake"):
        assert child.kernel() is kernel
        assert app.kernel().openai == "fake"


def test_a_child_that_wraps_a_path_follows_what_it_wraps(toy: SimpleNamespace, app: Any) -> None:
    child = app.derive({"llm.openai": Singleton(toy.Part, app.llm.openai)})
    kernel = child.kernel()
    with app.llm.openai.override("fake"):
        assert child.kernel().openai.needs == ("fake",)
    with app.override({"llm.openai": "fake", "llm.litellm": "other"}):
        assert child.llm.catalogue().needs[1].needs == ("fake",)
        assert child.llm.catalogue().needs[2] == "other"
    with app.llm.openai.override(Singleton(toy.Part, app.llm.openai)):
        assert child.kernel().openai.needs[0] is app.llm.openai()

    assert child.kernel() is kernel


def test_grandchildren_follow_too(app: Any) -> None:
    child = app.derive({"config.settings": "child's"})
    grandchild = child.derive({"config.settings": "grandchild's"})
    kernel = grandchild.kernel()
    with app.llm.litellm.override("fake"), child.llm.openai.override("other"):
        assert grandchild.llm.catalogue().needs[1:] == ("other", "fake")
        assert grandchild.kernel().settings == "grandchild's"
        assert app.llm.catalogue().needs[2] == "fake"
        assert app.llm.catalogue().needs[1] != "other"

    assert grandchild.kernel() is kernel


def test_a_childs_override_never_reaches_parent_or_siblings(app: Any) -> None:
    one = app.derive({"config.settings": "one"})
    two = app.derive({"config.settings": "two"})
    kernels = app.kernel(), two.kernel()
    with one.llm.openai.override("fake"):
        assert one.kernel().openai == "fake"
        assert (app.kernel(), two.kernel()) == kernels

    assert (app.kernel(), two.kernel()) == kernels


def test_a_parents_override_ends_under_a_childs(app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})
    kernel = child.kernel()
    parents = app.llm.openai.override("parent's")
    childs = child.llm.litellm.override("child's")
    assert child.llm.catalogue().needs[1:] == ("parent's", "child's")

    parents.end()
    assert child.llm.catalogue().needs[1:] == (app.llm.openai(), "child's")
    again = app.llm.openai.override("again")
    assert child.llm.catalogue().needs[1:] == ("again", "child's")
    childs.end()
    assert child.llm.catalogue() is app.llm.catalogue()
    again.end()
    assert child.kernel() is kernel


def test_a_childs_own_override_that_ends_reveals_the_parents(app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})
    own = child.llm.openai.override("own")
    app.llm.openai.override("parent's")
    assert child.kernel().openai == "own"

    own.end()
    assert child.kernel().openai == "parent's"


def test_what_a_block_built_for_a_child_is_closed_when_it_ends(
    toy: SimpleNamespace, app: Any
) -> None:
    child = app.derive({"config.settings": "tenant's"})
    kernel = child.kernel()
    with app.llm.openai.override("fake"):
        inside = child.kernel()

    assert inside.closed == 1
    assert kernel.closed == 0


# --- bindings of every kind ---------------------------------------------------------------


def test_native_bindings_follow_overrides_of_what_they_need() -> None:
    class App(KorContainer):
        word = Object("a")
        single = providers.Singleton(list, providers.List(word))
        factory = providers.Factory(dict, word=word)
        above = Singleton(dict, single=single)

    app = App()
    single, above = app.single(), app.above()
    child = app.derive({"word": "child"})
    with app.word.override("b"):
        assert app.single() == ["b"]
        assert app.factory() == {"word": "b"}
        assert app.above() == {"single": ["b"]}
        assert child.factory() == {"word": "child"}

    assert app.single() is single
    assert app.above() is above
    assert app.factory.overridden == ()


def test_a_native_binding_overridden_by_path_is_coherent_and_keeps_its_own_overrides() -> None:
    class App(KorContainer):
        factory = providers.Factory(dict)
        above = Singleton(list, providers.List(factory))

    app = App()
    above = app.above()
    with app.override({"factory": "fake"}):
        assert app.factory() == "fake"
        assert app.above() == ["fake"]
        with app.override({"factory": providers.Factory(list, providers.List(app.factory))}):
            assert app.factory() == ["fake"]
    assert app.above() is above

    own = providers.Object("own")
    app.factory.override(own)
    with app.override({"factory": providers.Factory(list, providers.List(app.factory))}):
        assert app.factory() == ["own"]
    with app.override({"factory": "fake"}):
        app.factory.override("inner")
        assert app.factory() == "inner"
        app.factory.reset_last_overriding()
    assert app.factory() == "own"
    assert app.factory.overridden == (own,)
    app.reset_override()
    assert app.factory() == {}


def test_native_overrides_made_inside_a_block_are_read(app: Any) -> None:
    class App(KorContainer):
        word = Object("a")
        factory = providers.Factory(list, providers.List(word))
        other = providers.Factory(dict)

    app = App()
    with app.word.override("b"):
        app.other.override(providers.Factory(list, providers.List(app.word)))
        child = app.derive({"word": "c"})
        assert child.other() == ["c"]
        assert child.factory() == ["c"]
        assert app.factory() == ["b"]
    assert app.factory() == ["a"]


def test_a_native_binding_may_be_wrapped() -> None:
    class App(KorContainer):
        factory = providers.Factory(dict)

    app = App()
    with app.override({"factory": providers.Factory(list, providers.List(app.factory))}):
        assert app.factory() == [{}]


def test_a_dependency_can_be_overridden_in_every_spelling(app: Any) -> None:
    kernel = app.kernel()
    for override in (
        lambda: app.llm.settings.override("other"),
        lambda: app.override({"llm.settings": "other"}),
        lambda: app.llm.override_providers(settings="other"),
    ):
        with override():
            assert app.kernel().selector.needs[0] == "other"
            assert app.llm.settings() == "other"
            assert app.kernel().settings is kernel.settings
        assert app.kernel() is kernel


def test_a_native_dependency_follows_by_path() -> None:
    class Inner(KorContainer):
        word = providers.Dependency()
        words = Singleton(list, providers.List(word))

    class App(KorContainer):
        inner = providers.Container(Inner, word="a")

    app = App()
    words = app.inner.words()
    with app.override({"inner.word": "b"}):
        assert app.inner.word() == "b"
        assert app.inner.words() == ["b"]
    assert app.inner.word() == "a"
    assert app.inner.words() is words


def test_a_container_overrides_a_class_for_later_instances(toy: SimpleNamespace) -> None:
    before = toy.LLMContainer(operator=1, settings=2, transport=3)

    @containers.override(toy.LLMContainer)
    class Faked(toy.LLMContainer):
        openai = Singleton(toy.Part, toy.LLMContainer.settings)

    after = toy.LLMContainer(operator=1, settings=2, transport=3)
    child = after.derive({"settings": 4})

    assert before.openai().needs == (3,)
    assert after.openai().needs == (2,)
    assert after.catalogue().needs[1] is after.openai()
    assert child.openai().needs == (4,)
    after.reset_override()
    assert after.openai().needs == (3,)
    toy.LLMContainer.reset_override()
    assert toy.LLMContainer(operator=1, settings=2, transport=3).openai().needs == (3,)


def test_a_class_is_overridden_by_known_names_only(toy: SimpleNamespace) -> None:
    with pytest.raises(ContainerError, match="Did you mean 'openai'"):

        @containers.override(toy.LLMContainer)
        class Faked(toy.LLMContainer):
            opnai = Singleton(toy.Part)


def test_bindings_are_overridden_on_the_class_before_there_is_a_container() -> None:
    class App(KorContainer):
        word = Object("a")

    App.word.override("b")
    with App.word.override("c"):
        assert App.word.last_overriding() == "c"
        assert App().word() == "c"
    assert App().word() == "b"
    App.word.reset_last_overriding()
    assert App().word() == "a"


def test_a_container_takes_overrides_when_it_is_created(toy: SimpleNamespace) -> None:
    llm = toy.LLMContainer(operator=1, settings=2, transport=3, openai="fake")

    assert llm.catalogue().needs[1] == "fake"
    llm.openai.reset_override()
    assert isinstance(llm.openai(), toy.OpenAI)


def test_a_subcontainer_can_be_composed_with_replacements(toy: SimpleNamespace) -> None:
    class App(KorContainer):
        fake = Object("fake")
        llm = providers.Container(
            toy.LLMContainer, operator=1, settings=2, transport=3, openai=fake
        )

    app = App()

    assert app.llm.catalogue().needs[1] == "fake"
    with app.fake.override("other"):
        assert app.llm.catalogue().needs[1] == "other"


# --- standing alone -----------------------------------------------------------------------


def test_a_binding_outside_any_container_of_ours_is_coherent_too() -> None:
    word = Object("a")
    inner = Singleton(list, providers.List(word))
    outer = Singleton(dict, inner=inner)
    built = outer()

    assert built == {"inner": ["a"]}
    assert inner() is built["inner"]
    with word.override("b"):
        assert outer() == {"inner": ["b"]}
    assert outer() is built


def test_our_bindings_work_in_a_native_container() -> None:
    class App(containers.DeclarativeContainer):
        word = Dependency()
        words = Singleton(list, providers.List(word))

    app = App(word="a")

    assert app.words() == ["a"]
    assert app.words() is app.words()
    assert App(word="b").words() == ["b"]


def test_overrides_declared_on_loose_bindings_hold() -> None:
    """Outside a container, in one that is handed the binding, and in one that derives it."""
    inner = Singleton(list)
    inner.override("fake")
    outer = Singleton(dict, inner=inner)

    class App(KorContainer):
        word = Object("a")
        above = Singleton(dict, word=word)

    copied = App(above=Singleton(dict, nested=outer))
    derived = App().derive({"word": inner})

    assert copied.above() == {"nested": {"inner": "fake"}}
    assert derived.above() == {"word": "fake"}
    assert outer() == {"inner": "fake"}
    inner.reset_override()
    assert outer() == {"inner": []}


def test_a_binding_of_a_living_child_can_be_used_in_a_native_container(app: Any) -> None:
    child = app.derive({"config.settings": "x"})

    class Native(containers.DeclarativeContainer):
        above = providers.Factory(list, providers.List(child.kernel))

    assert Native().above() == [child.kernel()]


# --- threads ------------------------------------------------------------------------------


def test_threads_that_override_and_resolve_leave_nothing_behind(app: Any) -> None:
    kernel = app.kernel()
    child = app.derive({"config.settings": "tenant's"})
    childs = child.kernel()
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(50):
                with app.override({("llm.openai", "llm.litellm")[number % 2]: number}):
                    app.kernel()
                    child.kernel()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert app.kernel() is kernel
    assert child.kernel() is childs
    assert app._space.levels == child._space.levels == ()
