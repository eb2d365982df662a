"""The tables about everything but models: plugins, connections, state.

Every default of them stands here, and what all tables have in common: they are frozen,
refuse unknown keys, show no secret in their repr or JSON, and do not pickle.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kor_core.settings.values import (
    FilePath,
    Flag,
    Number,
    ProxyUrl,
    StateUrl,
    Target,
    Text,
    Whole,
)

__all__ = ["NetworkSettings", "PluginSettings", "StateSettings", "Table", "updated"]


class Table(BaseModel):
    """What every table has in common: frozen, strict about names, silent about secrets."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        # pydantic's own message would show the value, which may be a key
        hide_input_in_errors=True,
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Leave out what is not set, which is most."""
        return (pair for pair in super().__repr_args__() if pair[1] not in (None, (), {}))

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self  # frozen all the way down

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; a deep one shares what is frozen anyway."""
        del deep
        return super().model_copy(update=update)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "Settings are not pickled: they may hold secrets. Load them on the other side."
        )


T = TypeVar("T", bound=Table)


def updated(table: T, update: Mapping[str, Any]) -> T:
    """Return a copy of a checked table with other values, which are checked already.

    It shares what pydantic would copy for each: which fields were set.
    """
    fields = _same_fields(frozenset(table.model_fields_set | update.keys()))
    return type(table).model_construct(_fields_set=fields, **{**table.__dict__, **update})


@lru_cache(maxsize=1024)
def _same_fields(names: frozenset[str]) -> set[str]:
    return set(names)  # never changed: tables are frozen


class PluginSettings(Table):
    """Which plugins are used."""

    enabled: tuple[Text, ...] | None = Field(
        default=None, description="Ids of the only plugins to use; by default all that are found."
    )
    disabled: tuple[Text, ...] = Field(default=(), description="Ids of plugins not to use.")
    modules: tuple[Target, ...] = Field(
        default=(),
        description="Plugins to load beside the installed ones, as `package.module:Class`.",
    )


class NetworkSettings(Table):
    """How connections are made; given to the clients, never written to the environment."""

    proxy: ProxyUrl | None = Field(
        default=None,
        description="Proxy for every connection: `http://` or `https://`.",
    )
    trust_env: Flag = Field(
        default=True,
        description="Whether `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` and the like are respected.",
    )
    ca_bundle: FilePath | None = Field(
        default=None, description="File of certificates to trust instead of the default ones (PEM)."
    )
    client_certificate: FilePath | None = Field(
        default=None, description="Certificate that identifies this client (PEM)."
    )
    client_key: FilePath | None = Field(
        default=None,
        description="Private key of `client_certificate`, if it is in a file of its own.",
    )
    connect_timeout: Number = Field(
        default=5.0, gt=0, description="Longest wait for a connection, in seconds."
    )
    read_timeout: Number = Field(
        default=600.0, gt=0, description="Longest silence while an answer is read, in seconds."
    )
    write_timeout: Number = Field(
        default=600.0, gt=0, description="Longest stall while a request is sent, in seconds."
    )
    pool_timeout: Number = Field(
        default=600.0, gt=0, description="Longest wait for a free connection, in seconds."
    )
    max_connections: Whole = Field(default=1000, ge=1, description="Most connections open at once.")
    max_keepalive_connections: Whole = Field(
        default=100, ge=0, description="Most idle connections kept open."
    )
    keepalive_expiry: Number = Field(
        default=5.0, ge=0, description="How long an idle connection is kept open, in seconds."
    )

    @model_validator(mode="after")
    def _a_key_belongs_to_a_certificate(self) -> Self:
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("`client_key` needs `client_certificate`.")
        return self


class StateSettings(Table):
    """Where limits and budgets keep their counts."""

    url: StateUrl | None = Field(
        default=None,
        description="Address of a Redis that several processes share, `redis://host:6379/0`; by "
        "default each process counts for itself, in memory. Needs `kor-sdk[redis]`.",
    )
    on_failure: Literal["open", "closed"] = Field(
        default="open",
        description="What becomes of calls while Redis does not answer: `open`, they are made, "
        "and what they used is added when it is back; `closed`, they are refused.",
    )
    timeout: Number = Field(
        default=0.5, gt=0, description="Longest wait for an answer of Redis, in seconds."
    )
    prefix: Text = Field(
        default="kor",
        description="What the names of all keys in Redis begin with; applications with the same "
        "one share their limits and budgets.",
    )
