"""Reloading the configuration: all of it or nothing, under calls that are in flight."""

import gc
import logging
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from dependency_injector.providers import Container

from kor_containers import (
    ApplicationContainer,
    KorContainer,
    TenantKernels,
    create_container,
    default_container,
    reload,
)
from kor_containers.policies import PolicyContainer
from kor_containers.providers import Singleton
from kor_containers.reloading import _LASTING
from kor_core.errors import (
    CircuitOpenError,
    ConfigurationError,
    ContainerError,
    LLMError,
    PurposeNotFoundError,
)
from kor_core.kernel import get_kernel, reset_kernel
from kor_core.plugin import KorPlugin
from kor_core.testing import EchoProvider, ScriptedProvider
from kor_core.testing.faults import Slow
from kor_core.testing.replies import Reply
from kor_core.testing.upstream import Upstream


def echoing(name: str, **tables: Any) -> dict[str, Any]:
    return {"llm": {"default": {"model": f"echo:{name}"}}, **tables}


def name_of(app: Any) -> str:
    return app.kernel().model_selector.get_model().model_name


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


def calling(upstream: Upstream, model: str = "gpt-4o", **llm: Any) -> dict[str, Any]:
    openai = {"base_url": upstream.openai_url, "api_key": "sk-ours"}
    default = {"provider": "openai", "model": model}
    return {"llm": {"default": default, "providers": {"openai": openai}, **llm}}


# --- what is new ------------------------------------------------------------------------------


def test_whoever_asks_after_a_reload_gets_the_new_configuration():
    with create_container(echoing("old")) as app:
        old = app.kernel()
        reload(app, echoing("new"))

        assert "new" == name_of(app)
        assert "new" == app.config.operator().llm.default.model.partition(":")[2]
        assert app.kernel() is app.kernel() is not old
        assert app.llm.selector() is app.kernel().model_selector


def test_without_a_source_the_files_are_read_again(clean_machine: Path):
    config = clean_machine / "config.toml"
    config.write_text('[llm.default]\nmodel = "echo:old"\n')
    with create_container() as app:
        config.write_text('[llm.default]\nmodel = "echo:new"\n')
        reload(app)

        assert "new" == name_of(app)


def test_without_a_source_it_is_the_one_of_the_creation_also_after_another():
    with create_container(echoing("first")) as app:
        reload(app, echoing("second"))
        reload(app)

        assert "first" == name_of(app)


def test_get_kernel_serves_the_new_configuration_of_the_default_container(clean_machine: Path):
    config = clean_machine / "config.toml"
    config.write_text('[llm.default]\nmodel = "echo:old"\n')
    try:
        assert "old" == get_kernel().model_selector.get_model().model_name

        config.write_text('[llm.default]\nmodel = "echo:new"\n')
        reload(default_container())

        assert "new" == get_kernel().model_selector.get_model().model_name
    finally:
        reset_kernel()


class Service:
    def __init__(self, selector: Any) -> None:
        self.selector = selector
        self.closed = False

    def close(self) -> None:
        self.closed = True
        if self.selector.get_model().model_name == "stubborn":
            raise OSError("planted")


class Mine(KorContainer):
    kor = Container(ApplicationContainer)
    service = Singleton(Service, kor.llm.selector)


def test_services_of_ones_own_that_depend_on_it_are_renewed():
    with create_container(echoing("old"), container=Mine) as app:
        old = app.service()
        reload(app, echoing("new"))

        assert "new" == app.service().selector.get_model().model_name
        assert "old" == old.selector.get_model().model_name
        assert not old.closed


def test_a_service_built_between_two_reloads_is_closed_by_the_one_after():
    """Not by the next one: calls may be using it still."""
    with create_container(echoing("old"), container=Mine) as app:
        reload(app, echoing("second"))
        service = app.service()
        reload(app, echoing("third"))
        assert not service.closed

        reload(app, echoing("fourth"))
        assert service.closed


def test_a_closer_that_fails_is_logged_and_the_new_configuration_is_in_force(caplog):
    with create_container(echoing("old"), container=Mine) as app:
        reload(app, echoing("stubborn"))
        app.service()
        reload(app, echoing("third"))
        with caplog.at_level(logging.WARNING, "kor_containers.reloading"):
            reload(app, echoing("fourth"))

        assert "did not close" in caplog.text
        assert "fourth" == name_of(app.kor)


