"""Plugins are found in a stable order, initialised once, and name themselves when they fail."""

import sys
import textwrap

import pytest

from kor_core.errors import KernelError, PluginError
from kor_core.kernel import get_kernel
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.echo import EchoModel, EchoProvider
from kor_core.plugin import KorPlugin, build_catalogue, plugin_names
from kor_core.settings import settings_from


class Named(EchoProvider):
    def __init__(self, provider_id):
        self.id = provider_id


class Plugin(KorPlugin):
    def __init__(self, plugin_id="mine", action=None):
        self.id = plugin_id
        self.action = action or (lambda context: None)
        self.initialised = 0

    def initialize(self, context):
        self.initialised += 1
        self.action(context)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution: a module and its entry points."""

    def install(module, source, entry_points=""):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[kor.plugins]\n{entry_points}")
        monkeypatch.delitem(sys.modules, module, raising=False)

    monkeypatch.syspath_prepend(tmp_path)
    return install


GOOD = """
from kor_core.plugin import KorPlugin

class One(KorPlugin):
    id = "one"
    def initialize(self, context):
        context.registry.register_service(self.id, self)

class Two(One):
    id = "two"

instance = Two()
"""


def catalogue(plugins=(), **settings):
    return build_catalogue(
        settings_from({"plugins": settings}), {"echo": EchoProvider()}, (), plugins
    )


# --- what a plugin can do ---


def test_a_plugin_registers_providers_and_services_and_sees_the_settings():
    seen = {}

    def action(context):
        context.get_llm_registry().register(Named("brought"))
        context.registry.register_service("clock", "tick")
        seen["disabled"] = context.settings.plugins.disabled
        seen["answer"] = context.get_llm_registry().get_model("brought:m").generate("hi")

    made = catalogue([Plugin(action=action)], disabled=["other"])

    assert ["echo", "brought"] == list(made.providers)
    assert "tick" == made.services["clock"]
    assert ["other"] == list(seen["disabled"])
    assert "Echo: hi" == seen["answer"]
    assert "<Catalogue echo, brought>" == repr(made)


def test_a_plugin_without_initialize_is_fine():
    class Quiet(KorPlugin):
        id = "quiet"

    assert ["echo"] == list(catalogue([Quiet()]).providers)


def test_handed_in_providers_are_there_before_plugins_initialise():
    found = []
    look = Plugin(action=lambda context: found.extend(context.get_llm_registry().providers))

    build_catalogue(settings_from({}), {"echo": EchoProvider()}, [Named("handed")], [look])

    assert ["echo", "handed"] == found
    assert issubclass(EchoModel, BaseLLMModel)


def test_get_kernel_inside_initialize_is_an_error_that_points_to_context():
    with pytest.raises(PluginError, match="KernelError") as caught:
        catalogue([Plugin(action=lambda context: get_kernel())])

    assert isinstance(caught.value.__cause__, KernelError)
    assert "context.get_llm_registry()" in str(caught.value)


# --- where plugins come from ---


def test_entry_points_come_sorted_by_name_then_modules_as_listed_then_those_handed_in(installed):
    installed("kor_test_points", GOOD, "b = kor_test_points:One\na = kor_test_points:Two\n")
    installed("kor_test_module", GOOD.replace('"one"', '"three"'))

    made = catalogue(
        [Plugin("last", lambda context: context.registry.register_service("last", 4))],
        modules=["kor_test_module:One"],
    )

    assert ["two", "one", "three", "last"] == list(made.services)


def test_an_instance_serves_as_well_as_a_class(installed):
    installed("kor_test_instance", GOOD)

    assert ["two"] == list(catalogue(modules=["kor_test_instance:instance"]).services)


def test_a_disabled_plugin_is_left_out_by_its_id_and_not_even_imported_by_its_entry_point(
    installed,
):
    installed("kor_test_disabled", GOOD, "a = kor_test_disabled:One\nb = kor_test_disabled:Two\n")

    assert ["two"] == list(catalogue(disabled=["one"]).services)

    sys.modules.pop("kor_test_disabled")
    assert [] == list(catalogue(disabled=["a", "b"]).services)
    assert "kor_test_disabled" not in sys.modules


def test_with_enabled_only_those_named_are_initialised(installed):
    installed("kor_test_enabled", GOOD, "a = kor_test_enabled:One\nb = kor_test_enabled:Two\n")

    assert ["two"] == list(catalogue(enabled=["two"]).services)


# --- what can be wrong ---


def test_two_plugins_with_one_id_raise_and_both_places_are_named(installed):
    installed("kor_test_twice", GOOD)

    with pytest.raises(PluginError) as caught:
        catalogue([Plugin("one")], modules=["kor_test_twice:One"])

    assert "one" == caught.value.plugin
    assert "handed in by the application" in str(caught.value)
    assert "[plugins] modules" in str(caught.value)


@pytest.mark.parametrize("error", [ValueError("mine"), ImportError("gone")])
def test_an_exception_inside_initialize_names_the_plugin_and_where_it_came_from(error):
    def fail(context):
        raise error

    with pytest.raises(PluginError) as caught:
        catalogue([Plugin("bad", fail)])

    assert ("bad", "handed in by the application") == (caught.value.plugin, caught.value.origin)
    assert str(error) in str(caught.value)
    assert "disabled = ['bad']" in str(caught.value)
    assert error is caught.value.__cause__


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("1/0", "kor_test_wrong:X", "ZeroDivisionError"),
        ("import nowhere_to_be_found", "kor_test_wrong:X", "nowhere_to_be_found"),
        ("", "kor_test_wrong:Missing", "AttributeError"),
        ("", "kor_test_wrong", "package.module:Name"),
        ("X = 3", "kor_test_wrong:X", "int is no plugin"),
        ("class X: pass", "kor_test_wrong:X", "X is no plugin"),
        ("class X:\n    def __init__(self): 1/0", "kor_test_wrong:X", "ZeroDivisionError"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_names_its_entry_point(installed, source, target, words):
    installed("kor_test_wrong", source, f"wrong = {target}\n")

    with pytest.raises(PluginError) as caught:
        catalogue()

    assert "wrong" == caught.value.plugin
    assert f"entry point 'wrong = {target}' of kor_test_wrong 1.2" == caught.value.origin
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("kor_test_slip:MyPlugn", " Did you mean 'MyPlugin'?"),
        ("kor_test_slip:MyPlugin.Inr", " Did you mean 'Inner'?"),
        ("kor_test_slip:Zzz", ""),
        ("kor_test_slp:MyPlugin", ""),
    ],
)
def test_a_misspelt_plugin_is_told_the_nearest_name_of_its_module(installed, target, hint):
    installed("kor_test_slip", "class MyPlugin:\n    class Inner: pass")

    with pytest.raises(PluginError) as caught:
        catalogue(modules=[target])

    assert hint in str(caught.value)
    assert bool(hint) == ("Did you mean" in str(caught.value))


def test_plugins_are_named_by_their_ids_and_by_their_entry_points(installed):
    installed("kor_test_names", GOOD, "a = kor_test_names:One\nb = kor_test_names:Two\n")
    installed("kor_test_named", GOOD.replace('"one"', '"three"'))
    modules = {"modules": ["kor_test_named:One"]}
    ids, points = plugin_names(settings_from({"plugins": modules}))
    fewer, same = plugin_names(settings_from({"plugins": {**modules, "disabled": ["a", "three"]}}))

    assert {"one", "two", "three"} <= ids
    assert {"a", "b"} <= points
    assert ids - {"one"} == fewer
    assert points == same


def test_a_plugin_that_cannot_be_loaded_has_no_name(installed):
    installed("kor_test_names_wrong", "1/0")

    with pytest.raises(PluginError, match="ZeroDivisionError"):
        plugin_names(settings_from({"plugins": {"modules": ["kor_test_names_wrong:X"]}}))


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (object(), "object is no plugin"),
        (Plugin, r"Plugin is a class. .* Plugin\(\)"),
        (Plugin(""), "has no id"),
    ],
)
def test_what_is_handed_in_must_be_a_plugin_with_an_id(plugin, words):
    with pytest.raises(PluginError, match=words):
        catalogue([plugin])
