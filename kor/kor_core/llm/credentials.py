"""Where a key comes from when the configuration gives none: the environment, and only here."""

from collections.abc import Mapping

from kor_core.errors import MissingCredentialsError, Problem
from kor_core.llm.base import Credentials
from kor_core.redaction import Config

__all__ = ["complete", "require"]


def complete(config: Config, wanted: Credentials, environ: Mapping[str, str]) -> None:
    """Fill in the key, and an endpoint, from the environment where ``config`` has no key.

    A configured key is never sent to an endpoint that comes from the environment.

    Args:
        config: the model's merged settings; changed in place.
        wanted: which variables the provider reads.
        environ: the environment, or an empty mapping where it must not serve.
    """
    if config.get("api_key"):
        return
    if key := _first(wanted.key_variables, environ):
        config["api_key"] = key
    if "base_url" not in config and (url := _first(wanted.url_variables, environ)):
        config["base_url"] = url


def require(
    config: Config, wanted: Credentials, *, provider: str, model: str, asked_by: str
) -> None:
    """Refuse a model whose provider needs a key when there is none.

    Raises:
        MissingCredentialsError: naming the variables and the key path.
    """
    if not wanted.required or config.get("api_key") or config.get("base_url"):
        return
    key = f"llm.providers.{provider}.api_key"
    variables = " or ".join(wanted.key_variables)
    variable_cure = f"set the environment variable {variables}, or " if variables else ""
    message = (
        f"'{provider}:{model}' needs a key and there is none: {variable_cure}"
        f"add api_key to [llm.providers.{provider}]. A local server that takes no key needs "
        f"only its base_url there.{asked_by}"
    )
    raise MissingCredentialsError(
        Problem(message, key=key),
        variables=wanted.key_variables,
        provider=provider,
        model=model,
    )


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)
