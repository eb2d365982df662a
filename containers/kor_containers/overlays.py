"""Where tenants' overlays come from: a mapping, a folder of TOML files, or a function."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike
from pathlib import Path
from traceback import extract_tb
from typing import Any, Final, NamedTuple, Protocol

from kor_containers.folders import file_of
from kor_core.errors import (
    ConfigurationError,
    KorError,
    Problem,
    TenantError,
    TenantNotFoundError,
)
from kor_core.settings.provenance import Sourced, as_table
from kor_core.settings.toml import read_toml

__all__ = [
    "Overlay",
    "OverlayReader",
    "OverlaySource",
    "checked_id",
    "needs_async",
    "reader_of",
    "refuse_circle",
]

_Found = Mapping[str, Any] | None
OverlaySource = (
    Mapping[str, Mapping[str, Any]]
    | str
    | PathLike[str]
    | Callable[[str], _Found | Awaitable[_Found]]
)
"""Overlays by id, a folder of ``<id>.toml`` files, or a function, async or not, of the id."""

# A name of a file in every folder, and of nothing else: no separator, no leading dot.
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}")

# In bytes. An overlay is written by somebody else, and finding the lines of a large one takes long.
_LARGEST: Final = 256 * 1024


def checked_id(tenant: object) -> str:
    """Return a tenant's id, which is safe as the name of a file.

    Raises:
        TenantNotFoundError: no tenant can have such an id.

    >>> checked_id("acme")
    'acme'
    >>> checked_id("../acme")
    Traceback (most recent call last):
    kor_core.errors.TenantNotFoundError: No tenant '../acme': ...
    """
    if isinstance(tenant, str) and _ID.fullmatch(tenant):
        return tenant
    shown = repr(tenant)[:130]
    raise TenantNotFoundError(
        str(tenant)[:128],
        f"No tenant {shown}: an id is 1 to 128 letters, digits and '_', '-', '.', '@' or '+', "
        "and begins with a letter, a digit or '_'.",
    )


class Overlay(NamedTuple):
    """What a source has for a tenant.

    Args:
        tables: the overlay.
        place: the file it stands in; empty where it is in none.
    """

    tables: Mapping[str, Any] | Sourced
    place: str = ""

    def __repr__(self) -> str:
        return f"<Overlay {self.place}>"  # tables may hold a key


class OverlayReader(Protocol):
    """Reads the overlay of one tenant.

    Args:
        is_async: whether only ``aread`` works.
    """

    is_async: bool

    def read(self, tenant: str) -> Overlay:
        """Return the overlay.

        Raises:
            TenantNotFoundError: there is no such tenant.
            TenantError: the source failed.
            ConfigurationError: a file is no TOML.
        """
        ...

    async def aread(self, tenant: str) -> Overlay:
        """Return the overlay, from async code."""
        ...


def reader_of(source: OverlaySource) -> OverlayReader:
    """Return what reads a source.

    Raises:
        ConfigurationError: it is none, or there is no such folder.
    """
    given: Any = source
    if isinstance(given, str | PathLike):
        return _Folder(Path(given))  # pyright: ignore[reportUnknownArgumentType]  # of Any
    if callable(given):
        return _Function(given)
    if isinstance(given, Mapping):
        return _Mapping(given)  # pyright: ignore[reportUnknownArgumentType]  # of Any
    words = f"Expected a mapping, a folder or a function, found {type(source).__name__}."
    raise ConfigurationError([Problem(words, "source of TenantKernels")])


class _Mapping:
    is_async = False

    def __init__(self, overlays: Mapping[str, Mapping[str, Any]]) -> None:
        self._overlays = overlays

    def read(self, tenant: str) -> Overlay:
        return _found(tenant, self._overlays.get(tenant))

    async def aread(self, tenant: str) -> Overlay:
        return self.read(tenant)


class _Folder:
    is_async = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().absolute()
        if not self._folder.is_dir():
            problem = Problem("There is no such folder of overlays.", str(folder))
            raise ConfigurationError([problem])

    def read(self, tenant: str) -> Overlay:
        path = file_of(self._folder, tenant)
        outcome = None if path is None else read_toml(path, largest=_LARGEST)
        if outcome is None:
            raise TenantNotFoundError(tenant)
        if isinstance(outcome, Problem):
            raise ConfigurationError([outcome])
        return Overlay(outcome, str(path))

    async def aread(self, tenant: str) -> Overlay:
        return await asyncio.to_thread(self.read, tenant)


class _Function:
    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function
        call = getattr(function, "__call__", None)  # noqa: B004  # an object's own async method
        self.is_async: bool = any(map(inspect.iscoroutinefunction, (function, call)))

    def read(self, tenant: str) -> Overlay:
        found = self._outcome(tenant)
        if inspect.isawaitable(found):
            self.is_async = True  # as a lambda that calls an async function
            if inspect.iscoroutine(found):
                found.close()
            raise needs_async(tenant)
        return _found(tenant, found)

    async def aread(self, tenant: str) -> Overlay:
        return _found(tenant, await self._aoutcome(tenant))

    # What it raised is returned: raised from where it was caught, it would take that along.

    def _outcome(self, tenant: str) -> Any:
        try:
            with _asking(tenant):
                return self._function(tenant)
        except KorError:
            raise
        except Exception as error:  # noqa: BLE001  # it may raise anything
            return _failed(tenant, error)

    async def _aoutcome(self, tenant: str) -> Any:
        try:
            with _asking(tenant):
                found = await self._called(tenant)
                if inspect.isawaitable(found):
                    self.is_async = True
                    found = await found
                return found
        except KorError:
            raise
        except Exception as error:  # noqa: BLE001  # it may raise anything
            return _failed(tenant, error)

    async def _called(self, tenant: str) -> Any:
        if self.is_async:
            return self._function(tenant)
        # It may wait for a database, and the event loop must not.
        return await asyncio.to_thread(self._function, tenant)


def needs_async(tenant: str) -> TenantError:
    """Return the error for sync code that asks an async source."""
    return TenantError(
        f"The source of overlays is async, so tenant '{tenant}' cannot be asked for from sync "
        "code. Write `async with tenants.use(id)`, or await what the method returns.",
        tenant=tenant,
    )


def _found(tenant: str, found: object) -> Overlay:
    if found is None:
        raise TenantNotFoundError(tenant)
    if isinstance(found, TenantError):
        raise found
    tables = as_table(found)
    if tables is None:
        words = f"The source gave {type(found).__name__} for tenant '{tenant}', not a mapping."
        raise TenantError(f"{words} Give the overlay as tables, or None.", tenant=tenant)
    return Overlay(tables)


# The tenants whose overlay is being asked of a function, in this context.
_asked: ContextVar[frozenset[str]] = ContextVar("kor_asked_tenants", default=frozenset())


def refuse_circle(tenant: str) -> None:
    """Refuse to wait for a tenant's kernel inside the function that is asked for its overlay.

    Raises:
        TenantError: this is inside of it.
    """
    if tenant in _asked.get():
        raise TenantError(
            f"The source of overlays asks for tenant '{tenant}' while it is asked for it.",
            tenant=tenant,
        )


@contextmanager
def _asking(tenant: str) -> Generator[None]:
    """Know for which tenant a function is being asked."""
    token = _asked.set(_asked.get() | {tenant})
    try:
        yield
    finally:
        _asked.reset(token)


def _failed(tenant: str, error: Exception) -> TenantError:
    """Return what tells of a failure by its class and its place alone.

    Words of a database's error may hold its password, and so may the locals of its frames:
    it is no cause either.
    """
    if isinstance(error, KeyError) and error.args == (tenant,):  # overlays.__getitem__
        return TenantNotFoundError(tenant)
    words = f"The source of overlays failed for tenant '{tenant}': {type(error).__name__}."
    failed = TenantError(f"{words} Others are served; ask again.", tenant=tenant)
    last = extract_tb(error.__traceback__)[-1]
    failed.add_note(f"Raised in {last.filename}, line {last.lineno}.")
    return failed
