"""The settings: frozen, strict about names, silent about secrets."""

import copy
import pickle
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kor_core.errors import ConfigurationError, Problem
from kor_core.settings import (
    LLMSettings,
    ModelSettings,
    NetworkSettings,
    ProviderSettings,
    Settings,
    settings_from,
)

SECRET = "sk-planted-1234"


def problems(mapping: Mapping[str, Any]) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        settings_from(mapping)
    return list(caught.value.problems)


def problem(mapping: Mapping[str, Any]) -> Problem:
    found = problems(mapping)
    assert len(found) == 1, found
    return found[0]


def default(**keys: Any) -> dict[str, Any]:
    return {"llm": {"default": {"provider": "echo", "model": "m", **keys}}}


# --- what is accepted ---------------------------------------------------------------------


def test_an_empty_mapping_gives_the_defaults_and_no_model():
    settings = settings_from({})

    assert settings.llm.default is None
    assert settings.llm.unknown_purpose == "error"
    assert settings.network == NetworkSettings()
    assert settings.plugins.enabled is None
    assert settings.tenant is None
    assert not settings.unconfigured


def test_network_defaults_are_those_documented():
    expected = {
        "proxy": None,
        "trust_env": True,
        "ca_bundle": None,
        "client_certificate": None,
        "client_key": None,
        "connect_timeout": 5.0,
        "read_timeout": 600.0,
        "write_timeout": 600.0,
        "pool_timeout": 600.0,
        "max_connections": 1000,
        "max_keepalive_connections": 100,
        "keepalive_expiry": 5.0,
    }

    assert NetworkSettings().model_dump() == expected


def test_no_setting_of_a_model_has_a_default_that_would_be_sent():
    sent = ("temperature", "max_tokens", "top_p", "stop", "seed", "timeout")
    model = ModelSettings(provider="p", model="m")

    assert [getattr(model, name) for name in sent] == [None] * len(sent)
    assert model.extra == {}


def test_one_stop_text_and_a_list_of_them_are_both_accepted():
    assert settings_from(default(stop="END")).llm.default.stop == ("END",)
    assert settings_from(default(stop=["a", "b"])).llm.default.stop == ("a", "b")


@pytest.mark.parametrize("text", ["\n", " ", "\t\n"])
def test_white_space_ends_an_answer_as_any_other_text_does(text: str):
    assert settings_from(default(stop=[text])).llm.default.stop == (text,)
    assert settings_from(default(stop=text)).llm.default.stop == (text,)


def test_whole_numbers_are_numbers():
    assert settings_from(default(temperature=1)).llm.default.temperature == 1.0


@pytest.mark.parametrize("name", ["Coding", "coding", "code-review", "gpt-4.1", "2024", "a b", "é"])
def test_names_of_purposes_survive_as_written(name: str):
    table = {"provider": "echo", "model": name}
    settings = settings_from({"llm": {"purposes": {name: table}}})

    assert list(settings.llm.purposes) == [name]
    assert settings.llm.purposes[name].model == name


def test_a_key_from_a_file_loses_its_newline():
    settings = settings_from({"llm": {"providers": {"openai": {"api_key": f"{SECRET}\n"}}}})

    assert settings.llm.providers["openai"].api_key.get_secret_value() == SECRET


@pytest.mark.parametrize("strategy", ["ordered", "cheapest", "fastest", "round_robin", "a.b:c.d"])
def test_strategies(strategy: str):
    table = {"candidates": ["openai:gpt-4o", "litellm/claude-3-opus"], "strategy": strategy}
    purpose = settings_from({"llm": {"purposes": {"p": table}}}).llm.purposes["p"]

    assert purpose.strategy == strategy
    assert purpose.candidates == ("openai:gpt-4o", "litellm/claude-3-opus")
    assert purpose.model == ""


