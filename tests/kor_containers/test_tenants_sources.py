"""Overlays come from a mapping, a folder of TOML files, or a function; all fail clearly."""

import asyncio
import contextlib
import os
import re
import threading
import traceback

import pytest

from kor_containers import TenantKernels, create_container
from kor_containers.overlays import Overlay, reader_of
from kor_core.errors import ConfigurationError, TenantError, TenantNotFoundError
from kor_core.kernel import get_kernel, reset_kernel

ECHO = {"llm": {"default": {"provider": "echo", "model": "plain"}}}
CODING = {"llm": {"purposes": {"coding": {"provider": "echo", "model": "coder"}}}}


@pytest.fixture(autouse=True)
def no_default():
    reset_kernel()
    yield
    reset_kernel()


@pytest.fixture
def app():
    with create_container(ECHO) as app:
        yield app


def coder(kernel):
    return kernel.model_selector.get_model("coding").model_name


# --- a folder ---


@pytest.fixture
def folder(tmp_path):
    tenants = tmp_path / "tenants"
    tenants.mkdir()
    (tenants / "acme.toml").write_text(
        '[llm.purposes.coding]\nprovider = "echo"\nmodel = "coder"\n'
    )
    (tenants / "token.toml").write_text('[llm.default]\nmodel = "@format {env[HOME]}"\n')
    (tenants / "include.toml").write_text('dynaconf_include = ["../secret.toml"]\n')
    (tenants / "broken.toml").write_text("[llm.default\n")
    (tmp_path / "secret.toml").write_text('[llm.purposes.coding]\nmodel = "echo:stolen"\n')
    return tenants


@pytest.mark.parametrize("kind", [str, lambda path: path])
async def test_a_folder_holds_a_file_for_each_tenant(app, folder, kind):
    async with TenantKernels(app, kind(folder)) as tenants:
        async with tenants.use("acme") as kernel:
            found = coder(kernel)
        with tenants.use("acme") as same:
            pass

    assert "coder" == found
    assert same is kernel
    assert str(folder / "acme.toml") == kernel.settings.origin("llm", "purposes", "coding", "model")


def test_a_relative_folder_is_meant_from_where_it_was_given(app, folder):
    with contextlib.chdir(folder.parent):
        tenants = TenantKernels(app, "tenants")
    with tenants, tenants.use("acme") as kernel:
        found = coder(kernel)

    assert "coder" == found


def test_a_file_is_read_by_tomllib_alone(app, folder):
    with TenantKernels(app, folder) as tenants:
        with pytest.raises(ConfigurationError, match="begins with '@'"), tenants.use("token"):
            pass
        with pytest.raises(ConfigurationError, match="dynaconf's own"), tenants.use("include"):
            pass


def test_a_broken_file_is_told_with_its_line_and_the_others_serve(app, folder):
    with TenantKernels(app, folder) as tenants:
        with (
            pytest.raises(ConfigurationError, match=r"broken\.toml:1: TOML"),
            tenants.use("broken"),
        ):
            pass
        with tenants.use("acme") as kernel:
            found = coder(kernel)

    assert "coder" == found


@pytest.mark.parametrize("tenant", ["nobody", "acme.toml"])
def test_a_tenant_without_a_file_is_unknown(app, folder, tenant):
    tenants = TenantKernels(app, folder)
    with tenants, pytest.raises(TenantNotFoundError), tenants.use(tenant):
        pass


@pytest.mark.parametrize("tenant", ["../secret", "..", "/etc/passwd", "tenants/../../secret"])
def test_no_id_leads_out_of_the_folder(app, folder, tenant):
    tenants = TenantKernels(app, folder)
    with tenants, pytest.raises(TenantNotFoundError), tenants.use(tenant):
        pass


def refusal(app, folder, tenant):
    with (
        TenantKernels(app, folder) as tenants,
        pytest.raises((TenantError, ConfigurationError)) as caught,
        tenants.use(tenant),
    ):
        pass
    return caught.value


