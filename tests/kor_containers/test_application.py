"""The application container wires the SDK as documented, and its kernel is the default one."""

import asyncio
import threading
import traceback

import pytest
from dependency_injector.providers import Container

from kor_containers import (
    ApplicationContainer,
    KorContainer,
    create_container,
    create_kernel,
    default_container,
)
from kor_containers.llm import LLMContainer
from kor_containers.providers import Singleton
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.errors import ConfigurationError, ContainerError, PluginError, RegistrationError
from kor_core.kernel import Kernel, get_kernel, reset_kernel, use_kernel
from kor_core.llm.base import BaseLLMProvider, Credentials
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.echo import EchoProvider
from kor_core.llm.profile import ModelProfile
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.plugin import KorPlugin
from kor_core.settings import Settings, settings_from
from kor_core.testing import ScriptedModel, ScriptedProvider

ECHO = {"llm": {"default": {"provider": "echo", "model": "plain"}}}


@pytest.fixture(autouse=True)
def no_default():
    reset_kernel()
    yield
    reset_kernel()


@pytest.fixture
def app():
    with create_container(ECHO) as app:
        yield app


def at(app, path):
    for name in path.split("."):
        app = getattr(app, name)
    return app


# --- the graph ---


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("config.operator", Settings),
        ("config.settings", Settings),
        ("network.transport", Transport),
        ("llm.openai", OpenAIProvider),
        ("llm.litellm", LiteLLMProvider),
        ("llm.echo", EchoProvider),
        ("llm.catalogue", Catalogue),
        ("llm.registry", LLMRegistry),
        ("llm.selector", ModelSelector),
        ("kernel", Kernel),
    ],
)
def test_every_documented_binding_gives_one_lasting_object(app, path, kind):
    made = at(app, path)()

    assert isinstance(made, kind)
    assert made is at(app, path)()


def test_every_provider_of_the_container_is_in_the_catalogue_under_the_name_of_its_binding(app):
    """A binding that the catalogue is not given is built by nobody, and no model finds it."""
    made = {name: at(app.llm, name)() for name in LLMContainer.providers}
    bound = {name: each for name, each in made.items() if isinstance(each, BaseLLMProvider)}

    assert {"openai", "litellm", "echo"} <= bound.keys()
    assert bound == {name: made["catalogue"].providers.get(name) for name in bound}


async def test_every_binding_can_be_awaited(app):
    assert app.kernel() is await app.kernel.async_()


def test_the_kernel_runs_on_the_operators_settings_unless_they_are_replaced(app):
    other = settings_from({"llm": {"default": {"provider": "echo", "model": "other"}}})

    child = app.derive({"config.settings": other})

    assert app.config.settings() is app.config.operator()
    assert "plain" == app.kernel().model_selector.get_model().model_name
    assert "other" == child.kernel().model_selector.get_model().model_name


def test_replacing_the_settings_renews_what_knows_a_credential_and_nothing_else(app):
    child = app.derive({"config.settings": settings_from(ECHO)})

    own = ["llm.registry", "llm.selector", "kernel"]
    shared = ["config.operator", "network.transport", "llm.openai", "llm.litellm", "llm.catalogue"]
    assert all(at(child, path)() is not at(app, path)() for path in own)
    assert all(at(child, path)() is at(app, path)() for path in shared)


def test_overriding_a_provider_reaches_the_kernel_and_the_old_objects_are_back_afterwards(app):
    before = app.kernel()
    fake = ScriptedProvider(["scripted"], id="openai")

    with app.llm.openai.override(fake):
        during = app.kernel()
        assert "scripted" == during.llm_registry.get_model("openai:gpt-4").generate("x")

    assert before is not during
    assert before is app.kernel()


# --- what is handed in ---


def test_a_path_takes_the_place_of_the_configuration_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[llm.default]\nprovider = "echo"\nmodel = "from-file"\n')

    with create_kernel(path) as kernel:
        assert "from-file" == kernel.model_selector.get_model().model_name


def test_settings_stand_alone():
    settings = settings_from(ECHO)

    with create_kernel(settings) as kernel:
        assert settings is kernel.settings


def test_without_any_configuration_echo_serves(capsys):
    with create_kernel() as kernel:
        assert "Echo: Hello!" == kernel.model_selector.get_model().generate("Hello!")


