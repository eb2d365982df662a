"""One kernel per tenant: from its source, ambient inside `use`, closed when it is let go."""

import asyncio
import contextvars
import gc
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from dependency_injector import providers

from kor_containers import ApplicationContainer, KorContainer, TenantKernels, create_container
from kor_containers.providers import Singleton
from kor_core.errors import (
    ConfigurationError,
    ContainerError,
    KernelError,
    TenantError,
    TenantNotFoundError,
)
from kor_core.kernel import get_kernel, reset_kernel, use_kernel
from kor_core.llm.base import BaseLLMProvider
from kor_core.llm.registry import LLMRegistry
from kor_core.plugin import KorPlugin
from kor_core.settings.overlay import settings_for_tenant

ECHO = {"llm": {"default": {"provider": "echo", "model": "plain"}}}


def purpose(model):
    return {"llm": {"purposes": {"coding": {"provider": "echo", "model": model}}}}


OVERLAYS = {name: purpose(f"coder-of-{name}") for name in ("acme", "beta", "carol", "dave")}


class Closed:
    """Counts how often the containers of tenants are closed, by tenant."""

    def __init__(self):
        self.tenants = []

    def made(self, settings):
        return _Part(self, settings.tenant)


class _Part:
    def __init__(self, closed, tenant):
        self.closed = closed
        self.tenant = tenant

    def close(self):
        self.closed.tenants.append(self.tenant)
        if self.tenant == "carol":
            raise RuntimeError("carol does not close")


@pytest.fixture(autouse=True)
def no_default():
    reset_kernel()
    yield
    reset_kernel()


@pytest.fixture
def closed():
    return Closed()


@pytest.fixture
def app(closed):
    class App(KorContainer):
        kor = providers.Container(ApplicationContainer)
        part = Singleton(closed.made, kor.config.settings)

    with create_container(ECHO, container=App) as app:
        yield app


@pytest.fixture
def tenants(app):
    with TenantKernels(app, OVERLAYS) as tenants:
        yield tenants


def touch(tenants, *names):
    """Use tenants one after another, so that each has something to close."""
    for name in names:
        with tenants.use(name) as kernel:
            kernel.container.part()


def coder():
    return get_kernel().model_selector.get_model("coding").model_name


# --- use ---


def test_inside_use_the_kernel_is_the_tenants_and_the_current_one(tenants):
    with tenants.use("acme") as kernel:
        found = get_kernel()

    assert found is kernel
    assert ("acme", "coder-of-acme") == (
        kernel.tenant,
        kernel.model_selector.get_model("coding").model_name,
    )
    assert ("acme",) == tenants.active


async def test_async_use_serves_too_and_tasks_do_not_see_each_others(tenants):
    async def ask(name):
        async with tenants.use(name) as kernel:
            await asyncio.sleep(0)
            return kernel.tenant, coder()

    found = await asyncio.gather(*(ask(name) for name in OVERLAYS))

    assert [(name, f"coder-of-{name}") for name in OVERLAYS] == found


async def test_tasks_started_inside_inherit_the_tenant(tenants):
    async with tenants.use("acme"):
        found = await asyncio.create_task(asyncio.to_thread(coder))

    assert "coder-of-acme" == found


def test_uses_nest_and_the_outer_is_current_again(tenants):
    with tenants.use("acme"):
        with tenants.use("beta"):
            inner = coder()
        with tenants.use("acme"):
            again = coder()
        outer = coder()

    assert ("coder-of-beta", "coder-of-acme", "coder-of-acme") == (inner, again, outer)


def test_the_kernel_is_built_once_and_kept(tenants):
    with tenants.use("acme") as first:
        pass
    with tenants.use("acme") as second:
        pass

    assert first is second


def test_a_use_is_one_block(tenants):
    use = tenants.use("acme")
    with use, pytest.raises(KernelError, match="for each block"):
        use.__enter__()
    with use as kernel:
        pass

    assert "acme" == kernel.tenant
    assert "<TenantUse of 'acme'>" == repr(use)


