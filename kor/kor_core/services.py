"""Services by name: what an application or plugin hangs on the kernel beside the LLM registry."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kor_core.errors import RegistrationError, ServiceNotFoundError
from kor_core.scope import Layer

__all__ = ["ServiceRegistry"]


class ServiceRegistry:
    """Finds services by name.

    Args:
        own: where services registered here go; they win.
        fixed: services that are always there, such as ``"llm"``, and cannot be replaced here.
        shared: services that plugins registered.

    >>> services = ServiceRegistry(fixed={"llm": "the registry"})
    >>> services.register_service("clock", lambda: 12)
    >>> services.get_service("clock")()
    12
    >>> services.has_service("calendar")
    False
    """

    __slots__ = ("_fixed", "_own", "_shared")

    def __init__(
        self,
        own: Layer[Any] | None = None,
        *,
        fixed: Mapping[str, Any] = MappingProxyType({}),
        shared: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._own: Layer[Any] = Layer() if own is None else own
        self._fixed = fixed
        self._shared = shared

    def get_service(self, name: str) -> Any:
        """Return the service of that name.

        Raises:
            ServiceNotFoundError: there is none; the error lists those there are.
        """
        for place in (self._fixed, self._own, self._shared):
            if name in place:
                return place[name]
        raise ServiceNotFoundError(
            name, self.names, "Register one with kernel.registry.register_service()."
        )

    def register_service(self, name: str, service: Any, *, replace: bool = False) -> None:
        """Register a service for this kernel and everything derived from it.

        Raises:
            RegistrationError: the name is empty or taken (``replace=True`` takes it over,
                except for the fixed ones).
        """
        if not name:
            raise RegistrationError("A service needs a name that is not empty.", name=name)
        if name in self._fixed:
            raise RegistrationError(
                f"'{name}' is a service of the kernel itself. "
                "Override its binding instead, such as `llm.registry`.",
                name=name,
            )
        if not replace and name in self._shared:
            raise RegistrationError(
                f"Service '{name}' is registered already, by a plugin. "
                "Choose another name, or pass replace=True.",
                name=name,
            )
        self._own.add(name, service, replace=replace)

    def has_service(self, name: str) -> bool:
        """Say whether a service of that name is registered."""
        return any(name in place for place in (self._fixed, self._own, self._shared))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all services, sorted."""
        return tuple(sorted({*self._fixed, *self._own, *self._shared}))

    def __repr__(self) -> str:
        return f"<ServiceRegistry {', '.join(self.names)}>"