def test_providers_and_plugins_can_be_handed_in():
    class Plugin(KorPlugin):
        id = "mine"

        def initialize(self, context):
            context.get_llm_registry().register(ScriptedProvider(["two"], id="second"))

    handed_in = ScriptedProvider(["one"], id="first")
    with create_kernel({}, providers=[handed_in], plugins=[Plugin()]) as kernel:
        answers = [
            kernel.llm_registry.get_model(f"{i}:m").generate("x") for i in ("first", "second")
        ]

    assert ["one", "two"] == answers


def test_plugins_are_initialised_once_for_an_application_and_all_that_share_its_catalogue():
    initialised = []

    class Plugin(KorPlugin):
        id = "mine"

        def initialize(self, context):
            initialised.append(context)

    with create_container(ECHO, plugins=[Plugin()]) as app:
        app.kernel()
        app.derive({"config.settings": settings_from(ECHO)}).kernel()
        assert 1 == len(initialised)

        app.derive({"llm.openai": ScriptedProvider([], id="openai")}).kernel()
        assert 2 == len(initialised)


# --- what is registered by hand ---


def test_what_is_registered_on_the_application_is_seen_below_and_never_the_other_way_round(app):
    tenant = app.derive({"config.settings": settings_from(ECHO)})
    above, below = app.kernel(), tenant.kernel()

    above.llm_registry.register(ScriptedProvider(["ours"], id="ours"))
    above.registry.register_service("clock", "ours")
    below.llm_registry.register(ScriptedProvider(["mine"], id="mine"))
    below.registry.register_service("diary", "mine")

    assert "ours" == below.llm_registry.get_model("ours:m").generate("x")
    assert "ours" == below.registry.get_service("clock")
    assert "mine" not in above.llm_registry.providers
    assert not above.registry.has_service("diary")


def test_what_is_registered_by_hand_is_kept_by_every_derived_container(app):
    app.kernel().llm_registry.register(ScriptedProvider(["kept"], id="kept"))

    child = app.derive({"llm.openai": ScriptedProvider([], id="openai")})

    assert child.llm.catalogue() is not app.llm.catalogue()
    assert "kept" == child.kernel().llm_registry.get_model("kept:m").generate("x")


# --- doubles ---


class Bare:
    """A double that inherits from nothing, and has all that is asked of a provider."""

    id = "openai"

    def create_model(self, model_name, config):
        return ScriptedModel(["from a double"])

    def credentials(self, model_name):
        return Credentials()

    def names(self, model_name):
        return (model_name,)

    def profile(self, model_name):
        return ModelProfile()


ASKING = {"llm": {"default": {"model": "openai:m"}}}


def test_a_double_of_a_provider_need_not_inherit_from_anything():
    with create_container(ASKING) as app:
        kernel = app.derive({"llm.openai": Bare()}).kernel()

        assert "from a double" == kernel.model_selector.get_model().generate("Hello!")


@pytest.mark.parametrize(
    ("double", "words"),
    [
        (object(), "of the class object, lacks create_model, credentials, names, profile. Derive"),
        (ScriptedModel(["x"]), "of the class ScriptedModel, lacks create_model"),
        (ScriptedProvider, r"is the class ScriptedProvider. Hand in ScriptedProvider\(\)"),
    ],
)
def test_what_is_no_provider_is_refused_when_it_is_asked_for_a_model(double, words):
    with create_container(ASKING) as app:
        kernel = app.derive({"llm.openai": double}).kernel()

        with pytest.raises(
            RegistrationError, match=f"What replaces the provider 'openai'.*{words}"
        ):
            kernel.model_selector.get_model()


def test_a_container_says_what_it_is():
    with create_container(ECHO) as app:
        child = app.derive({})

        assert "<ApplicationContainer>" == repr(app)
        assert "<LLMContainer: 'llm'>" == repr(app.llm())
        assert f"derived at {__file__}:" in repr(child)
    assert "<ApplicationContainer: closed>" == repr(app)


# --- mistakes are found at start-up ---


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (({"llm": {"defualt": {}}},), ConfigurationError, "Did you mean 'default'"),
        (
            ({"llm": {"default": {"provider": "opnai", "model": "m"}}},),
            ConfigurationError,
            "Did you mean 'openai'",
        ),
        (("nowhere.toml",), ConfigurationError, "nowhere.toml"),
        ((3,), ConfigurationError, "int"),
    ],
)
def test_a_wrong_configuration_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        create_container(*arguments)