def test_an_error_inside_passes_through_and_the_tenant_is_given_back(app, closed):
    def fail():
        with tenants.use("acme") as kernel:
            kernel.container.part()
            raise ZeroDivisionError

    with TenantKernels(app, OVERLAYS, max_active=0) as tenants:
        with pytest.raises(ZeroDivisionError):
            fail()
        let_go = list(closed.tenants)

    assert ["acme"] == let_go


def test_what_is_registered_on_a_tenants_kernel_is_that_tenants_alone(tenants, app):
    with tenants.use("acme") as acme, tenants.use("beta") as beta:
        acme.registry.register_service("clock", "acme's")
        app.kor.kernel().registry.register_service("bell", "everyone's")

        assert not beta.registry.has_service("clock")
        assert not app.kor.kernel().registry.has_service("clock")
        assert "everyone's" == beta.registry.get_service("bell")


def test_plugins_are_initialised_once_for_all():
    class Counting(KorPlugin):
        id = "counting"
        count = 0

        def initialize(self, context):
            type(self).count += 1
            context.registry.register_service("counter", self)

    with create_container(ECHO, plugins=[Counting()]) as app, TenantKernels(app, OVERLAYS) as all_:
        for name in OVERLAYS:
            with all_.use(name) as kernel:
                assert kernel.registry.has_service("counter")

    assert 1 == Counting.count


# --- the container ---


def test_the_whole_container_of_a_tenant_is_given_and_shares_what_is_shared(tenants, app):
    with tenants.use("acme") as kernel:
        container = tenants.container("acme")

        assert container.kor.kernel() is kernel
        assert "acme" == container.part().tenant
        assert container.kor.llm.catalogue() is app.kor.llm.catalogue()
        assert container.kor.network.transport() is app.kor.network.transport()
        assert app.part().tenant is None


def test_no_shared_binding_depends_on_the_settings(tenants, app):
    shared = set(tenants.shared_bindings())
    edges = app.place()[0].top.graph.edges

    def reached(path):
        return {path}.union(*(reached(need) for need in edges[path]))

    assert {"kor.llm.catalogue", "kor.llm.openai", "kor.network.transport"} <= shared
    assert not any("kor.config.settings" in reached(path) for path in shared)
    assert {
        "kor.config.settings",
        "kor.llm.registry",
        "kor.llm.selector",
        "kor.llm.settings",
        "kor.kernel",
        "part",
    } == (edges.keys() - shared)


def test_shared_bindings_are_the_very_objects_in_every_tenant(tenants, app):
    with tenants.use("acme"), tenants.use("beta"):
        for path in tenants.shared_bindings():
            found = []
            for container in (app, tenants.container("acme"), tenants.container("beta")):
                for name in path.split("."):
                    container = getattr(container, name)  # noqa: PLW2901  # walks down a path
                found.append(container())
            assert found[0] is found[1] is found[2], path


def test_the_application_container_itself_serves_and_so_does_a_part_of_a_users(app):
    with create_container(ECHO) as plain, TenantKernels(plain, OVERLAYS) as tenants:
        with tenants.use("acme"):
            found = coder()
        shared = tenants.shared_bindings()
    with TenantKernels(app.kor.container, OVERLAYS) as inner, inner.use("beta"):
        other = coder()
        part = inner.shared_bindings()

    assert ("coder-of-acme", "coder-of-beta") == (found, other)
    assert shared == part


def test_a_container_without_an_application_container_is_refused():
    class Empty(KorContainer):
        word = Singleton(str)

    class Two(KorContainer):
        one = providers.Container(ApplicationContainer)
        two = providers.Container(ApplicationContainer)

    with pytest.raises(ContainerError, match="holds 0 ApplicationContainers"):
        TenantKernels(Empty(), OVERLAYS)
    with pytest.raises(ContainerError, match="holds 2 ApplicationContainers"):
        TenantKernels(Two(), OVERLAYS)
    with pytest.raises(ContainerError, match="holds 0 ApplicationContainers"):
        TenantKernels("app", OVERLAYS)