@pytest.mark.parametrize(
    "target", ["../secret.toml", "{folder}/../secret.toml", "../else/globex.toml"]
)
def test_a_link_out_of_the_folder_is_refused_and_names_nobody_else(app, folder, target):
    (folder.parent / "else").mkdir()
    (folder.parent / "else" / "globex.toml").write_text("")
    (folder / "linked.toml").symlink_to(target.format(folder=folder))
    error = refusal(app, folder, "linked")

    assert TenantError is type(error)
    assert "linked" == error.tenant
    assert "leads out of the folder" in str(error)
    assert "secret" not in str(error)
    assert "globex" not in str(error)


def test_a_link_to_a_folder_outside_is_refused_too(app, folder):
    (folder.parent / "else").mkdir()
    (folder.parent / "else" / "acme.toml").write_text("")
    (folder / "inner").symlink_to(folder.parent / "else")
    (folder / "linked.toml").symlink_to("inner/acme.toml")

    assert "leads out of the folder" in str(refusal(app, folder, "linked"))


def test_links_inside_the_folder_serve_as_kubernetes_mounts_them(app, folder):
    """A mounted ConfigMap is a folder of links: acme.toml -> ..data/acme.toml -> ..1/acme.toml."""
    (folder / "..1").mkdir()
    (folder / "acme.toml").rename(folder / "..1" / "acme.toml")
    (folder / "..data").symlink_to("..1")
    (folder / "acme.toml").symlink_to("..data/acme.toml")
    (folder.parent / "mounted").symlink_to("tenants")
    with TenantKernels(app, folder.parent / "mounted") as tenants, tenants.use("acme") as kernel:
        found = coder(kernel)

    assert "coder" == found


