"""The SSL context of all connections: built once, because each takes 20 ms."""

import os
import ssl
from pathlib import Path

from kor_core.errors import ConfigurationError, Problem
from kor_core.settings import NetworkSettings

__all__ = ["ssl_context"]


def ssl_context(settings: NetworkSettings) -> ssl.SSLContext:
    """Build the context from ``ca_bundle``, ``client_certificate`` and ``client_key``.

    Without a bundle, ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` count if ``trust_env`` is on, as
    they do for httpx; then the certificates of the package certifi.

    Raises:
        ConfigurationError: a file is missing, unreadable or holds no certificate.
    """
    context = _trusting(settings)
    if settings.client_certificate is not None:
        _identify(context, settings)
    return context


def _trusting(settings: NetworkSettings) -> ssl.SSLContext:
    if settings.ca_bundle is not None:
        return _loaded(Path(settings.ca_bundle), "", "network.ca_bundle")
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR") if settings.trust_env else ():
        if place := os.environ.get(variable):
            return _loaded(Path(place), variable, "")
    import certifi

    return _loaded(Path(certifi.where()), "the package certifi", "")


def _loaded(place: Path, origin: str, key: str) -> ssl.SSLContext:
    try:
        if place.is_dir():
            return ssl.create_default_context(capath=place)
        return ssl.create_default_context(cafile=place)
    except OSError as error:  # ssl.SSLError is one
        raise _unusable(f"The CA bundle {place} cannot be used", error, origin, key) from error


def _identify(context: ssl.SSLContext, settings: NetworkSettings) -> None:
    certificate, key = settings.client_certificate, settings.client_key
    try:
        # An encrypted key would make OpenSSL ask on the terminal; an empty password fails.
        context.load_cert_chain(str(certificate), key and str(key), password="")
    except (OSError, ValueError) as error:
        what = f"The client certificate {certificate} cannot be used"
        raise _unusable(what, error, "", "network.client_certificate") from error


def _unusable(what: str, error: Exception, origin: str, key: str) -> ConfigurationError:
    cure = "It must be a readable PEM file."
    return ConfigurationError([Problem(f"{what}: {error}. {cure}", origin, key)])
