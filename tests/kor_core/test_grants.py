"""What the operator configured reaches no endpoint and no vendor that the operator did not name."""

import pytest

from kor_core.errors import ConfigurationError, MissingCredentialsError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.echo import EchoProvider
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.settings import settings_from
from kor_core.settings.overlay import settings_for_tenant

HEADERS = {"extra_headers": {"X-Gateway": "planted-header"}}


class Model(BaseLLMModel):
    async def agenerate(self, prompt, **kwargs):
        return prompt


class One(BaseLLMProvider):
    """A provider with one vendor, as openai is."""

    id = "one"

    def create_model(self, model_name, config):
        return Model(model_name, config)

    def credentials(self, model_name):
        return Credentials(("ONE_API_KEY",), ("ONE_BASE_URL",), required=True)


class Many(One):
    """A provider with many vendors, as litellm is; the vendor is the name's first part."""

    id = "many"

    def credentials(self, model_name):
        vendor = model_name.partition("/")[0]
        return Credentials(
            (f"{vendor.upper()}_API_KEY",),
            required=vendor != "local",
            vendor=vendor,
            ambient=vendor == "cloud",
        )


@pytest.fixture(autouse=True)
def keys_of_the_host(monkeypatch):
    for name in ("ONE", "CLAUDE", "GEMINI", "CLOUD", "LOCAL"):
        monkeypatch.setenv(f"{name}_API_KEY", f"env-{name.lower()}")
    monkeypatch.setenv("ONE_BASE_URL", "http://env.test")


def kernel_of(operator, overlay=None):
    settings = settings_from({"llm": operator})
    if overlay is not None:
        settings = settings_for_tenant(settings, "acme", {"llm": overlay})
    registry = LLMRegistry(settings, Catalogue([One(), Many(), EchoProvider()]))
    return registry, ModelSelector(settings, registry)


def config_of(operator, overlay, reference=None, purpose=None):
    registry, selector = kernel_of(operator, overlay)
    model = selector.get_model(purpose) if purpose else registry.get_model(reference)
    return dict(model.config)


OPERATOR = {
    "default": {"provider": "one", "model": "large", "extra": HEADERS},
    "purposes": {"coding": {"provider": "many", "model": "claude/opus", "extra": HEADERS}},
}

# --- the environment ---


def test_the_environment_serves_a_tenant_where_it_serves_the_operator():
    expected = {"api_key": "env-one", "base_url": "http://env.test", **HEADERS}

    assert expected == config_of(OPERATOR, None)
    assert expected == config_of(OPERATOR, {})
    assert {"api_key": "env-one", "base_url": "http://env.test"} == config_of(
        OPERATOR, {}, "one:small"
    )


def test_a_tenants_own_endpoint_gets_neither_the_environments_key_nor_its_endpoint():
    overlay = {"providers": {"one": {"base_url": "http://acme.test"}}}

    assert {"base_url": "http://acme.test"} == config_of(OPERATOR, overlay)
    assert {"base_url": "http://acme.test"} == config_of(OPERATOR, overlay, "one:small")


def test_a_tenants_own_key_goes_to_no_endpoint_of_the_environment():
    assert {"api_key": "sk-acme"} == config_of(
        OPERATOR, {"providers": {"one": {"api_key": "sk-acme"}}}, "one:small"
    )


def test_a_vendor_that_the_operator_names_gets_its_key():
    assert {"api_key": "env-claude"} == config_of(OPERATOR, {}, "many:claude/haiku")


def test_a_vendor_that_the_operator_does_not_name_gets_no_key_and_the_error_names_no_variable():
    with pytest.raises(MissingCredentialsError) as caught:
        config_of(OPERATOR, {}, "many:gemini/pro")

    assert () == caught.value.variables
    assert "GEMINI" not in str(caught.value)
    assert "env-gemini" == config_of(OPERATOR, None, "many:gemini/pro")["api_key"]


def test_a_provider_that_the_operator_does_not_name_gets_no_key():
    operator = {"default": {"model": "many:claude/opus"}}

    with pytest.raises(MissingCredentialsError):
        config_of(operator, {"default": {"provider": "one", "model": "large"}})


def test_the_table_of_a_provider_names_its_one_vendor_and_none_of_many():
    operator = {"providers": {"one": {"timeout": 3}, "many": {"timeout": 3}}}

    assert "env-one" == config_of(operator, {}, "one:small")["api_key"]
    with pytest.raises(MissingCredentialsError):
        config_of(operator, {}, "many:claude/opus")


@pytest.mark.parametrize(
    "table",
    [
        {"model": "many:claude/opus"},
        {"model": "echo:x", "fallbacks": ["many/claude/opus"]},
        {"candidates": ["unknown:x", "many:claude/opus"]},
    ],
)
def test_a_reference_anywhere_names_its_vendor(table):
    operator = {"purposes": {"coding": table}}

    assert "env-claude" == config_of(operator, {}, "many:claude/haiku")["api_key"]


def test_a_provider_that_is_not_registered_names_no_vendor():
    operator = {"default": {"provider": "absent", "model": "x"}, "providers": {"one": {}}}

    assert "env-one" == config_of(operator, {}, "one:small")["api_key"]