def test_a_container_that_holds_no_application_is_refused():
    class Other(KorContainer):
        word = Singleton(str, "hello")

    with pytest.raises(ContainerError, match="holds 0 ApplicationContainers"):
        reload(Other(), {})


def test_a_derived_container_is_reloaded_alone():
    with create_container(echoing("old")) as app:
        child = app.derive({"llm.echo": EchoProvider()})
        reload(child, echoing("new"))
        reload(child, echoing("newer"))

        assert ("old", "newer") == (name_of(app), name_of(child))
        assert app.network.transport() is child.network.transport()
        child.close()
        app.network.transport().check("http://127.0.0.1/")  # it is open


# --- what survives ----------------------------------------------------------------------------


def test_connections_plugins_and_what_was_registered_by_hand_survive():
    begun = []

    class Plugin(KorPlugin):
        id = "counting"

        def initialize(self, context):
            begun.append(context.settings)
            context.registry.register_service("clock", "of the plugin")

    with create_container(echoing("old"), plugins=[Plugin()]) as app:
        app.kernel().llm_registry.register(ScriptedProvider(["Hi!"], id="mine"))
        app.kernel().registry.register_service("mail", "by hand")
        paths = ["network.transport", "llm.openai", "llm.litellm", "llm.vendors", "llm.catalogue"]
        paths += ["policies.state", "policies.breakers", "policies.latencies", "policies.cache"]
        before = [app.place()[0].give(path, None) for path in paths]
        for turn in range(3):
            reload(app, {"llm": {"default": {"model": "mine:any"}, "unknown_purpose": "default"}})

            assert before == [app.place()[0].give(path, None) for path in paths], turn
        kernel = app.kernel()

        assert 1 == len(begun)
        assert "Hi!" == kernel.model_selector.get_model().generate("Hello!")
        assert "by hand" == kernel.registry.get_service("mail")
        assert "of the plugin" == kernel.registry.get_service("clock")


def test_policies_whose_settings_changed_are_new_and_the_others_are_not():
    policies = {"breaker": {"failures": 2}, "cache": {"entries": 8}}
    with create_container(echoing("any")) as app:
        cache, breakers = app.policies.cache(), app.policies.breakers()
        state, concurrency = app.policies.state(), app.policies.concurrency()
        configuration = echoing("any")
        configuration["llm"] |= {"policies": policies}
        reload(app, configuration)
        chosen = app.policies.cache(), app.policies.breakers()

        assert cache is None
        assert chosen[0] is not None
        assert chosen[1] is not breakers
        assert (state, concurrency) == (app.policies.state(), app.policies.concurrency())

        configuration["llm"] |= {"models": {"any": {"concurrency": 1}}}
        reload(app, configuration)

        assert chosen == (app.policies.cache(), app.policies.breakers())
        assert concurrency is not app.policies.concurrency()


def test_no_new_connection_is_opened(upstream):
    with create_container(calling(upstream)) as app:
        app.kernel().model_selector.get_model().generate("Hello!")
        reload(app, calling(upstream, "gpt-4o-mini"))
        app.kernel().model_selector.get_model().generate("Hello!")

    assert ["gpt-4o", "gpt-4o-mini"] == [request.model for request in upstream.requests]
    assert 1 == upstream.accepted_connections


def test_an_open_breaker_of_an_unchanged_model_stays_open(upstream):
    policies = {"retries": 0, "breaker": {"failures": 1, "cooldown": 600}}
    with create_container(calling(upstream, policies=policies)) as app:
        upstream.fail(500)
        with pytest.raises(LLMError):
            app.kernel().model_selector.get_model().generate("Hello!")
        reload(app, calling(upstream, policies=policies, unknown_purpose="default"))
        with pytest.raises(CircuitOpenError):
            app.kernel().model_selector.get_model().generate("Hello!")

        assert 1 == len(upstream.requests)
        assert "open for another" in app.kernel().model_selector.explain().rejected[0].reason

        reload(app, calling(upstream, "gpt-4o-mini", policies=policies))
        assert "Hello!" == app.kernel().model_selector.get_model().generate("Hello!")


def test_what_was_spent_stays_spent(upstream):
    llm = {
        "models": {"gpt-4o": {"input_price": 1, "output_price": 1}},
        "budgets": {"all": {"amount": 0.001, "per": "month"}},
    }
    chosen = {"max_tokens": 600}
    with create_container(calling(upstream, **llm)) as app:
        upstream.reply(Reply("Hi!", input_tokens=1, output_tokens=600))
        app.kernel().model_selector.get_model().chat("Hello!", settings=chosen)
        reload(app, calling(upstream, **llm, unknown_purpose="default"))
        with pytest.raises(LLMError, match=r"budget of US\$ 0.001"):
            app.kernel().model_selector.get_model().chat("Hello!", settings=chosen)


