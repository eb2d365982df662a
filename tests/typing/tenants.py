"""What type checkers know of tenants; run by mypy and pyright, not by pytest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

from dependency_injector import providers

from kor_containers import ApplicationContainer, KorContainer, TenantKernels, create_container
from kor_core.kernel import Kernel
from kor_core.settings import Settings
from kor_core.settings.overlay import settings_for_tenant


class Shop(KorContainer):
    kor = providers.Container(ApplicationContainer)


def look_up(tenant: str) -> Mapping[str, Any] | None:
    return {tenant: {}}


async def fetch(tenant: str) -> Mapping[str, Any] | None:
    return {tenant: {}}


async def uses_give_kernels(app: ApplicationContainer) -> None:
    tenants = TenantKernels(app, {"acme": {}}, max_active=10, idle_seconds=60)
    assert_type(tenants, TenantKernels[ApplicationContainer])
    with tenants.use("acme") as kernel:
        assert_type(kernel, Kernel)
    async with tenants.use("acme") as kernel:
        assert_type(kernel, Kernel)
    with tenants as entered:
        assert_type(entered, TenantKernels[ApplicationContainer])


def every_source_is_taken(app: ApplicationContainer) -> None:
    TenantKernels(app, "tenants")
    TenantKernels(app, Path("tenants"))
    TenantKernels(app, look_up)
    TenantKernels(app, fetch)


def containers_are_those_of_the_application(app: ApplicationContainer) -> None:
    assert_type(TenantKernels(app, {}).container("acme"), ApplicationContainer)
    shop = create_container(container=Shop)
    assert_type(TenantKernels(shop, {}).container("acme"), Shop)
    assert_type(TenantKernels(shop, {}).shared_bindings(), tuple[str, ...])


def settings_are_settings(base: Settings) -> None:
    assert_type(settings_for_tenant(base, "acme", {}), Settings)
    assert_type(base.tenant, str | None)