def test_plugins_are_named_by_module_and_class():
    plugins = settings_from({"plugins": {"modules": ["my_pkg.plugin:MyPlugin"]}}).plugins

    assert plugins.modules == ("my_pkg.plugin:MyPlugin",)


def test_settings_can_be_built_in_code():
    model = ModelSettings(provider="echo", model="m")
    built = Settings(llm=LLMSettings(default=model))

    assert built == settings_from({"llm": {"default": {"provider": "echo", "model": "m"}}})
    assert not built.unconfigured


def test_home_is_expanded_in_paths_of_files(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/srv/kor")

    assert NetworkSettings(ca_bundle=Path("~/ca.pem")).ca_bundle == Path("/srv/kor/ca.pem")


@pytest.mark.parametrize(
    "key", ["$2b$12$", "sk-$HOME", "a{b", "@key", "50%off", '{"type": "service_account"}']
)
def test_a_key_may_hold_what_variables_are_written_with(key: str):
    settings = settings_from(provider(api_key=key))

    assert key == settings.llm.providers["a"].api_key.get_secret_value()


def test_an_endpoint_may_hold_a_dollar_in_its_path():
    url = "http://host/$batch"

    assert url == settings_from(provider(base_url=url)).llm.providers["a"].base_url


def provider(**table: Any) -> dict[str, Any]:
    return {"llm": {"providers": {"a": table}}}


def test_the_home_of_nobody_is_left_as_it_stands():
    path = Path("~no-such-user/ca.pem")

    assert NetworkSettings(ca_bundle=path).ca_bundle == path


def test_the_line_of_an_unknown_provider_is_that_which_names_it():
    table = ModelSettings(model="openai:gpt-4o", fallbacks=["o:x"])

    assert ("model", "fallbacks") == (table.field_naming("openai"), table.field_naming("o"))


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "key", "message", "suggestion"),
    [
        ({"lmm": {}}, "lmm", "Unknown section. Known: llm, network, plugins, state.", "llm"),
        (default(modle="x"), "llm.default.modle", "Unknown key.", "model"),
        (default(api_key="k"), "llm.default.api_key", "Belongs into [llm.providers.<id>].", None),
        ({"llm": {"base_url": "k"}}, "llm.base_url", "Belongs into [llm.providers.<id>].", None),
        (default(top_q=1), "llm.default.top_q", "goes into `extra`", "top_p"),
        ({"llm": {"models": {"gpt-4": {"1": {"context_window": 9}}}}}, "llm.models.gpt-4.1",
         'A name with a dot needs quotes: [llm.models."gpt-4.1"].', None),
        ({"llm": {"default": {"model": "a:b", "zz": {}}}}, "llm.default.zz", "Known: ", None),
        ({"network": {"proxi": "x"}}, "network.proxi", "Unknown key.", "proxy"),
        ({"network": {"zzzz": "x"}}, "network.zzzz", "Unknown key.", None),
        ({"network": 3}, "network", "Expected a table, found a whole number.", None),
        ({"llm": []}, "llm", "Expected a table, found a list.", None),
        ({"llm": {"purposes": 1}}, "llm.purposes", "Expected a table", None),
        ({"llm": {"purposes": {"x": 1.5}}}, "llm.purposes.x", "found a number.", None),
        (default(model=4), "llm.default.model", "Expected text, found a whole number.", None),
        (default(temperature="hot"), "llm.default.temperature", "a number, found text", None),
        (default(temperature="0.2"), "llm.default.temperature", "Remove the quotes", None),
        (default(max_tokens="500"), "llm.default.max_tokens", "Remove the quotes", None),
        ({"network": {"trust_env": "false"}}, "network.trust_env", "Remove the quotes", None),
        ({"llm": {"provider": "openai"}}, "llm.provider",
         "Belongs into [llm.default], or into the table of a purpose", None),
        ({"model": "a:b"}, "model", "Belongs into [llm.default]", None),
        ({"api_key": "k"}, "api_key", "Belongs into [llm.providers.<id>].", None),
        ({"llm": {"provider": {"openai": {}}}}, "llm.provider", "Unknown key.", "providers"),
        ({"purposes": {}}, "purposes", "Write [llm.purposes].", None),
        ({"llm": {"purposes": {"coding": "openai:gpt-4o"}}}, "llm.purposes.coding",
         'found text. Write [llm.purposes.coding], and under it model = "provider:model".', None),
        ({"llm": {"default": "openai:gpt-4o"}}, "llm.default",
         'Write [llm.default], and under it model = "provider:model".', None),
        ({"llm": {"providers": {"a.b": "sk-1"}}}, 'llm.providers."a.b"',
         'Write [llm.providers."a.b"], and under it api_key = "…".', None),
        ({"llm": {"purposes": ["coding"]}}, "llm.purposes",
         'found a list. Write [llm.purposes.<name>], and under it model = "provider:model".', None),
        ({"network": "http://proxy"}, "network", "Write [network], and under it its keys.", None),
        (default(temperature=True), "llm.default.temperature", "found true or false", None),
        (default(temperature=-1), "llm.default.temperature", "at least 0.", None),
        (default(temperature=float("nan")), "llm.default.temperature", "a finite number", None),
        (default(top_p=1.5), "llm.default.top_p", "at most 1.", None),
        (default(max_tokens=1.5), "llm.default.max_tokens", "number with a fraction.", None),
        (default(max_tokens=0), "llm.default.max_tokens", "at least 1.", None),
        (default(timeout=0), "llm.default.timeout", "greater than 0.", None),
        (default(stop=["a", 1]), "llm.default.stop.1", "Expected text", None),
        (default(stop=3), "llm.default.stop", "Expected a list", None),
        (default(stop=""), "llm.default.stop.0", "Must not be empty.", None),
        (default(stop=[""]), "llm.default.stop.0", "Must not be empty.", None),
        (default(fallbacks="a:b"), "llm.default.fallbacks",
         'Expected a list, found text. Put it into brackets: ["…"].', None),
        (default(extra=1), "llm.default.extra", "Expected a table", None),
        (default(extra={"x": object()}), "llm.default.extra", "Expected text, numbers", None),
        (default(extra={"x": [float("inf")]}), "llm.default.extra", "a finite number", None),
        (default(strategy="cheap"), "llm.default.strategy", "Did you mean 'cheapest'?", None),
        (default(strategy="zzz"), "llm.default.strategy", "or 'package.module:function'.", None),
        (default(model=""), "llm.default.model", "Must not be empty.", None),
        (default(model=" \t"), "llm.default.model", "Must not be empty.", None),
        (default(provider=""), "llm.default.provider", "Must not be empty.", None),
        (default(provider="a:b"), "llm.default.provider", "neither ':' nor '/'", None),
        ({"llm": {"default": {}}}, "llm.default", "The model is missing", None),
        ({"llm": {"purposes": {"x": {}}}}, "llm.purposes.x", "The model is missing", None),
        ({"llm": {"unknown_purpose": "eror"}}, "llm.unknown_purpose", "'default'.", "error"),
        ({"llm": {"purposes": {"default": {"model": "a:b"}}}}, "llm.purposes.default",
         "[llm.default]", None),
        ({"llm": {"purposes": {"": {"model": "a:b"}}}}, 'llm.purposes.""', "not be empty", None),
        ({"llm": {"providers": {"a/b": {}}}}, 'llm.providers."a/b"', "neither ':' nor '/'", None),
        ({"llm": {"providers": {"a": {"api_key": ""}}}}, "llm.providers.a.api_key",
         "Remove the line", None),
        ({"llm": {"providers": {"a": {"api_key": "ключ"}}}}, "llm.providers.a.api_key",
         "no HTTP header", None),
        ({"llm": {"providers": {"a": {"api_key": "a\nb"}}}}, "llm.providers.a.api_key",
         "no HTTP header", None),
        *(({"llm": {"providers": {"a": {"api_key": text}}}}, "llm.providers.a.api_key",
           "the name of a variable, which is not looked up. Write '@format {env[NAME]}'", None)
          for text in ("$MY_KEY", "${MY_KEY}", "%MY_KEY%", "{{ key }}", "{env[KEY]}", "@env KEY")),
        *(({"llm": {"providers": {"a": {"base_url": text}}}}, "llm.providers.a.base_url",
           "names no variables. Write '@format http://{env[NAME]}/v1'", None)
          for text in ("http://${HOST}/v1", "http://$HOST", "http://h/{deployment}/v1")),
        ({"llm": {"providers": {"a": {"base_url": "localhost:1"}}}}, "llm.providers.a.base_url",
         "http:// or https://", None),
        ({"llm": {"providers": {"a": {"base_url": "http://[::1"}}}}, "llm.providers.a.base_url",
         "names a host", None),
        ({"llm": {"providers": {"a": {"base_url": "http://a b"}}}}, "llm.providers.a.base_url",
         "names a host", None),
        ({"llm": {"providers": {"a": {"base_url": "http://u:p@host/v1"}}}},
         "llm.providers.a.base_url", "put a key into api_key, and other credentials into", None),
        ({"llm": {"providers": {"a": {"base_url": "http://host/v1?key=1"}}}},
         "llm.providers.a.base_url", "extra = { extra_query = { … } }", None),
        ({"llm": {"providers": {"a": {"base_url": "http://host/v1#x"}}}},
         "llm.providers.a.base_url", "'#'", None),
        ({"network": {"proxy": "ftp://x"}}, "network.proxy", "http:// or https://", None),
        ({"network": {"proxy": "socks5://u:p@x"}}, "network.proxy",
         "SOCKS proxies cannot be used. Give an http:// or https:// proxy", None),
        ({"network": {"proxy": "http://proxy:99999"}}, "network.proxy", "names a host", None),
        ({"network": {"client_key": "k.pem"}}, "network", "needs `client_certificate`", None),
        ({"network": {"ca_bundle": ""}}, "network.ca_bundle", "Must not be empty.", None),
        ({"network": {"ca_bundle": 3}}, "network.ca_bundle", "the path of a file", None),
        ({"network": {"trust_env": 1}}, "network.trust_env", "Expected true or false", None),
        ({"plugins": {"modules": ["my_pkg"]}}, "plugins.modules.0", "'package.module:name'", None),
        ({"plugins": {"disabled": [None]}}, "plugins.disabled.0", "found nothing", None),
        ({"state": {"url": "http://x"}}, "state.url", "redis:// or rediss://", None),
    ],
)  # fmt: skip
def test_each_mistake_says_where_what_was_expected_and_the_nearest_name(
    mapping: Mapping[str, Any], key: str, message: str, suggestion: str | None
):
    found = problem(mapping)

    assert found.key == key
    assert message in found.message
    assert found.suggestion == suggestion


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"model": "a:b", "candidates": ["a:b"]}, "`model` or `candidates`, not both"),
        ({"provider": "a", "candidates": ["a:b"]}, "name their own providers"),
        ({"candidates": ["a:b"], "fallbacks": ["a:c"]}, "behind the other `candidates`"),
    ],
)
def test_models_are_named_in_one_way(table: Mapping[str, Any], message: str):
    found = problem({"llm": {"purposes": {"x": table}}})

    assert found.key == "llm.purposes.x"
    assert message in found.message