def test_a_wrong_plugin_or_provider_is_refused():
    with pytest.raises(PluginError):
        create_container({}, plugins=[object()])
    with pytest.raises(RegistrationError):
        create_container({}, providers=[object()])


@pytest.mark.parametrize("arguments", [{"providers": EchoProvider()}, {"plugins": KorPlugin()}])
def test_one_provider_or_plugin_without_a_list_is_refused_with_the_cure(arguments):
    with pytest.raises(TypeError, match=r"takes a list: \w+=\[\w+\(\)\]"):
        create_container({}, **arguments)


def test_what_replaces_a_provider_serves_under_the_name_of_the_binding(app):
    child = app.derive({"llm.openai": ScriptedProvider(["scripted"])})

    assert "scripted" == child.kernel().llm_registry.get_model("openai:gpt-4").generate("x")


def test_settings_replaced_by_a_mapping_are_refused_with_the_cure(app):
    with pytest.raises(ContainerError, match="settings_from"):
        app.derive({"config.settings": ECHO}).kernel()


def test_a_mapping_with_a_key_shows_in_no_frame_of_a_failure():
    planted = "sk-planted-0123456789"
    wrong = {"llm": {"providers": {"openai": {"api_key": planted, "bogus": 1}}}}

    with pytest.raises(ConfigurationError) as caught:
        create_container(wrong)

    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in shown.stack if frame.filename != __file__]
    assert frames
    assert all(planted not in value for frame in frames for value in frame.locals.values())


def test_constructing_a_container_reads_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("KOR_CONFIG", str(tmp_path / "missing.toml"))

    app = ApplicationContainer()

    with pytest.raises(ConfigurationError, match=r"missing\.toml"):
        app.kernel()


# --- a user's own application ---


class Greeter:
    def __init__(self, selector):
        self.selector = selector

    def greet(self, name):
        return self.selector.get_model().generate(f"Greet {name}")


class MyApp(KorContainer):
    kor = Container(ApplicationContainer)
    greeter = Singleton(Greeter, kor.llm.selector)


def test_a_users_container_holds_ours_and_its_services_follow_overrides():
    with create_container(ECHO, container=MyApp) as app:
        assert isinstance(app, MyApp)
        assert "Echo: Greet Ada" == app.greeter().greet("Ada")

        fake = ScriptedProvider(["Good day"], id="echo")
        with app.override({"kor.llm.echo": fake}):
            assert "Good day" == app.greeter().greet("Ada")
        child = app.derive({"kor.llm.echo": ScriptedProvider(["Hi"], id="echo")})
        assert "Hi" == child.greeter().greet("Ada")
        assert "Echo: Greet Ada" == app.greeter().greet("Ada")


def test_a_container_without_ours_inside_is_refused():
    class Other(KorContainer):
        pass

    with pytest.raises(Exception, match="ApplicationContainer"):
        create_container(ECHO, container=Other)


# --- the default ---


def test_the_default_kernel_is_that_of_the_default_container():
    assert get_kernel() is default_container().kernel()
    assert default_container() is default_container()


def test_overriding_the_default_container_reaches_get_kernel():
    with default_container().override({"llm.echo": ScriptedProvider(["scripted"], id="echo")}):
        assert "scripted" == get_kernel().model_selector.get_model().generate("x")


def test_reset_builds_anew():
    first = get_kernel()

    reset_kernel()

    assert first is not get_kernel()


def test_the_default_is_built_once_however_many_threads_race():
    barrier = threading.Barrier(16)
    found = []

    def ask():
        barrier.wait()
        found.append(get_kernel())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 16 == len(found)
    assert 1 == len(set(found))


async def test_sibling_tasks_use_kernels_of_their_own(app):
    async def task(model):
        settings = settings_from({"llm": {"default": {"provider": "echo", "model": model}}})
        with use_kernel(app.derive({"config.settings": settings}).kernel()):
            await asyncio.sleep(0)
            return get_kernel().model_selector.get_model().model_name

    names = [f"m{i}" for i in range(20)]

    assert names == await asyncio.gather(*map(task, names))


def test_a_kernel_closes_its_container():
    app = create_container(ECHO)

    app.kernel().close()

    with pytest.raises(Exception, match="closed"):
        app.kernel()


async def test_a_kernel_closes_its_container_from_async_code():
    app = create_container(ECHO)

    async with app.kernel():
        pass

    with pytest.raises(Exception, match="closed"):
        await app.kernel.async_()
