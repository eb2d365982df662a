"""Which proxy a request goes through: the configured one, or the environment's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from kor_core.errors import ConfigurationError, Problem
from kor_core.redaction import Secret
from kor_core.settings import NetworkSettings

__all__ = ["Proxies"]

_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies by scheme of the target, and the hosts that are reached directly.

    Args:
        by_scheme: proxy URL for ``http``, ``https`` or, for both, ``all``. They may hold
            credentials, which never show.
        direct: entries of ``NO_PROXY``.

    >>> proxies = Proxies({"all": Secret("http://proxy:3128")}, (".internal", "localhost"))
    >>> str(proxies.of("https://api.openai.com/v1"))
    'http://proxy:3128'
    >>> proxies.of("https://llm.internal/v1") is None
    True
    """

    by_scheme: Mapping[str, str] = field(default_factory=dict[str, str])
    direct: tuple[str, ...] = ()

    @classmethod
    def configured(cls, settings: NetworkSettings) -> "Proxies":
        """Read the settings, or the environment where they name no proxy and allow it.

        Raises:
            ConfigurationError: a proxy of a kind that cannot be used.
        """
        if settings.proxy is not None:
            return cls({"all": _usable(settings.proxy, key="network.proxy")})
        return cls.of_environment() if settings.trust_env else cls()

    @classmethod
    def of_environment(cls) -> "Proxies":
        """Read ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.

        The names count in lower case too; on macOS and Windows the system's proxies count,
        as they do for httpx.
        """
        found = getproxies()
        direct = tuple(entry.strip() for entry in found.get("no", "").split(",") if entry.strip())
        if "*" in direct:
            return cls()
        return cls(
            {
                scheme: _usable(found[scheme], origin=f"{scheme}_proxy".upper())
                for scheme in (*_SCHEMES, "all")
                if found.get(scheme)
            },
            direct,
        )

    def of(self, url: str) -> str | None:
        """Return the proxy for a URL, or None when it is reached directly."""
        if not self.by_scheme:
            return None
        target = urlsplit(url)
        host = (target.hostname or "").lower()
        port = target.port or {"http": 80, "https": 443}.get(target.scheme)
        if any(_covers(entry, target.scheme, host, port) for entry in self.direct):
            return None
        return self.by_scheme.get(target.scheme) or self.by_scheme.get("all")


def _usable(proxy: str, *, origin: str = "", key: str = "") -> Secret:
    url = proxy if "://" in proxy else f"http://{proxy}"
    scheme = url.partition("://")[0].lower()
    if scheme in _SCHEMES and urlsplit(url).hostname:
        return Secret(url)
    raise ConfigurationError(
        [
            Problem(
                f"A proxy of the kind '{scheme}://' cannot be used. Give an http:// or "
                "https:// proxy with a host; set [network] trust_env = false to leave the "
                "environment's proxies alone.",
                origin,
                key,
            )
        ]
    )


def _covers(entry: str, scheme: str, host: str, port: int | None) -> bool:
    """Say whether one entry of NO_PROXY covers a target, by the rules of httpx."""
    wanted_scheme, separator, rest = entry.rpartition("://")
    if separator and wanted_scheme not in {"all", scheme}:
        return False
    wanted, wanted_port = _host_and_port(rest.lower())
    if wanted_port is not None and wanted_port != port:
        return False
    if separator or _is_exact(wanted):
        return host == wanted
    domain = wanted.removeprefix("*").removeprefix(".")
    beneath = host.endswith(f".{domain}")
    return beneath or (host == domain and not wanted.startswith((".", "*.")))


def _host_and_port(entry: str) -> tuple[str, int | None]:
    if entry.count(":") > 1 and not entry.startswith("["):  # a bare IPv6 address
        return entry, None
    parts = urlsplit(f"//{entry}")
    port = entry.rpartition(":")[2]
    return parts.hostname or "", int(port) if port.isdecimal() and parts.port else None


def _is_exact(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