def test_dates_are_named_as_what_they_are():
    found = problem(default(temperature=date(2024, 1, 1)))

    assert found.message == "Expected a number, found a date or time."


def test_several_problems_are_reported_together():
    found = problems({"lmm": 1, "network": {"proxi": 1}, **default(temperature="x", modl=1)})

    assert {p.key for p in found} == {
        "lmm",
        "network.proxi",
        "llm.default.temperature",
        "llm.default.modl",
    }


def test_a_mapping_that_holds_itself_is_an_error():
    extra: dict[str, Any] = {}
    extra["extra"] = extra

    assert "nested too deeply" in problem(default(extra=extra)).message


# --- what purposes inherit ----------------------------------------------------------------


def test_a_purpose_that_names_no_provider_inherits_what_it_leaves_out():
    llm = {
        "default": {
            "provider": "openai",
            "model": "gpt-4o",
            "temperature": 0.2,
            "timeout": 30,
            "extra": {"a": 1, "b": 1},
        },
        "purposes": {
            "fast": {"model": "gpt-4o-mini", "timeout": 5, "extra": {"b": 2}},
            "same": {},
        },
    }
    fast, same = (settings_from({"llm": llm}).llm.purposes[name] for name in ("fast", "same"))

    assert (fast.provider, fast.model, fast.temperature, fast.timeout) == (
        "openai",
        "gpt-4o-mini",
        0.2,
        5,
    )
    assert fast.extra == {"a": 1, "b": 2}
    assert (same.provider, same.model) == ("openai", "gpt-4o")


