"""Every vendor that speaks like OpenAI is called by its row: where, with which key, how sent."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from kor_containers import create_container, create_kernel
from kor_core import errors
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.adapters.vendors import AZURE_VERSION, COMPATIBLE, OPENAI, CompatibleVendor
from kor_core.settings import NetworkSettings, settings_from
from kor_core.settings.generation import parameters_of
from kor_core.settings.overlay import settings_for_tenant
from kor_core.testing import Upstream

ROWS = [OPENAI, *COMPATIBLE.values()]
LOCAL = [row for row in ROWS if row.local]
HOSTED = [row for row in ROWS if not row.local]
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture(autouse=True)
def no_keys_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in ROWS:
        for name in (*row.keys, *row.urls):
            monkeypatch.delenv(name, raising=False)


def base_of(row: CompatibleVendor, upstream: Upstream) -> str:
    """Return the row's endpoint, with the upstream in place of its host."""
    return upstream.url + urlsplit(row.base_url).path


def configured(row: CompatibleVendor, **values: Any) -> dict[str, Any]:
    return {"llm": {"default": {"model": f"{row.id}:m-1"}, "providers": {row.id: values}}}


# --- one call by each row ---


@every_row
def test_a_model_is_called_at_the_vendors_path_with_its_key(
    row: CompatibleVendor, upstream: Upstream
) -> None:
    with create_kernel(configured(row, api_key="sk-mine", base_url=base_of(row, upstream))) as k:
        answer = k.llm_registry.get_model(f"{row.id}:m-1").generate("Hello!")

    (request,) = upstream.requests
    base = "/openai/deployments/m-1" if row.deployments else urlsplit(row.base_url).path
    header, value = (
        ("api-key", "sk-mine") if row.deployments else ("authorization", "Bearer sk-mine")
    )
    assert "Hello!" == answer
    assert f"{base}/chat/completions" == request.path
    assert {"model": "m-1", "messages": [{"role": "user", "content": "Hello!"}]} == request.json
    assert value == request.headers[header]
    assert {header} == {"authorization", "api-key"} & {name.lower() for name in request.headers}


@pytest.mark.parametrize(
    ("row", "variable"),
    [pytest.param(row, name, id=f"{row.id}-{name}") for row in ROWS for name in row.keys],
)
def test_the_key_comes_from_each_of_the_vendors_variables(
    row: CompatibleVendor, variable: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "sk-env")

    with create_kernel(configured(row, base_url=base_of(row, upstream))) as kernel:
        kernel.model_selector.get_model().generate("Hello!")

    assert "sk-env" == upstream.requests[0].key


@pytest.mark.parametrize("row", HOSTED, ids=lambda row: row.id)
def test_a_vendor_without_a_key_is_refused_with_its_variable(row: CompatibleVendor) -> None:
    with (
        pytest.raises(errors.MissingCredentialsError) as caught,
        create_kernel(configured(row)) as k,
    ):
        k.model_selector.get_model()

    assert row.keys == caught.value.variables
    assert row.keys[0] in str(caught.value)
    assert f"[llm.providers.{row.id}]" in str(caught.value)


@pytest.mark.parametrize("row", LOCAL, ids=lambda row: row.id)
def test_a_local_server_needs_no_key_and_is_on_this_host(row: CompatibleVendor) -> None:
    with create_kernel(configured(row)) as kernel:
        assert kernel.model_selector.get_model().inner is not None

    assert ("http", "localhost") == (urlsplit(row.base_url).scheme, urlsplit(row.base_url).hostname)


@every_row
def test_errors_name_the_vendor(row: CompatibleVendor, upstream: Upstream) -> None:
    upstream.fail(401)
    config = {"api_key": "sk-mine", "base_url": base_of(row, upstream)}

    with create_kernel(configured(row, **config)) as kernel:
        model = kernel.model_selector.get_model()
        with pytest.raises(errors.AuthenticationError, match=rf"providers\.{row.id}\b") as caught:
            model.generate("Hello!")

    assert (row.id, "m-1") == (caught.value.provider, caught.value.model)


def test_a_setting_that_is_not_for_configuring_is_refused_at_the_vendors_key(
    upstream: Upstream,
) -> None:
    provider = OpenAIProvider(Transport(NetworkSettings()), COMPATIBLE["groq"])

    with pytest.raises(errors.ConfigurationError, match=r"llm\.providers\.groq\.extra\.stream"):
        provider.create_model("m-1", {"stream": True})


# --- Azure ---


@pytest.mark.parametrize(
    ("path", "extra", "expected", "version"),
    [
        ("", {}, "/openai/deployments/m/chat/completions", AZURE_VERSION),
        ("/", {}, "/openai/deployments/m/chat/completions", AZURE_VERSION),
        ("/openai", {}, "/openai/deployments/m/chat/completions", AZURE_VERSION),
        ("", {"api_version": "2025-04-01"}, "/openai/deployments/m/chat/completions", "2025-04-01"),
        ("/openai/v1/", {}, "/openai/v1/chat/completions", None),
    ],
)
def test_azure_is_called_by_deployment_or_at_its_newer_api(
    path: str, extra: dict[str, Any], expected: str, version: str | None, upstream: Upstream
) -> None:
    settings = configured(
        COMPATIBLE["azure"], api_key="k", base_url=upstream.url + path, extra=extra
    )
    with create_kernel(settings) as kernel:
        kernel.llm_registry.get_model("azure:m").generate("Hello!")

    (request,) = upstream.requests
    assert (expected, version) == (request.path, request.query.get("api-version"))
    assert "k" == request.key
    assert "api_version" not in request.json


