"""One kernel per tenant in FastAPI and Starlette: a middleware, and a dependency for endpoints.

It needs the extra ``fastapi``: ``pip install kor-sdk[fastapi]``.

>>> from fastapi import FastAPI
>>> from kor_containers import TenantKernels, create_container
>>> tenants = TenantKernels(create_container({}), {"acme": {}})
>>> service = FastAPI()
>>> service.add_middleware(TenantMiddleware, tenants=tenants)
>>> @service.get("/whoami")
... async def whoami(kernel: CurrentKernel) -> str | None:
...     return kernel.tenant
>>> tenants.close()
"""

import logging
from collections.abc import Callable, Collection
from typing import Annotated, Any, Final

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from kor_containers.tenants import TenantKernels, TenantUse
from kor_core.errors import KorError, TenantNotFoundError
from kor_core.kernel import Kernel, get_kernel

__all__ = ["CurrentKernel", "TenantMiddleware", "current_kernel", "tenant_header"]

_TenantOf = Callable[[HTTPConnection], str | None]

_log: Final = logging.getLogger(__name__)
_POLICY_VIOLATION: Final = 1008  # RFC 6455, 7.4.1
_TRY_AGAIN_LATER: Final = 1013  # IANA's registry of close codes


def tenant_header(name: str = "X-Tenant") -> _TenantOf:
    """Return a function that reads the tenant's id from a header.

    Whoever sets the header chooses the tenant: let only your gateway set it, or read the id
    from what was authenticated instead.
    """
    return lambda connection: connection.headers.get(name)


class TenantMiddleware:
    """Serves each request and WebSocket with the kernel of its tenant as the current one.

    The kernel is in use until the response has ended, streams and background tasks included.
    A request without a tenant is answered with 400, one of an unknown tenant with 404, and
    with 503 one whose kernel cannot be built; what is wrong is logged, not told.

    Args:
        app: the application behind it.
        tenants: the kernels.
        tenant_of: finds the tenant's id in a request; None where there is none.
        exempt: paths that are served without a tenant and without a kernel, each as it stands
            in requests, such as ``("/health", "/docs", "/openapi.json")``.

    Raises:
        TypeError: ``exempt`` is a single text.
    """

    def __init__(
        self,
        app: ASGIApp,
        tenants: TenantKernels[Any],
        tenant_of: _TenantOf | None = None,
        exempt: Collection[str] = (),
    ) -> None:
        if isinstance(exempt, str):
            raise TypeError(f"exempt is a collection of paths. Write exempt=({exempt!r},).")
        self._app = app
        self._tenants = tenants
        self._tenant_of = tenant_of or tenant_header()
        self._exempt = frozenset(exempt)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one WebSocket, or the application's start and end."""
        if scope["type"] not in {"http", "websocket"} or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        use = await self._entered(scope)
        if not isinstance(use, TenantUse):
            await _refusal(scope, use)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            await use.__aexit__(None, None, None)

    async def _entered(self, scope: Scope) -> "TenantUse | tuple[int, str]":
        """Return the use, or the status and words of the refusal."""
        tenant = self._tenant_of(HTTPConnection(scope))
        if not tenant:
            return 400, "The request names no tenant."
        try:
            use = self._tenants.use(tenant)
            await use.__aenter__()
        except TenantNotFoundError:
            return 404, "There is no such tenant."
        except KorError as error:
            _log.warning("The kernel of a tenant cannot be given: %s", error)
            return 503, "The service is not available for this tenant."
        return use


def _refusal(scope: Scope, refused: tuple[int, str]) -> Response | WebSocketClose:
    status, words = refused
    if scope["type"] == "http":
        return JSONResponse({"detail": words}, status_code=status)
    code = _TRY_AGAIN_LATER if status == 503 else _POLICY_VIOLATION  # noqa: PLR2004  # Service Unavailable
    return WebSocketClose(code, words)


async def current_kernel() -> Kernel:
    """Return the kernel of the request's tenant; for ``Depends``."""
    return get_kernel()


CurrentKernel = Annotated[Kernel, Depends(current_kernel)]
"""The type of an endpoint's argument that is the kernel of the request's tenant."""