@pytest.mark.parametrize(
    "purpose",
    [
        {"provider": "litellm", "model": "claude-3-opus"},
        {"candidates": ["litellm:claude-3-opus"]},
    ],
)
def test_a_purpose_that_names_its_provider_inherits_nothing(purpose: Mapping[str, Any]):
    llm = {
        "default": {"provider": "openai", "model": "gpt-4o", "temperature": 0.2},
        "purposes": {"coding": purpose},
    }
    found = settings_from({"llm": llm}).llm.purposes["coding"]

    assert found.temperature is None
    assert found.provider == purpose.get("provider")


def test_a_reference_stands_alone_where_no_provider_is_inherited():
    llm = {
        "default": {"model": "openai:gpt-4o", "temperature": 0.2},
        "purposes": {"coding": {"model": "litellm/claude-3-opus"}, "calm": {"temperature": 0}},
    }
    purposes = settings_from({"llm": llm}).llm.purposes

    assert (purposes["coding"].model, purposes["coding"].temperature) == (
        "litellm/claude-3-opus",
        None,
    )
    assert (purposes["calm"].model, purposes["calm"].temperature) == ("openai:gpt-4o", 0)


def test_tables_built_in_code_inherit_alike():
    llm = LLMSettings.model_validate(
        {
            "default": ModelSettings(provider="openai", model="gpt-4o", temperature=0.5),
            "purposes": {"fast": {"model": "gpt-4o-mini"}},
        }
    )

    assert llm.purposes["fast"].temperature == 0.5