def test_an_override_works_after_a_reload_as_before():
    """The kept objects keep what they depend on, too: a fake for a provider is seen."""
    configuration = {"llm": {"default": {"model": "openai:gpt-4o"}}}
    fake = ScriptedProvider(["fake"] * 3, id="openai")
    openai = {"providers": {"openai": {"api_key": "sk"}}}
    configuration["llm"] |= openai
    with create_container(configuration) as app:
        reload(app)
        catalogue = app.llm.catalogue()
        with app.override({"llm.openai": fake}):
            assert "fake" == app.kernel().model_selector.get_model().generate("Hello!")
        derived = app.derive({"llm.openai": fake})

        assert "fake" == derived.kernel().model_selector.get_model().generate("Hello!")
        assert app.llm.catalogue() is catalogue


def test_a_reload_inside_an_override_leaves_no_fake_behind():
    fake = ScriptedProvider(["fake"], id="openai")
    keyed = {"openai": {"api_key": "sk"}}
    configuration = {"llm": {"default": {"model": "openai:gpt-4o"}, "providers": keyed}}
    with create_container(configuration) as app:
        with app.override({"llm.openai": fake}):
            reload(app)
            assert "fake" == app.kernel().model_selector.get_model().generate("Hello!")

        assert app.llm.catalogue().providers["openai"] is app.llm.openai()
        assert app.llm.openai() is not fake


# --- calls in flight --------------------------------------------------------------------------


async def test_a_stream_in_flight_ends_on_what_it_began_with(upstream):
    words = " ".join(f"word{number}" for number in range(20))
    upstream.play(Slow(0.02), words)
    with create_container(calling(upstream)) as app:
        handle = app.kernel().model_selector.get_model()
        async with handle.astream("Hello!") as stream:
            pieces = [(await anext(stream)).text]
            for turn in range(3):
                reload(app, calling(upstream, f"gpt-{turn}"))
            pieces += [delta.text async for delta in stream]
        answer = await handle.agenerate("again")
        await app.kernel().model_selector.get_model().agenerate("new")

    assert words == "".join(pieces) == stream.response.text
    assert "again" == answer
    assert ["gpt-4o", "gpt-4o", "gpt-2"] == [request.model for request in upstream.requests]


def test_calls_never_fail_while_threads_reload(upstream):
    """Each call is served, by one of the configurations, whatever happens meanwhile."""
    rounds = 15
    with create_container(calling(upstream)) as app, ThreadPoolExecutor(4) as pool:

        def call(number: int) -> str:
            return app.kernel().model_selector.get_model().generate(f"{number}")

        answers = [pool.submit(call, number) for number in range(rounds * 4)]
        reloads = [
            pool.submit(reload, app, calling(upstream, f"gpt-{number}")) for number in range(rounds)
        ]
        failures = [done.exception() for done in reloads]
        found = [answer.result() for answer in answers]
        in_force = [each for each in app.place()[0].overrides() if each.kept]

    assert [None] * rounds == failures
    assert [f"{number}" for number in range(rounds * 4)] == found
    assert 2 == len(in_force)


# --- what is wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[llm\n",
        "[llm.defualt]\nmodel = 'echo:new'\n",
        '[llm.default]\nmodel = "ehco:new"\n',
        '[llm.default]\nmodel = "echo:new"\ntemperature = "warm"\n',
    ],
    ids=["broken", "unknown-key", "unknown-provider", "wrong-type"],
)
def test_a_file_that_is_wrong_changes_nothing(clean_machine: Path, text: str):
    config = clean_machine / "config.toml"
    config.write_text('[llm.default]\nmodel = "echo:old"\n')
    with create_container() as app:
        kernel = app.kernel()
        config.write_text(text)
        with pytest.raises(ConfigurationError, match=r"config\.toml"):
            reload(app)

        assert app.kernel() is kernel
        assert [] == app.place()[0].overrides()
        assert "old" == name_of(app)