def test_a_deployments_name_stays_one_part_of_the_path() -> None:
    url, _ = COMPATIBLE["azure"].endpoint("a/b?c", {"base_url": "https://r.openai.azure.com"})

    assert "https://r.openai.azure.com/openai/deployments/a%2Fb%3Fc" == url


def test_azures_endpoint_and_key_may_both_come_from_the_environment(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", upstream.url)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "sk-env")
    # What the SDK would read besides; the token would go before the key.
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "planted")
    monkeypatch.setenv("OPENAI_API_VERSION", "planted")

    with create_kernel({}) as kernel:
        kernel.llm_registry.get_model("azure:m").generate("Hello!")

    (request,) = upstream.requests
    assert "sk-env" == request.headers["api-key"]
    assert "planted" not in f"{request.query} {dict(request.headers)}"


def test_azure_without_an_endpoint_is_refused_with_the_place_to_set_it() -> None:
    settings = configured(COMPATIBLE["azure"], api_key="sk-mine")

    with create_kernel(settings) as kernel, pytest.raises(errors.ConfigurationError) as caught:
        kernel.model_selector.get_model()

    (problem,) = caught.value.problems
    assert "llm.providers.azure.base_url" == problem.key
    assert "AZURE_OPENAI_ENDPOINT" in problem.message


def test_another_vendor_without_an_endpoint_names_no_variable() -> None:
    own = CompatibleVendor(id="own", name="Own", source="")

    with pytest.raises(errors.ConfigurationError, match=r"to \[llm\.providers\.own\]\."):
        own.endpoint("m", {})


# --- in the catalogue ---


def test_vendors_are_providers_like_the_others_and_one_binding_replaces_them_all() -> None:
    with create_container({}) as app:
        providers = app.llm.registry().providers

        assert {"openai", "litellm", "echo", *COMPATIBLE} == set(providers)
        assert {row.id for row in COMPATIBLE.values()} == {p.id for p in app.llm.vendors()}

        alone = app.derive({"llm.vendors": ()})

        assert {"openai", "litellm", "echo"} == set(alone.llm.registry().providers)


def test_what_comes_before_the_first_separator_decides() -> None:
    with create_kernel({}) as kernel:
        get = kernel.llm_registry.get_model

        assert "litellm" == get("litellm/ollama/llama3:8b").reference.provider
        assert ("ollama", "llama3:8b") == get("ollama/llama3:8b").reference
        assert ("ollama", "llama3:8b") == get("ollama:llama3:8b").reference


def test_a_misspelt_vendor_is_refused_with_the_nearest() -> None:
    misspelt = pytest.raises(errors.ProviderNotFoundError, match="Did you mean 'groq'")
    with create_kernel({}) as kernel, misspelt as caught:
        kernel.llm_registry.get_model("grok:llama")

    assert tuple(sorted({"openai", "litellm", "echo", *COMPATIBLE})) == caught.value.known


def test_what_an_api_has_and_lacks_is_known_of_all_its_models() -> None:
    with create_kernel({}) as kernel:
        groq = kernel.llm_registry.profile("groq:no-such-model")
        ollama = kernel.llm_registry.profile("ollama:no-such-model")

    assert (True, False) == (groq.supports("streaming"), groq.supports("embeddings"))
    assert (True, None) == (ollama.supports("streaming"), ollama.supports("embeddings"))


# --- tenants ---


@every_row
def test_a_tenant_gets_no_key_of_the_environment_for_a_vendor_the_operator_did_not_name(
    row: CompatibleVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in row.keys:
        monkeypatch.setenv(name, "sk-planted")
    for name in row.urls:
        monkeypatch.setenv(name, "https://planted.example")
    base = settings_from({"llm": {"default": {"model": "echo:any"}}})
    overlay = {"llm": {"default": {"model": f"{row.id}:m-1"}}}

    with create_container(base) as app:
        tenant = app.derive({"config.settings": settings_for_tenant(base, "acme", overlay)})
        with pytest.raises(errors.MissingCredentialsError) as caught:
            tenant.llm.selector().get_model()

    assert "planted" not in str(caught.value)


@every_row
def test_a_tenant_uses_the_environments_key_of_a_vendor_the_operator_named(
    row: CompatibleVendor, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in row.keys[:1]:
        monkeypatch.setenv(name, "sk-env")
    base = settings_from(configured(row, base_url=base_of(row, upstream)))
    overlay = {"llm": {"default": {"model": f"{row.id}:m-2"}}}

    with create_container(base) as app:
        tenant = app.derive({"config.settings": settings_for_tenant(base, "acme", overlay)})
        tenant.llm.selector().get_model().generate("Hello!")

    assert ("sk-env" if row.keys else "no-key") == upstream.requests[0].key


@every_row
def test_a_tenants_own_endpoint_gets_no_key_of_the_operators(
    row: CompatibleVendor, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in row.keys:
        monkeypatch.setenv(name, "sk-planted")
    base = settings_from(configured(row, api_key="sk-planted", base_url="https://our.example"))
    overlay = {"llm": {"providers": {row.id: {"base_url": base_of(row, upstream)}}}}

    with create_container(base) as app:
        tenant = app.derive({"config.settings": settings_for_tenant(base, "acme", overlay)})
        tenant.llm.selector().get_model().generate("Hello!")

    assert "planted" not in f"{dict(upstream.requests[0].headers)}"


@every_row
def test_a_tenants_extra_may_hold_the_same_for_every_vendor(row: CompatibleVendor) -> None:
    assert parameters_of(["openai"]) == parameters_of([row.id])
    assert "api_version" not in parameters_of([row.id])