def test_a_mistake_in_the_default_is_reported_once_and_where_it_stands():
    llm = {
        "default": {"provider": "openai", "model": "gpt-4o", "temperature": "hot"},
        "purposes": {"fast": {"model": "gpt-4o-mini"}, "slow": {}},
    }

    assert problem({"llm": llm}).key == "llm.default.temperature"


# --- frozen, masked, not pickled ----------------------------------------------------------


def secretive() -> Settings:
    return settings_from(
        {
            "llm": {
                "default": {"provider": "a", "model": "m", "extra": {"n": {"api_key": SECRET}}},
                "providers": {
                    "a": {
                        "api_key": SECRET,
                        "base_url": "https://host/v1",
                        "extra": {"extra_headers": {"X-Anything": [SECRET]}, "plain": [1, "two"]},
                    }
                },
                "purposes": {"fast": {"temperature": 1}},
            },
            "network": {"proxy": f"http://user:{SECRET}@proxy:3128"},
            "state": {"url": f"redis://:{SECRET}@redis:6379/0?token={SECRET}&db=1"},
        }
    )


def test_no_repr_and_no_json_shows_a_secret():
    settings = secretive()
    shown = [
        repr(settings),
        str(settings),
        f"{settings.llm.providers}",
        repr(settings.model_dump()),
        settings.model_dump_json(),
        repr(settings.explain()),
        repr(vars(settings)),
        repr(settings.__pydantic_private__),
    ]

    assert not [text for text in shown if SECRET in text]
    assert "proxy:3128" in shown[0]