def test_what_needs_a_restart_is_refused_with_every_key_and_its_place(clean_machine: Path):
    config = clean_machine / "config.toml"
    config.write_text('[llm.default]\nmodel = "echo:old"\n[state]\nprefix = "mine"\n')
    with create_container() as app:
        kernel = app.kernel()
        config.write_text(
            '[llm.default]\nmodel = "echo:new"\n'
            "[network]\nconnect_timeout = 1\n"
            '[plugins]\ndisabled = ["x"]\n'
        )
        with pytest.raises(ConfigurationError, match="takes a restart") as caught:
            reload(app)

        found = [(problem.key, problem.origin) for problem in caught.value.problems]
        assert app.kernel() is kernel
    assert [
        ("network.connect_timeout", "config.toml:4"),
        ("plugins.disabled", "config.toml:6"),
        ("state.prefix", "config.toml:4"),
    ] == [(key, Path(origin).name) for key, origin in found]


# --- tenants ----------------------------------------------------------------------------------


def test_tenants_keep_what_they_had_until_they_are_reloaded():
    with create_container(echoing("old")) as app, TenantKernels(app, {"acme": {}}) as tenants:
        with tenants.use("acme") as kernel:
            assert "old" == kernel.model_selector.get_model().model_name
        reload(app, echoing("new"))
        with tenants.use("acme") as kernel:
            assert "old" == kernel.model_selector.get_model().model_name
            tenants.reload_all()
            assert "old" == kernel.model_selector.get_model().model_name
            with tenants.use("acme") as new:
                assert "new" == new.model_selector.get_model().model_name

        assert ("acme",) == tenants.active


async def test_all_tenants_may_be_reloaded_whatever_they_are_derived_from():
    async def overlay(tenant):
        return {"llm": {"purposes": {"own": {"model": f"echo:{tenant}"}}}}

    async with create_container(echoing("old")) as app, TenantKernels(app, overlay) as tenants:
        tenants.reload_base(echoing("base"))
        async with tenants.use("acme") as before:
            tenants.reload_all()
            async with tenants.use("acme") as after:
                assert before is not after
                assert "base" == after.model_selector.get_model().model_name
                assert "acme" == after.model_selector.get_model("own").model_name


def test_no_tenant_is_built_from_what_was_before_the_reload():
    """One that is being derived while all are reloaded is derived again."""
    with create_container(echoing("old")) as app:
        looked = threading.Event()
        go_on = threading.Event()

        def overlay(tenant: str) -> dict[str, Any]:
            return {"llm": {"default": {"temperature": 0.5}}}

        with TenantKernels(app, overlay) as tenants, ThreadPoolExecutor(1) as pool:
            derive = tenants._derivation.lease

            def slowly(*arguments: Any) -> Any:
                lease = derive(*arguments)
                if not looked.is_set():
                    looked.set()
                    go_on.wait(20)
                return lease

            tenants._derivation.lease = slowly

            def ask() -> str:
                with tenants.use("acme") as kernel:
                    return kernel.model_selector.get_model().model_name

            asked = pool.submit(ask)
            looked.wait(20)
            reload(app, echoing("new"))
            tenants.reload_all()
            go_on.set()

            assert "new" == asked.result(20)


# --- what is left -----------------------------------------------------------------------------


def test_a_hundred_reloads_leave_nothing_behind(upstream):
    """Old kernels are freed, memory is flat, no thread, socket or override piles up."""
    with create_container(calling(upstream)) as app:
        kernels = []

        def turn(number: int) -> None:
            reload(app, calling(upstream, f"gpt-{number}", purposes={f"p{number}": {"model": "x"}}))
            app.kernel().model_selector.get_model().generate("Hello!")
            kernels.append(ref(app.kernel()))

        for number in range(10):
            turn(number)
        threads = threading.active_count()
        tracemalloc.start()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(100):
            turn(number)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()

        assert 2 == sum(kernel() is not None for kernel in kernels)
        assert 2 == len(app.place()[0].overrides())
        assert threads == threading.active_count()
        assert 1 == upstream.accepted_connections
        assert grown < 500_000  # the records of a hundred requests, and not a kernel each
        with pytest.raises(PurposeNotFoundError):
            app.kernel().model_selector.get_model("p98")


# Renewed by a reload, since they hold nothing that a call would miss; or untouched by it, since
# they depend on no setting (log, sink, latencies).
RENEWED = {"log", "sink", "latencies", "meter", "retrier", "pipeline", "operator"}


def test_of_every_policy_it_is_decided_whether_it_outlives_a_reload():
    lasting = {path.removeprefix("policies.") for path in _LASTING if path.startswith("policies.")}

    assert set(PolicyContainer.providers) == lasting | RENEWED
    assert not lasting & RENEWED