# --- the default is refused ---


def test_without_a_current_kernel_the_default_is_refused_while_tenants_are_open(app):
    with TenantKernels(app, OVERLAYS) as tenants:
        with tenants.use("acme"), ThreadPoolExecutor(1) as pool:
            lost = pool.submit(get_kernel)
            kept = pool.submit(contextvars.copy_context().run, coder)
        with pytest.raises(KernelError, match="context was lost"):
            lost.result()

    assert "coder-of-acme" == kept.result()
    assert get_kernel().tenant is None


def test_the_default_may_be_allowed(app):
    with TenantKernels(app, OVERLAYS, allow_default=True):
        assert get_kernel().tenant is None


def test_a_forgotten_one_refuses_nothing(app):
    TenantKernels(app, OVERLAYS)
    gc.collect()

    assert get_kernel().tenant is None


def test_an_explicit_kernel_is_given_though_tenants_are_open(tenants, app):
    with use_kernel(app.kor.kernel()):
        assert get_kernel() is app.kor.kernel()


# --- how many and how long ---


def test_the_least_recently_used_is_let_go_beyond_max_active(app, closed):
    with TenantKernels(app, OVERLAYS, max_active=2) as tenants:
        touch(tenants, "acme", "beta", "acme", "dave")
        active, let_go = tenants.active, list(closed.tenants)

    assert ("acme", "dave") == active
    assert ["beta"] == let_go


def test_kernels_in_use_are_never_closed_and_may_exceed_max_active(app, closed):
    with TenantKernels(app, OVERLAYS, max_active=1) as tenants:
        with tenants.use("acme") as acme, tenants.use("beta") as beta:
            acme.container.part(), beta.container.part()
            touch(tenants, "dave")
            inside = list(closed.tenants)
            answer = acme.model_selector.get_model("coding").generate("hi")
        after = tenants.active

    assert ([], "Echo: hi") == (inside, answer)
    assert ("acme",) == after
    assert ["dave", "beta", "acme"] == closed.tenants