def test_the_values_themselves_are_plain():
    provider = secretive().llm.providers["a"]

    assert provider.api_key.get_secret_value() == SECRET
    assert provider.base_url == "https://host/v1"
    assert provider.extra == {"extra_headers": {"X-Anything": [SECRET]}, "plain": [1, "two"]}
    assert provider.model_dump()["extra"] == provider.extra


def test_pydantics_own_errors_show_no_value():
    with pytest.raises(ValidationError) as caught:
        ProviderSettings(timeout=SECRET)  # type: ignore[arg-type] # the mistake under test

    assert SECRET not in str(caught.value)


def test_nothing_can_be_changed():
    settings = secretive()
    changes = [
        lambda: setattr(settings, "llm", None),
        lambda: setattr(settings.llm.default, "model", "x"),
        lambda: settings.llm.purposes.update({}),
        lambda: settings.llm.providers.__setitem__("b", None),
        lambda: settings.llm.default.extra.__setitem__("x", 1),
        lambda: settings.llm.default.extra["n"].__setitem__("x", 1),
    ]

    for change in changes:
        with pytest.raises((ValidationError, AttributeError, TypeError)):
            change()


def test_the_callers_mapping_is_neither_kept_nor_changed():
    extra = {"a": [1]}
    mapping = default(extra=extra)
    before = copy.deepcopy(mapping)
    settings = settings_from(mapping)
    extra["a"].append(2)
    mapping["llm"]["default"]["model"] = "other"

    assert before == default(extra={"a": [1]})
    assert settings.llm.default.extra == {"a": [1]}
    assert settings.llm.default.model == "m"
    assert settings._source.data == before


def test_copies_share_what_is_frozen():
    settings = secretive()

    assert copy.deepcopy(settings) is settings
    assert copy.copy(settings) == settings


def test_a_changed_copy_leaves_the_original():
    settings = secretive()
    changed = settings.model_copy(update={"network": NetworkSettings()}, deep=True)

    assert changed.network.proxy is None
    assert settings.network.proxy is not None
    assert changed.origin("llm") == settings.origin("llm")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_settings_refuse_to_be_pickled(protocol: int):
    for table in (secretive(), secretive().llm.providers["a"], NetworkSettings()):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(table, protocol)


def test_settings_are_equal_by_their_values():
    assert secretive() == secretive()
    assert secretive() != settings_from({})
    assert secretive() != "settings"


def test_the_repr_leaves_out_what_is_not_set():
    shown = repr(ModelSettings(provider="openai", model="gpt-4o"))

    assert shown == "ModelSettings(provider='openai', model='gpt-4o', strategy='ordered')"


# --- origins, explanation, providers ------------------------------------------------------


def test_a_mapping_has_no_origins():
    settings = settings_from(default())

    assert settings.origin("llm", "default", "model") == ""
    assert settings.origin() == ""


NAMES = {
    "llm": {
        "default": {"model": "echo:m", "extra": {"top_k": 4}},
        "purposes": {"gpt-4.1": {}, "code review": {"temperature": 0}},
        "providers": {"echo": {}},
    }
}


