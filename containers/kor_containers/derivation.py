"""How a tenant's container comes from the application's: by replacing its settings."""

from typing import Any, cast

from dependency_injector.providers import Container

from kor_containers.application import ApplicationContainer
from kor_containers.config import Source, read
from kor_containers.container import KorInstance
from kor_containers.overlays import Overlay
from kor_containers.pool import Base, Lease
from kor_containers.spaces import Space
from kor_core.errors import ContainerError
from kor_core.settings.overlay import settings_for_tenant

__all__ = ["Derivation", "steps_to_application"]


class Derivation:
    """Derives tenants from an application's container.

    Args:
        app: the container: an ``ApplicationContainer``, or one that holds one.

    Raises:
        ContainerError: it holds none, or several.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._above = app.place()[1] if isinstance(app, KorInstance) else ""
        self._steps = steps_to_application(app)
        self._prefix = "".join(f"{step}." for step in self._steps)
        self._kernel = f"{self._above}{self._prefix}kernel"

    # Spaces, not containers: thousands of tenants need no handles of their own.

    def lease(self, tenant: str, overlay: Overlay, base: Base) -> Lease:
        """Return a tenant's kernel in its container, from sync code.

        Raises:
            ConfigurationError: the overlay is wrong.
        """
        space = self._derived(tenant, overlay, base)
        try:
            return Lease(tenant, base, space, space.give(self._kernel, None))
        except BaseException:
            space.close()
            raise

    async def alease(self, tenant: str, overlay: Overlay, base: Base) -> Lease:
        """Return a tenant's kernel in its container, from async code."""
        space = self._derived(tenant, overlay, base)
        try:
            return Lease(tenant, base, space, await space.agive(self._kernel, None))
        except BaseException:
            await space.aclose()
            raise

    def container(self, lease: Lease) -> Any:
        """Return the tenant's container, as the application's is."""
        return lease.space.view(self._above)

    def renewed(self, source: Source) -> Base:
        """Return the application with its configuration read again, its kernel built.

        Raises:
            ConfigurationError: the configuration is wrong.
        """
        given = self._application(self._app).handed_in().source if source is None else source
        container = self._app.derive({f"{self._prefix}config.operator": read(given)})
        try:
            self._application(container).kernel()
        except BaseException:
            container.close()
            raise
        return Base(container, is_ours=True)

    def shared(self) -> tuple[str, ...]:
        """Return the paths of the bindings that tenants share, sorted."""
        space, above = self._app.place()
        graph = space.top.graph
        own = graph.closure((self._settings,))
        shared = [path for path in graph.edges.keys() - own if path.startswith(above)]
        return tuple(sorted(path.removeprefix(above) for path in shared))

    def _derived(self, tenant: str, overlay: Overlay, base: Base) -> Space:
        operator = self._application(base.container).config.operator()
        settings = settings_for_tenant(operator, tenant, overlay.tables, place=overlay.place)
        space: Space = base.container.place()[0]
        return space.derive({self._settings: settings})

    @property
    def _settings(self) -> str:
        return f"{self._above}{self._prefix}config.settings"

    def _application(self, container: Any) -> Any:
        for step in self._steps:
            container = getattr(container, step)
        return container


def steps_to_application(app: Any) -> tuple[str, ...]:
    """Return the names that lead from a container to the ``ApplicationContainer`` in it.

    Raises:
        ContainerError: it holds none, or several.
    """
    found = list(_applications(app, ()))
    if len(found) == 1:
        return found[0]
    raise ContainerError(
        f"{type(app).__name__} holds {len(found)} ApplicationContainers, and must hold one. "
        "Hand in what create_container() returned, or a container that holds "
        "`kor = providers.Container(ApplicationContainer)`."
    )


def _applications(app: Any, steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    if isinstance(app, ApplicationContainer):
        return [steps]
    inside = getattr(app, "providers", {})
    return [
        found
        for name, provider in inside.items()
        if isinstance(provider, Container)
        for found in _applications(cast("Any", provider).container, (*steps, name))
    ]