def test_a_link_to_nothing_or_to_itself_is_no_tenant(app, folder):
    (folder / "gone.toml").symlink_to("nowhere.toml")
    (folder / "round.toml").symlink_to("round.toml")

    assert TenantNotFoundError is type(refusal(app, folder, "gone"))
    assert "cannot be read" in str(refusal(app, folder, "round"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_and_waited_for_by_nobody(app, folder, make):
    make(folder / "odd.toml")

    assert "odd.toml: Expected a file" in str(refusal(app, folder, "odd"))


def test_a_file_of_more_than_256_kb_is_refused_before_it_is_parsed(app, folder, monkeypatch):
    comment = "# a comment\n"
    (folder / "large.toml").write_text(comment * (2**18 // len(comment)) + "#" * 20)
    (folder / "fits.toml").write_bytes(b"#" * 2**18)
    with TenantKernels(app, folder) as tenants, tenants.use("fits"):
        pass
    monkeypatch.setattr("kor_core.settings.toml.parsed_toml", lambda *_: pytest.fail("parsed"))

    assert "large.toml: The file is larger than 256 KB" in str(refusal(app, folder, "large"))


def test_an_id_is_spelt_as_its_file_where_the_file_system_ignores_case(app, folder, monkeypatch):
    """Otherwise one tenant's overlay, with its key, would serve a second id."""
    for name in ("ACME.toml", "acme.TOML"):  # as such a file system answers to any spelling
        os.link(folder / "acme.toml", folder / name)
    monkeypatch.setattr("pathlib.Path.iterdir", lambda here: iter([here / "acme.toml"]))

    assert TenantNotFoundError is type(refusal(app, folder, "ACME"))
    with TenantKernels(app, folder) as tenants, tenants.use("acme") as kernel:
        assert "coder" == coder(kernel)


@pytest.mark.parametrize(
    "tenant", ["a/b", "a\\b", "a\0b", ".", "", ".acme", "acme\n", "a:b", "é", "a" * 129]
)
def test_no_id_is_more_than_the_name_of_a_file(app, folder, tenant):
    assert TenantNotFoundError is type(refusal(app, folder, tenant))


def test_a_folder_that_is_not_there_is_refused_at_once(app, tmp_path):
    with pytest.raises(ConfigurationError, match="no such folder"):
        TenantKernels(app, tmp_path / "tenants")
    with pytest.raises(ConfigurationError, match="Expected a mapping, a folder or a function"):
        TenantKernels(app, 3)


# --- functions ---


def test_a_function_gives_overlays_and_none_for_unknown_tenants(app):
    with TenantKernels(app, {"acme": CODING}.get) as tenants:
        with tenants.use("acme") as kernel:
            found = coder(kernel)
        with pytest.raises(TenantNotFoundError), tenants.use("beta"):
            pass

    assert "coder" == found


def test_a_key_error_of_the_id_means_an_unknown_tenant_and_another_one_a_failure(app):
    overlays = TenantKernels(app, {"acme": CODING}.__getitem__)
    with overlays, pytest.raises(TenantNotFoundError), overlays.use("beta"):
        pass
    failing = TenantKernels(app, lambda tenant: {}["dsn"])
    with failing, pytest.raises(TenantError, match=r"failed for tenant 'acme': KeyError\."):
        failing.container("acme")


async def test_async_code_asks_a_function_beside_its_loop(app):
    threads = []

    def source(tenant):
        threads.append(threading.current_thread())
        return CODING

    async with TenantKernels(app, source) as tenants:
        async with tenants.use("acme"):
            pass
        with tenants.use("beta"):
            pass

    assert threads[0] is not threading.current_thread()
    assert threads[1] is threading.current_thread()


class Database:
    async def __call__(self, tenant):
        await asyncio.sleep(0)
        return CODING if tenant == "acme" else None


async def fetch(tenant):
    return await Database()(tenant)


@pytest.mark.parametrize("source", [fetch, Database(), Database().__call__])
async def test_an_async_source_serves_async_code_only(app, source):
    async with TenantKernels(app, source) as tenants:
        with pytest.raises(TenantError, match="Write `async with"), tenants.use("acme"):
            pass
        async with tenants.use("acme") as kernel:
            found = coder(kernel)
            with pytest.raises(TenantError, match="Write `async with"), tenants.use("acme"):
                pass
            assert tenants.container("acme").kernel() is kernel
        with pytest.raises(TenantNotFoundError):
            async with tenants.use("beta"):
                pass

    assert "coder" == found


async def test_a_lambda_that_calls_an_async_function_is_found_out(app):
    async with TenantKernels(app, lambda tenant: fetch(tenant)) as tenants:  # noqa: PLW0108  # a function that is not async itself
        async with tenants.use("acme") as kernel:
            found = coder(kernel)
        with pytest.raises(TenantError, match="Write `async with"), tenants.use("acme"):
            pass

    assert "coder" == found


async def test_sync_code_finds_such_a_lambda_out_too(app):
    async with TenantKernels(app, lambda tenant: fetch(tenant)) as tenants:  # noqa: PLW0108  # a function that is not async itself
        with pytest.raises(TenantError, match="Write `async with"), tenants.use("acme"):
            pass
        task = tenants.reload("acme")
        await task

        assert ("acme",) == tenants.active


async def test_a_source_that_gives_a_future_is_async(app):
    def source(tenant):
        future = loop.create_future()
        loop.call_soon_threadsafe(future.set_result, CODING)
        return future

    loop = asyncio.get_running_loop()
    async with TenantKernels(app, source) as tenants:
        with pytest.raises(TenantError, match="Write `async with"), tenants.use("acme"):
            pass
        async with tenants.use("acme") as kernel:
            assert "coder" == coder(kernel)


async def test_reload_with_an_async_source_is_a_task(app):
    models = iter(["first", "second"])

    async def source(tenant):
        return {"llm": {"purposes": {"coding": {"provider": "echo", "model": next(models)}}}}

    async with TenantKernels(app, source) as tenants, tenants.use("acme") as old:
        await tenants.reload("acme")
        in_flight = coder(get_kernel())
        async with tenants.use("acme") as new:
            found = coder(get_kernel())

    assert ("first", "second") == (in_flight, found)
    assert new is not old


def test_reload_with_an_async_source_needs_a_running_loop(app):
    with TenantKernels(app, fetch) as tenants, pytest.raises(TenantError, match="is async"):
        tenants.reload("acme")


async def test_a_tenant_that_is_gone_from_an_async_source_loses_its_kernel_at_reload(app):
    known = {"acme": CODING}

    async def source(tenant):
        return known.get(tenant)

    async with TenantKernels(app, source) as tenants:
        async with tenants.use("acme"):
            pass
        known.clear()
        with pytest.raises(TenantNotFoundError):
            await tenants.reload("acme")

        assert () == tenants.active


# --- failing sources ---


def test_a_failing_source_names_its_tenant_alone_and_leaves_the_others_serving(app):
    def source(tenant):
        if tenant == "acme":
            raise OSError("postgres://admin:hunter2@db refused; tenants: beta, carol")
        return CODING

    with TenantKernels(app, source) as tenants:
        with pytest.raises(TenantError) as caught, tenants.use("acme"):
            pass
        with tenants.use("beta") as kernel:
            found = coder(kernel)

    assert "coder" == found
    assert "acme" == caught.value.tenant
    assert "beta" not in str(caught.value)
    assert shows_its_class_and_place_alone(caught.value)


def shows_its_class_and_place_alone(error):
    shown = "".join(
        traceback.TracebackException.from_exception(error, capture_locals=True).format()
    )
    found = re.search(r"Raised in (.*), line \d+\.", shown)
    return "hunter2" not in shown and "OSError" in shown and found and found[1] == __file__


async def test_a_failing_async_source_is_told_alike(app):
    async def source(tenant):
        raise OSError("hunter2")

    async with TenantKernels(app, source) as tenants:
        with pytest.raises(TenantError, match=r"failed for tenant 'acme': OSError\.") as caught:
            async with tenants.use("acme"):
                pass

    assert shows_its_class_and_place_alone(caught.value)


def test_errors_of_kor_pass_through_a_source(app):
    def source(tenant):
        raise TenantError("Tenant is suspended.", tenant=tenant)

    tenants = TenantKernels(app, source)
    with tenants, pytest.raises(TenantError, match="suspended"), tenants.use("acme"):
        pass


async def test_errors_of_kor_pass_through_an_async_source_too(app):
    async def source(tenant):
        raise TenantError("Tenant is suspended.", tenant=tenant)

    async with TenantKernels(app, source) as tenants:
        with pytest.raises(TenantError, match="suspended"):
            async with tenants.use("acme"):
                pass


@pytest.mark.parametrize("given", [[], "llm", 3])
def test_what_is_no_mapping_is_refused(app, given):
    tenants = TenantKernels(app, lambda tenant: given)
    with tenants, pytest.raises(TenantError, match="not a mapping"), tenants.use("acme"):
        pass


def test_a_source_that_asks_for_the_tenant_it_is_asked_for_is_told(app):
    def source(tenant):
        with tenants.use(tenant):
            return CODING

    tenants = TenantKernels(app, source)
    with tenants, pytest.raises(TenantError, match="while it is asked for it"), tenants.use("acme"):
        pass


async def test_a_source_may_ask_for_another_tenant(app):
    async def source(tenant):
        if tenant == "acme":
            async with tenants.use("parent"):
                return CODING
        return {}

    async with TenantKernels(app, source) as tenants, tenants.use("acme") as kernel:
        assert "coder" == coder(kernel)


def test_an_overlay_shows_no_key():
    reader = reader_of({"acme": {"llm": {"providers": {"openai": {"api_key": "sk-acme"}}}}})

    assert "<Overlay >" == repr(reader.read("acme"))
    assert "<Overlay acme.toml>" == repr(Overlay({"api_key": "sk-acme"}, "acme.toml"))