@pytest.mark.parametrize(
    ("path", "key", "suggestion"),
    [
        (("lmm",), "lmm", "llm"),
        (("llm", "defualt", "model"), "llm.defualt", "default"),
        (("llm", "default", "modle"), "llm.default.modle", "model"),
        (("llm", "default", "model", "x"), "llm.default.model.x", None),
        (("llm", "default", "extra", "top_q"), "llm.default.extra.top_q", "top_k"),
        (("llm", "providers", "ecoh", "api_key"), "llm.providers.ecoh", "echo"),
        (("llm", "purposes", "gpt-4.2"), 'llm.purposes."gpt-4.2"', "gpt-4.1"),
        (("network", "proxi"), "network.proxi", "proxy"),
        (("llm.defualt.model",), "llm.defualt", "default"),
        (("llm.",), '"llm."', "llm"),
        (("llm\n[x]\ny",), '"llm\n[x]\ny"', None),
    ],
)
def test_the_origin_of_a_path_that_does_not_exist_names_the_nearest(
    path: tuple[str, ...], key: str, suggestion: str | None
):
    settings = settings_from(NAMES)

    with pytest.raises(ConfigurationError) as caught:
        settings.origin(*path)
    (found,) = caught.value.problems

    assert (key, suggestion) == (found.key, found.suggestion)
    assert found.message.startswith("There is no such setting. Known: ")


@pytest.mark.parametrize(
    "path",
    [
        ("llm", "default", "extra", "top_k"),
        ("llm", "purposes", "gpt-4.1", "model"),
        ("llm.default.extra.top_k",),
        ('llm.purposes."gpt-4.1".model',),
        ('llm.purposes."code review".temperature',),
        ("network.proxy",),
        ("network",),
        ("llm", "providers", "echo", "timeout"),
    ],
)
def test_what_can_be_set_has_an_origin_in_both_spellings(path: tuple[str, ...]):
    assert "" == settings_from(NAMES).origin(*path)


def test_what_a_model_could_set_has_an_origin_where_there_is_no_default():
    assert "" == settings_from({}).origin("llm.default.temperature")


def test_every_effective_value_is_explained_masked():
    shown = {each.key: each.value for each in secretive().explain()}

    assert shown["llm.default.model"] == "m"
    assert shown["llm.purposes.fast.model"] == "m"
    assert shown["llm.providers.a.api_key"] == "**********"
    assert shown["llm.providers.a.extra.plain"] == [1, "two"]
    assert shown["llm.providers.a.extra.extra_headers.X-Anything"] == ["**********"]
    assert shown["network.connect_timeout"] == 5.0
    assert "network.ca_bundle" not in shown


def test_paths_are_explained_as_text():
    settings = settings_from({"network": {"ca_bundle": "/ca.pem"}})
    shown = {each.key: each.value for each in settings.explain()}

    assert shown["network.ca_bundle"] == str(Path("/ca.pem"))


def test_each_unknown_provider_is_a_problem_with_the_nearest_name():
    settings = settings_from(
        {
            "llm": {
                "default": {"provider": "opnai", "model": "gpt-4o", "fallbacks": ["litelm/x"]},
                "providers": {"lightllm": {}},
                "purposes": {
                    "inheriting": {"temperature": 0},
                    "own": {"provider": "openai", "model": "x"},
                    "choice": {"candidates": ["openai:a", "nobody:b", "bare"]},
                    "mine": {"provider": "ecoh", "model": "x"},
                },
            }
        }
    )
    found = settings.problems_with_providers(["openai", "litellm", "echo"])

    assert [(p.key, p.suggestion) for p in found] == [
        ("llm.providers.lightllm", "litellm"),
        ("llm.default.provider", "openai"),
        ("llm.default.fallbacks", "litellm"),
        ("llm.purposes.choice.candidates", None),
        ("llm.purposes.choice.candidates", None),
        ("llm.purposes.mine.provider", "echo"),
    ]
    assert found[0].message == "No provider 'lightllm'. Registered: echo, litellm, openai."


def test_a_reference_without_a_known_provider_is_a_problem():
    settings = settings_from({"llm": {"default": {"model": "opnai:gpt-4o"}}})
    found = settings.problems_with_providers(["openai"])

    assert [(p.key, p.suggestion) for p in found] == [("llm.default.model", "openai")]


def test_known_providers_are_no_problem():
    settings = settings_from({"llm": {"default": {"model": "openai/gpt-4o"}}})

    assert settings.problems_with_providers(["openai"]) == []
