"""An override under which some objects are kept, though they depend on what is replaced."""

import asyncio
from typing import Any

import pytest
from dependency_injector import providers

from kor_containers.providers import Singleton
from kor_core.errors import ContainerError

TRANSPORT = "network.transport"


def renew(app: Any, *kept: str) -> Any:
    """Override the operator's settings, as a reload does."""
    return app.place()[0].override({"config.operator": object()}, kept=kept)


def test_what_is_kept_is_the_same_and_what_depends_on_it_too_is_new(app):
    transport, kernel = app.network.transport(), app.kernel()
    renew(app, TRANSPORT)

    assert transport is app.network.transport() is app.llm.openai().needs[0]
    assert kernel is not app.kernel()
    assert app.config.operator() is app.kernel().settings


def test_what_is_not_built_yet_is_built_on_what_is_new(app):
    renew(app, TRANSPORT)

    assert app.network.transport().needs == (app.config.operator(),)


def test_what_is_kept_is_closed_once_with_its_container(app):
    transport = app.network.transport()
    for _ in range(3):
        renew(app, TRANSPORT)
        app.kernel()
    app.close()

    assert 1 == transport.closed


def test_an_object_outlives_the_override_that_built_it_where_a_later_one_keeps_it(app):
    first = renew(app)
    transport = app.network.transport()
    openai = app.llm.openai()
    renew(app, TRANSPORT)
    first.end()

    assert (0, 1) == (transport.closed, openai.closed)
    assert transport is app.network.transport()

    app.close()
    assert 1 == transport.closed


def test_an_override_that_ends_beneath_takes_what_it_built_along(app, toy):
    """Kept or not: nothing of a fake stays."""
    mine = app.override({TRANSPORT: Singleton(toy.Part, log=toy.log)})
    fake = app.network.transport()
    renew(app, TRANSPORT)
    assert fake is app.network.transport()
    mine.end()

    assert 1 == fake.closed
    assert fake is not app.network.transport()
    assert app.network.transport() is app.llm.openai().needs[0]


def test_an_override_that_begins_later_reaches_what_is_kept_as_well(app):
    catalogue = app.llm.catalogue()
    renew(app, TRANSPORT, "llm.openai", "llm.litellm", "llm.catalogue")
    fake = object()
    with app.llm.openai.override(fake):
        assert fake is app.kernel().openai

    assert catalogue is app.llm.catalogue()
    assert fake is app.derive({"llm.openai": fake}).kernel().openai


def test_what_makes_a_new_object_each_time_is_left_to_do_so(app, toy):
    app.override({TRANSPORT: providers.Factory(toy.Part)})
    renew(app, TRANSPORT)

    assert app.network.transport() is not app.network.transport()


def test_containers_derived_before_and_after_share_what_is_kept(app):
    before = app.derive({"config.settings": object()})
    transport, kernel = before.network.transport(), before.kernel()
    renew(app, TRANSPORT)
    after = app.derive({"config.settings": object()})

    assert transport is before.network.transport() is after.network.transport()
    assert transport is app.network.transport()
    assert kernel is not before.kernel()


def test_a_derived_container_that_keeps_its_parents_objects_never_closes_them(app):
    transport = app.network.transport()
    renew(app, TRANSPORT)
    child = app.derive({"llm.openai": object()})
    renew(child, TRANSPORT)
    assert transport is child.network.transport()
    child.close()

    assert 0 == transport.closed


def test_a_derived_container_keeps_nothing_that_ends_with_an_override_of_its_parent(app, toy):
    child = app.derive({"config.settings": object()})
    with app.override({TRANSPORT: Singleton(toy.Part, log=toy.log)}):
        passing = child.network.transport()
        renew(child, TRANSPORT)

    assert 1 == passing.closed
    assert 0 == child.network.transport().closed


def test_an_object_built_by_async_code_stays_with_its_loop(toy):
    async def build(settings: Any) -> Any:
        return toy.Part(settings)

    app = toy.App()
    app.override({TRANSPORT: Singleton(build, app.config.operator)})

    async def kept() -> bool:
        transport = await app.network.transport.async_()
        renew(app, TRANSPORT)
        return transport is await app.network.transport.async_()

    assert asyncio.run(kept())
    with pytest.raises(ContainerError, match="another event loop"):
        asyncio.run(app.network.transport.async_())