# --- the operator's key and extra ---


def test_the_operators_key_and_extra_go_to_no_vendor_that_the_operator_does_not_name():
    """A tenant that names a model of a vendor of its own would choose who learns the key."""
    operator = OPERATOR | {"providers": {"many": {"api_key": "sk-op", "extra": HEADERS}}}

    assert {"api_key": "sk-op", **HEADERS} == config_of(operator, {}, "many:claude/haiku")
    with pytest.raises(MissingCredentialsError):
        config_of(operator, {}, "many:gemini/pro")


def test_a_tenant_with_a_key_of_its_own_reaches_any_vendor_without_what_is_the_operators():
    operator = OPERATOR | {"providers": {"many": {"timeout": 3, "extra": HEADERS}}}
    overlay = {"providers": {"many": {"api_key": "sk-acme", "extra": {"seed": 1}}}}

    assert {"api_key": "sk-acme", "seed": 1} == config_of(operator, overlay, "many:gemini/pro")


def test_extra_of_the_default_goes_to_no_endpoint_of_the_tenants():
    overlay = {
        "providers": {"one": {"base_url": "http://acme.test"}},
        "default": {"temperature": 1, "extra": {"seed": 1}},
    }

    assert {"base_url": "http://acme.test", "temperature": 1, "seed": 1} == config_of(
        OPERATOR, overlay
    )


def test_extra_of_a_purpose_goes_where_the_operator_sends_it_only():
    """The tenant moves the purpose to a vendor that the operator names, but elsewhere."""
    kept = config_of(
        OPERATOR, {"purposes": {"coding": {"model": "claude/haiku"}}}, purpose="coding"
    )
    moved = config_of(
        OPERATOR,
        {"purposes": {"coding": {"provider": "one", "model": "large", "extra": {"seed": 1}}}},
        purpose="coding",
    )

    assert {"api_key": "env-claude", **HEADERS} == kept
    assert {"api_key": "env-one", "base_url": "http://env.test", "seed": 1} == moved


def test_what_a_new_purpose_inherits_goes_where_the_operators_default_goes_only():
    overlay = {
        "default": {"extra": {"seed": 1}},
        "purposes": {"new": {"extra": {"top_k": 2}}},
    }
    elsewhere = {**overlay, "providers": {"one": {"base_url": "http://acme.test"}}}

    inherited = config_of(OPERATOR, overlay, purpose="new")
    withheld = config_of(OPERATOR, elsewhere, purpose="new")

    assert {"seed": 1, "top_k": 2, **HEADERS}.items() <= inherited.items()
    assert {"base_url": "http://acme.test", "seed": 1, "top_k": 2} == withheld


def test_each_fallback_is_judged_by_itself():
    operator = {
        "default": {
            "provider": "one",
            "model": "large",
            "fallbacks": ["many:claude/opus"],
            "extra": HEADERS,
        }
    }
    registry, _ = kernel_of(operator, {"providers": {"one": {"base_url": "http://acme.test"}}})
    first, second = registry.candidates(registry._settings.llm.default, "llm", "default")

    assert {} == dict(first.settings)
    assert HEADERS == dict(second.settings)


def test_a_tenant_whose_operator_has_no_default_brings_its_own():
    overlay = {
        "default": {"model": "one:large", "extra": {"seed": 1}},
        "providers": {"one": {"base_url": "http://acme.test", "api_key": "sk-acme"}},
    }

    assert {"base_url": "http://acme.test", "api_key": "sk-acme", "seed": 1} == config_of(
        {}, overlay
    )


# --- identities of the host ---


def test_a_vendor_that_finds_the_hosts_identity_is_refused_whatever_key_the_tenant_brings():
    overlay = {"providers": {"many": {"api_key": "sk-acme", "base_url": "http://acme.test"}}}

    with pytest.raises(ConfigurationError, match="identity of this host"):
        config_of(OPERATOR, overlay, "many:cloud/titan")
    with pytest.raises(ConfigurationError, match="identity of this host"):
        config_of(OPERATOR, {}, "many:cloud/titan")


def test_such_a_vendor_serves_tenants_where_the_operator_names_it():
    operator = {"purposes": {"cloud": {"provider": "many", "model": "cloud/titan"}}}

    assert "env-cloud" == config_of(operator, {}, "many:cloud/titan")["api_key"]


def test_a_vendor_without_keys_that_the_operator_does_not_name_needs_an_endpoint():
    with pytest.raises(MissingCredentialsError):
        config_of(OPERATOR, {}, "many:local/llama")

    overlay = {"providers": {"many": {"base_url": "http://acme.test"}}}
    assert {"base_url": "http://acme.test"} == config_of(OPERATOR, overlay, "many:local/llama")


def test_code_that_asks_on_a_tenants_kernel_for_a_model_named_by_a_url_is_refused():
    with pytest.raises(ConfigurationError, match="named by a URL"):
        config_of(OPERATOR, {}, "one:https://evil.test")

    assert "env-one" == config_of(OPERATOR, None, "one:https://fine.test")["api_key"]