def test_idle_kernels_are_let_go_at_the_next_use_or_sweep(app, closed, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("kor_containers.pool.monotonic", lambda: now[0])
    with TenantKernels(app, OVERLAYS, idle_seconds=10) as tenants:
        touch(tenants, "acme")
        now[0] = 6
        touch(tenants, "beta")
        now[0] = 11
        tenants.sweep()
        swept = tenants.active
        with tenants.use("dave"):
            now[0] = 30
            inside = tenants.active
        touch(tenants, "acme")
        after = tenants.active

    assert ("beta",) == swept
    assert ("beta", "dave") == inside
    assert ("acme", "dave") == after


def test_an_idle_kernel_is_built_again_from_what_its_source_says_now(app, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("kor_containers.pool.monotonic", lambda: now[0])
    overlays = {"acme": purpose("old")}
    with TenantKernels(app, overlays, idle_seconds=10) as tenants:
        touch(tenants, "acme")
        overlays["acme"] = purpose("new")
        now[0] = 10
        with tenants.use("acme"):
            found = coder()

    assert "new" == found


@pytest.mark.parametrize("wrong", [{"max_active": -1}, {"idle_seconds": float("nan")}])
def test_bounds_that_make_no_sense_are_refused(app, wrong):
    with pytest.raises(ConfigurationError, match="at least 0"):
        TenantKernels(app, OVERLAYS, **wrong)


def test_a_failing_closer_is_logged_and_not_the_callers_problem(app, closed, caplog):
    caplog.set_level(logging.WARNING, logger="kor_containers.tenants")
    with TenantKernels(app, OVERLAYS, max_active=0) as tenants:
        touch(tenants, "carol", "acme")

    assert ["carol", "acme"] == closed.tenants
    assert ["did not close cleanly"] == [record.getMessage()[-22:-1] for record in caplog.records]


async def test_async_uses_close_with_aclose(app, closed):
    async with TenantKernels(app, OVERLAYS, max_active=0) as tenants:
        async with tenants.use("acme") as kernel:
            kernel.container.part()
        let_go = list(closed.tenants)

    assert ["acme"] == let_go


# --- the end ---


def test_closing_closes_every_kernel_and_not_the_application(app, closed):
    tenants = TenantKernels(app, OVERLAYS)
    touch(tenants, "acme", "beta")

    tenants.close()
    tenants.close()

    assert ["acme", "beta"] == sorted(closed.tenants)
    assert "Echo: hi" == app.kor.llm.selector().get_model().generate("hi")
    with pytest.raises(KernelError, match="TenantKernels is closed"), tenants.use("acme"):
        pass
    with pytest.raises(KernelError, match="TenantKernels is closed"):
        tenants.reload("acme")


async def test_errors_of_closers_come_out_as_one_group_and_all_are_closed(app, closed):
    tenants = TenantKernels(app, OVERLAYS)
    touch(tenants, "carol", "beta")
    with pytest.raises(ExceptionGroup) as caught:
        await tenants.aclose()
    others = TenantKernels(app, OVERLAYS)
    touch(others, "carol")
    with pytest.raises(ExceptionGroup):
        others.close()

    assert caught.value.subgroup(RuntimeError) is not None
    assert ["beta", "carol", "carol"] == sorted(closed.tenants)


def test_a_kernel_in_use_is_closed_when_its_use_ends(app, closed):
    tenants = TenantKernels(app, OVERLAYS)
    with tenants.use("acme") as kernel:
        kernel.container.part()
        tenants.close()
        inside = list(closed.tenants)
        answer = kernel.model_selector.get_model("coding").generate("hi")

    assert ([], "Echo: hi") == (inside, answer)
    assert ["acme"] == closed.tenants


def test_the_repr_counts_and_names_no_tenant(tenants):
    touch(tenants, "acme", "beta")

    assert "<TenantKernels 2 active>" == repr(tenants)


# --- reload ---


def test_reload_reads_the_overlay_again_and_calls_in_flight_finish_on_the_old(app, closed):
    overlays = {"acme": purpose("old")}
    with TenantKernels(app, overlays) as tenants:
        with tenants.use("acme") as old:
            old.container.part()
            overlays["acme"] = purpose("new")
            tenants.reload("acme")
            in_flight = coder()
            with tenants.use("acme") as new:
                others = coder()
            open_yet = list(closed.tenants)
            answer = old.model_selector.get_model("coding").generate("hi")
        let_go = list(closed.tenants)

    assert ("old", "new") == (in_flight, others)
    assert new is not old
    assert ([], "Echo: hi", ["acme"]) == (open_yet, answer, let_go)


def test_a_reload_that_fails_leaves_the_old_kernel(app):
    overlays = {"acme": purpose("old")}
    with TenantKernels(app, overlays) as tenants:
        touch(tenants, "acme")
        overlays["acme"] = {"network": {}}
        with pytest.raises(ConfigurationError):
            tenants.reload("acme")
        with tenants.use("acme"):
            found = coder()

    assert "old" == found


def test_a_tenant_that_is_gone_loses_its_kernel_at_reload(app, closed):
    overlays = {"acme": purpose("old")}
    with TenantKernels(app, overlays) as tenants:
        touch(tenants, "acme")
        del overlays["acme"]
        touch(tenants, "acme")
        for _ in range(2):
            with pytest.raises(TenantNotFoundError):
                tenants.reload("acme")
        with pytest.raises(TenantNotFoundError), tenants.use("acme"):
            pass

    assert ["acme"] == closed.tenants


async def test_what_reload_returns_can_be_awaited(app):
    with TenantKernels(app, OVERLAYS) as tenants:
        await tenants.reload("acme")
        active = tenants.active
        await tenants.reload_base()

    assert ("acme",) == active


def test_reload_base_reads_the_configuration_again_for_all_tenants(clean_machine):
    file = clean_machine / "config.toml"
    file.write_text('[llm.default]\nmodel = "echo:old"\n')
    with create_container(file) as app, TenantKernels(app, {"acme": {}, "beta": {}}) as tenants:
        touch_plain(tenants, "beta")
        with tenants.use("acme") as old:
            file.write_text('[llm.default]\nmodel = "echo:new"\n')
            tenants.reload_base()
            active = tenants.active
            in_flight = old.model_selector.get_model().model_name
            with tenants.use("acme") as new:
                found = new.model_selector.get_model().model_name
            answer = old.model_selector.get_model().generate("hi")
        tenants.reload_base({"llm": {"default": {"model": "echo:given"}}})
        with tenants.use("beta") as beta:
            given = beta.model_selector.get_model().model_name
        operator = app.kernel().model_selector.get_model().model_name

    assert () == active
    assert ("old", "new", "given", "old") == (in_flight, found, given, operator)
    assert "Echo: hi" == answer


def touch_plain(tenants, *names):
    for name in names:
        with tenants.use(name):
            pass


@pytest.mark.parametrize(
    "broken", ["[llm.default", '[llm.default]\nprovider = "ech"\nmodel = "x"\n']
)
def test_a_base_that_is_wrong_changes_nothing(clean_machine, broken):
    file = clean_machine / "config.toml"
    file.write_text('[llm.default]\nmodel = "echo:old"\n')
    with create_container(file) as app, TenantKernels(app, {"acme": {}}) as tenants:
        touch_plain(tenants, "acme")
        file.write_text(broken)
        with pytest.raises(ConfigurationError):
            tenants.reload_base()
        active = tenants.active
        with tenants.use("acme") as kernel:
            found = kernel.model_selector.get_model().model_name

    assert (("acme",), "old") == (active, found)


class Heavy(BaseLLMProvider):
    """A provider that is part of the shared infrastructure, and is closed with it."""

    id = "heavy"

    def __init__(self, log):
        self.log = log

    def create_model(self, model_name, config):
        raise NotImplementedError

    def close(self):
        self.log.append("closed")


def test_a_reloaded_base_is_closed_when_its_last_tenant_has_left():
    log = []

    def heavy(operator):
        return Heavy([]) if operator.llm.default.model == "echo:first" else Heavy(log)

    class App(KorContainer):
        kor = providers.Container(ApplicationContainer)
        heavy_ = Singleton(heavy, kor.config.operator)

    first, second = ({"llm": {"default": {"model": f"echo:{n}"}}} for n in ("first", "second"))
    app = create_container(first, container=App)
    with app, TenantKernels(app, {"acme": {}, "beta": {}}) as tenants:
        tenants.reload_base(second)
        with tenants.use("acme") as acme:
            acme.container.heavy_()
            with tenants.use("beta") as beta:
                shared = beta.container.heavy_() is acme.container.heavy_()
            tenants.reload_base(first)
            inside = list(log)
        after = list(log)

    assert shared
    assert ([], ["closed"]) == (inside, after)


# --- errors ---


@pytest.mark.parametrize(
    "tenant",
    [
        *("../acme", "..", ".", ".acme", "", "a/b", "a\\b", "/etc/passwd", "acme\n", "a\0b"),
        *("a" * 129, "-rf", "c:x", "ä", " acme", None, 3, b"acme"),
    ],
)
def test_an_id_that_could_be_a_path_is_refused(tenants, tenant):
    with pytest.raises(TenantNotFoundError, match="an id is 1 to 128 letters"):
        tenants.use(tenant)
    with pytest.raises(TenantNotFoundError):
        tenants.reload(tenant)
    with pytest.raises(TenantNotFoundError):
        tenants.container(tenant)


def test_an_unknown_tenant_is_told_of_no_other(tenants):
    touch(tenants, "acme", "beta")

    with pytest.raises(TenantNotFoundError) as caught, tenants.use("acmee"):
        pass

    assert "acmee" == caught.value.tenant
    assert not any(f"'{name}'" in str(caught.value) for name in OVERLAYS)


def test_a_broken_overlay_says_all_that_is_wrong_and_leaves_others_serving(app):
    broken = {"network": {}, "llm": {"default": {"modl": "x"}}}
    with TenantKernels(app, {**OVERLAYS, "broken": broken}) as tenants:
        for _ in range(2):
            with pytest.raises(ConfigurationError) as caught, tenants.use("broken"):
                pass
        with tenants.use("acme"):
            found = coder()

    assert ["llm.default.modl", "network"] == sorted(p.key for p in caught.value.problems)
    assert "overlay of tenant 'broken'" == caught.value.problems[0].origin
    assert "coder-of-acme" == found


BROKEN = {"network": {}}


@pytest.fixture
def now(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("kor_containers.refusals.monotonic", lambda: now[0])
    return now


@pytest.fixture
def checks(monkeypatch):
    """The tenants whose overlays were checked."""
    checked = []

    def check(base, tenant, *args, **kwargs):
        checked.append(tenant)
        return settings_for_tenant(base, tenant, *args, **kwargs)

    monkeypatch.setattr("kor_containers.derivation.settings_for_tenant", check)
    return checked


def refuse(tenants, tenant="acme"):
    with pytest.raises(ConfigurationError) as caught, tenants.use(tenant):
        pass
    return caught.value


def test_a_refused_overlay_is_not_checked_at_each_request(app, now, checks):
    with TenantKernels(app, lambda _: BROKEN) as tenants:
        first, *others = [refuse(tenants) for _ in range(3)]
        once = len(checks)
        now[0] += 5
        refuse(tenants)

    assert 3 == len({first, *others})  # each with a traceback of its own
    assert {first.problems} == {other.problems for other in others}
    assert (1, 2) == (once, len(checks))


async def test_async_code_is_refused_alike(app, now, checks, tmp_path):
    (tmp_path / "acme.toml").write_text("[network]\n")
    async with TenantKernels(app, tmp_path) as tenants:
        for _ in range(3):
            with pytest.raises(ConfigurationError, match=r"acme\.toml"):
                async with tenants.use("acme"):
                    pass

    assert ["acme"] == checks


def test_an_overlay_that_was_mended_serves_at_once(app, now):
    overlays = {"acme": dict(BROKEN)}
    with TenantKernels(app, overlays) as tenants:
        refuse(tenants)
        del overlays["acme"]["network"]
        overlays["acme"]["llm"] = OVERLAYS["acme"]["llm"]
        with tenants.use("acme"):
            found = coder()

    assert "coder-of-acme" == found


@pytest.mark.parametrize("change", [lambda t: t.reload_all(), lambda t: t.reload_base(ECHO)])
def test_below_another_configuration_each_overlay_is_checked_again(app, now, checks, change):
    with TenantKernels(app, {"acme": BROKEN}) as tenants:
        refuse(tenants)
        change(tenants)
        refuse(tenants)

    assert ["acme"] * 2 == checks


def test_tables_that_do_not_show_are_checked_each_time(app, now, checks):
    class Shy:
        def __repr__(self):
            raise ZeroDivisionError

    with TenantKernels(app, {"acme": {"network": Shy()}}) as tenants:
        refuse(tenants)
        refuse(tenants)

    assert ["acme"] * 2 == checks


def test_only_so_many_refusals_are_remembered(app, now, checks):
    with TenantKernels(app, lambda _: BROKEN) as tenants:
        for number in range(65):
            refuse(tenants, f"tenant-{number}")
        refuse(tenants, "tenant-1")
        remembered = len(checks)
        refuse(tenants, "tenant-0")

    assert (65, 66) == (remembered, len(checks))


def test_a_misspelt_provider_is_found_when_the_kernel_is_built_and_nothing_is_left(app, closed):
    overlay = {"llm": {"default": {"provider": "ehco", "model": "x"}}}
    with TenantKernels(app, {"acme": overlay}) as tenants:
        with pytest.raises(ConfigurationError, match="Did you mean 'echo'"), tenants.use("acme"):
            pass
        active = tenants.active

    assert () == active


async def test_a_kernel_that_cannot_be_built_from_async_code_leaves_nothing(app):
    overlay = {"llm": {"default": {"provider": "ehco", "model": "x"}}}
    async with TenantKernels(app, {"acme": overlay}) as tenants:
        with pytest.raises(ConfigurationError, match="Did you mean 'echo'"):
            async with tenants.use("acme"):
                pass

        assert () == tenants.active


# --- together: threads and tasks ---


class Slow:
    """A source that takes its time, and counts."""

    def __init__(self, seconds=0.05):
        self.seconds = seconds
        self.asked = []

    def __call__(self, tenant):
        self.asked.append(tenant)
        time.sleep(self.seconds)
        return OVERLAYS.get(tenant)


def test_a_kernel_is_built_once_however_many_threads_ask(app):
    source = Slow()
    start = threading.Barrier(8)

    def ask(_):
        start.wait()
        with tenants.use("acme") as kernel:
            return id(kernel)

    with TenantKernels(app, source) as tenants, ThreadPoolExecutor(8) as pool:
        found = set(pool.map(ask, range(8)))

    assert 1 == len(found)
    assert ["acme"] == source.asked


async def test_a_kernel_is_built_once_however_many_tasks_ask(app):
    asked = []

    async def source(tenant):
        asked.append(tenant)
        await asyncio.sleep(0.01)
        return OVERLAYS[tenant]

    async def ask():
        async with tenants.use("acme") as kernel:
            return id(kernel)

    async with TenantKernels(app, source) as tenants:
        found = set(await asyncio.gather(*(ask() for _ in range(50))))

    assert 1 == len(found)
    assert ["acme"] == asked


async def test_tasks_and_threads_build_once_together(app):
    source = Slow()

    def sync_ask():
        with tenants.use("acme") as kernel:
            return id(kernel)

    async def ask():
        async with tenants.use("acme") as kernel:
            return id(kernel)

    async with TenantKernels(app, source) as tenants:
        threads = (asyncio.to_thread(sync_ask) for _ in range(4))
        found = set(await asyncio.gather(*threads, *(ask() for _ in range(4))))

    assert 1 == len(found)
    assert ["acme"] == source.asked


async def test_a_cancelled_builder_harms_nobody_who_waits(app):
    asked = []

    async def source(tenant):
        asked.append(tenant)
        await asyncio.sleep(0.02)
        return OVERLAYS[tenant]

    async def ask():
        async with tenants.use("acme"):
            return coder()

    async with TenantKernels(app, source) as tenants:
        first, *others = [asyncio.create_task(ask()) for _ in range(5)]
        await asyncio.sleep(0.005)
        first.cancel()
        others[0].cancel()
        found = await asyncio.gather(*others[1:])

    assert ["coder-of-acme"] * 3 == found
    assert first.cancelled()
    assert 2 == len(asked)


async def test_those_who_wait_get_the_error_of_the_builder_and_the_next_one_builds(app):
    answers = [None, OVERLAYS["acme"]]

    async def source(tenant):
        await asyncio.sleep(0.01)
        return answers.pop(0)

    async def ask():
        async with tenants.use("acme"):
            return coder()

    async with TenantKernels(app, source) as tenants:
        failed = await asyncio.gather(ask(), ask(), return_exceptions=True)
        found = await ask()

    assert [TenantNotFoundError] * 2 == [type(error) for error in failed]
    assert "coder-of-acme" == found


async def test_sync_code_does_not_wait_for_a_task_of_its_own_loop(app):
    """The task cannot go on while the loop's thread waits: both build, and one kernel serves."""
    release = threading.Event()
    waiting = threading.Event()

    def source(tenant):
        if threading.current_thread() is not main:
            waiting.set()
            release.wait(5)
        return OVERLAYS[tenant]

    async def ask():
        async with tenants.use("acme") as kernel:
            return kernel

    main = threading.current_thread()
    async with TenantKernels(app, source) as tenants:
        task = asyncio.create_task(ask())
        await asyncio.to_thread(waiting.wait, 5)
        with tenants.use("acme") as kernel:
            release.set()
        found = await task

    assert found is kernel


async def test_a_base_that_is_reloaded_while_a_tenant_is_built_is_used(app):
    async def source(tenant):
        tenants.reload_base({"llm": {"default": {"model": "echo:new"}}})
        return {}

    async with TenantKernels(app, source) as tenants, tenants.use("acme") as kernel:
        found = kernel.model_selector.get_model().model_name

    assert "new" == found


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_base_that_is_reloaded_while_a_kernel_is_built_makes_it_build_again(is_async):
    """The registry's constructor, which runs while the kernel is built, reloads the base."""
    seen = []

    def registry(settings, catalogue):
        if settings.tenant is not None and not seen:
            seen.append(settings.llm.default.model)
            tenants.reload_base({"llm": {"default": {"model": "echo:new"}}})
        return LLMRegistry(settings, catalogue)

    with create_container(ECHO) as app:
        child = app.derive(
            {"llm.registry": Singleton(registry, app.config.settings, app.llm.catalogue)}
        )
        tenants = TenantKernels(child, {"acme": {}})
        if is_async:
            async with tenants.use("acme") as kernel:
                found = kernel.model_selector.get_model().model_name
        else:
            with tenants.use("acme") as kernel:
                found = kernel.model_selector.get_model().model_name
        tenants.close()

    assert (["plain"], "new") == (seen, found)


async def test_a_cancellation_while_kernels_are_closed_closes_all_of_each(closed):
    class Stuck:
        def __init__(self, tenant):
            self.tenant = tenant

        async def aclose(self):
            entered.set()
            await asyncio.sleep(0)
            await asyncio.sleep(10)

    class Slowly(KorContainer):
        kor = providers.Container(ApplicationContainer)
        part = Singleton(closed.made, kor.config.settings)
        stuck = Singleton(Stuck, kor.config.settings)

    entered = asyncio.Event()

    async def use():
        async with tenants.use("acme") as kernel:
            kernel.container.part()
            kernel.container.stuck()

    with create_container(ECHO, container=Slowly) as slow:
        tenants = TenantKernels(slow, OVERLAYS, max_active=0)
        task = asyncio.create_task(use())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        tenants.close()

    assert ["acme"] == closed.tenants


async def test_async_bindings_serve_tenants_through_async_use():
    async def selector(settings, registry):
        await asyncio.sleep(0)
        return "the tenants' own"

    with create_container(ECHO) as app:
        child = app.derive(
            {"llm.selector": Singleton(selector, app.config.settings, app.llm.registry)}
        )
        async with TenantKernels(child, OVERLAYS) as tenants, tenants.use("acme") as kernel:
            found = kernel.model_selector
        others = TenantKernels(child, OVERLAYS)
        with others, pytest.raises(ContainerError), others.use("acme"):
            pass

    assert "the tenants' own" == found


def test_an_error_of_a_tenant_is_a_kor_error_with_the_tenant():
    error = TenantError("It failed.", tenant="acme")

    assert ("It failed.", "acme") == (str(error), error.tenant)
