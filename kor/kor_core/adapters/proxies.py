"""Which proxy a request goes through: the configured one, or the environment's."""

import os
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
            ConfigurationError: a variable names a proxy that cannot be used.
        """
        if settings.proxy is not None:
            return cls({"all": Secret(settings.proxy)})
        return cls.of_environment() if settings.trust_env else cls()

    @classmethod
    def of_environment(cls) -> "Proxies":
        """Read ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.

        The names count in lower case too; on macOS and Windows the system's proxies count,
        as they do for httpx.

        Raises:
            ConfigurationError: everything that is wrong with them.
        """
        outcome = _read()
        if isinstance(outcome, Proxies):
            return outcome
        raise ConfigurationError(outcome)  # here, where no local holds a password

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


# --- the environment's --------------------------------------------------------------------


def _read() -> Proxies | list[Problem]:
    found = getproxies()
    direct = tuple(entry.strip() for entry in found.get("no", "").split(",") if entry.strip())
    if "*" in direct:
        return Proxies()
    urls = {scheme: found.get(scheme, "").strip() for scheme in (*_SCHEMES, "all")}
    # `proxy:3128` is how many write it.
    named = {
        scheme: Secret(url if "://" in url else f"http://{url}")
        for scheme, url in urls.items()
        if url
    }
    wrong = [(scheme, _unusable(url)) for scheme, url in named.items()]
    wrong += [("no", _unclear(entry)) for entry in direct]
    problems = [Problem(f"{words} {_CURE}", _variable(name)) for name, words in wrong if words]
    return list(dict.fromkeys(problems)) or Proxies(named, direct)


_CURE: Final = (
    "Mend the variable, or leave the environment's alone by trust_env = false in [network], or "
    "name a proxy there."
)


def _unusable(proxy: str) -> str:
    """Return what is wrong with a proxy, if anything; without its password."""
    if proxy.lower().startswith("socks"):
        return "SOCKS proxies cannot be used."
    try:
        parts = urlsplit(proxy)
        fits = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that make no sense
        fits = False
    fits = fits and proxy.isprintable() and " " not in proxy
    return "" if fits else "Expected http://host:port or https://host:port."


def _unclear(entry: str) -> str:
    try:
        _host_and_port(entry.rpartition("://")[2])
    except ValueError:
        return "Expected hosts, each with a port or without, and commas between them."
    return ""


def _variable(scheme: str) -> str:
    name = f"{scheme}_proxy"
    # In lower case first, as Python reads them.
    found = sorted((each for each in os.environ if each.lower() == name), reverse=True)
    return found[0] if found else "the proxies of the system"


# --- the hosts that are reached directly --------------------------------------------------


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
    return parts.hostname or "", parts.port


def _is_exact(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
