"""The whole configuration: one frozen object that knows where each value came from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from pydantic import Field, PrivateAttr, ValidationError

from kor_core.errors import ConfigurationError, Problem
from kor_core.settings.known import no_such_setting
from kor_core.settings.llm import (
    MODEL_MISSING,
    LLMSettings,
    ModelSettings,
    inherits,
    provider_in,
)
from kor_core.settings.problems import problem_at, problems_in
from kor_core.settings.provenance import (
    KeyPath,
    Sourced,
    as_table,
    copied,
    dotted,
    too_deep,
    undotted,
)
from kor_core.settings.tables import NetworkSettings, PluginSettings, StateSettings, Table, updated
from kor_core.settings.tenancy import Overlaid, Tenancy
from kor_core.settings.values import plain
from kor_core.suggestions import listed, nearest, through_litellm

__all__ = ["Explained", "Settings", "settings_from", "settings_of"]

# The source of settings that nobody configured.
_NOTHING: Final = Sourced()

# That of a tenant's which names a default itself.
_CONFIGURED: Final = Sourced()

# llm, purposes, a name, a key: as deep as a purpose's own keys stand.
_PURPOSE_KEY: Final = 4


@dataclass(frozen=True, slots=True)
class Explained:
    """One effective value, as ``kor config show`` prints it.

    Args:
        key: the dotted key path.
        value: the value as JSON has it, secrets masked.
        origin: the file and line, or the environment variable; empty for a default.
    """

    key: str
    value: Any
    origin: str


class Settings(Table):
    """The configuration that a kernel runs on.

    Read one with :func:`settings_from` or ``kor_core.adapters.dynaconf.load_settings``.

    >>> settings = settings_from({"llm": {"default": {"provider": "echo", "model": "echo"}}})
    >>> settings.llm.default.model, settings.network.connect_timeout
    ('echo', 5.0)
    """

    llm: LLMSettings = Field(default_factory=LLMSettings, description="Models and providers.")
    plugins: PluginSettings = Field(default_factory=PluginSettings, description="Plugins.")
    network: NetworkSettings = Field(default_factory=NetworkSettings, description="Connections.")
    state: StateSettings = Field(default_factory=StateSettings, description="Shared state.")

    _source: Sourced = PrivateAttr(default_factory=Sourced)
    _tenancy: Tenancy | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Keep the sources that the values came from, where they are given as the context."""
        if isinstance(context, Sourced):
            self._source = context

    def __eq__(self, other: object) -> bool:
        # The same values are the same settings, wherever they were read.
        return isinstance(other, Settings) and self.__dict__ == other.__dict__

    __hash__ = Table.__hash__

    @property
    def tenant(self) -> str | None:
        """The tenant these settings belong to; None for the application's own."""
        return self._tenancy.tenant if self._tenancy else None

    @property
    def tenancy(self) -> Tenancy | None:
        """What is the tenant's own in these settings; None for the application's."""
        return self._tenancy

    @property
    def source(self) -> Sourced:
        """What files, variables or a mapping gave; values are as they stand there, unmasked."""
        return Overlaid(self._tenancy) if self._tenancy else self._source

    def with_tenancy(self, tenancy: Tenancy, llm: LLMSettings) -> Self:
        """Return a tenant's settings: these, with other models; all else is the same object."""
        copy = updated(self, {"llm": llm})
        copy._tenancy = tenancy  # noqa: SLF001  # of the same class
        copy._source = self._source if llm.default is self.llm.default else _CONFIGURED  # noqa: SLF001  # likewise
        return copy

    @property
    def unconfigured(self) -> bool:
        """Whether there was no file and no variable, so that the offline ``echo`` serves."""
        return self._source is _NOTHING

    @classmethod
    def when_unconfigured(cls) -> Self:
        """Return the settings that serve where nothing is configured at all."""
        echo = {"provider": "echo", "model": "echo"}
        return cls.model_validate({"llm": {"default": echo}}, context=_NOTHING)

    def origin(self, *path: str) -> str:
        """Return the file and line, or the environment variable, that a value came from.

        Args:
            path: the keys that lead to the value, such as ``"llm", "default", "model"``; or
                all of them as TOML writes them, ``"llm.default.model"``.

        Returns:
            The origin of the value or of the nearest table around it; ``""`` for a default
            and for what was given by a mapping.

        Raises:
            ConfigurationError: there is no such setting.
        """
        keys = undotted(path[0]) if len(path) == 1 else path
        problem = no_such_setting(self, keys)
        if problem is not None:
            raise ConfigurationError([problem])
        return _origin(self.source, keys)

    def explain(self) -> tuple[Explained, ...]:
        """Return every effective value with its origin, secrets masked, sorted by key.

        >>> settings = settings_from({"llm": {"providers": {"openai": {"api_key": "sk-1"}}}})
        >>> print(next(e for e in settings.explain() if e.key.startswith("llm.providers")))
        Explained(key='llm.providers.openai.api_key', value='**********', origin='')
        """
        source = self.source
        return tuple(
            Explained(dotted(path), plain(value, masked=True), _origin(source, path))
            for path, value in sorted(_values(self), key=lambda item: item[0])
        )

    def problem(self, path: KeyPath, message: str, suggestion: str | None = None) -> Problem:
        """Return a problem of the value at ``path``, with the place it came from."""
        return _problem(self.source, path, message, suggestion)

    def problems_with_providers(self, known: Iterable[str]) -> list[Problem]:
        """Return a problem for each place that names a provider nobody registered.

        Args:
            known: ids of the registered providers.
        """
        ids, source = tuple(sorted(known)), self.source
        # Each once: many purposes inherit the same ones, and looking for the nearest takes long.
        unknown = {
            reference: (_no_provider(reference, ids), nearest(provider_in(reference), ids))
            for reference in dict.fromkeys(reference for _, reference in self._named_providers())
            if provider_in(reference) not in ids
        }
        found = [
            _problem(source, path, *unknown[reference])
            for path, reference in self._named_providers()
            if reference in unknown
        ]
        return list(dict.fromkeys(found))

    def _named_providers(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield each place with what it names, as a reference where that is more than an id."""
        yield from ((("llm", "providers", name), name) for name in self.llm.providers)
        for path, model in self._models():
            if model.provider is not None:
                yield (*path, "provider"), model.provider
            for field, reference in model.references():
                yield (*path, field), reference

    def _models(self) -> Iterator[tuple[KeyPath, ModelSettings]]:
        if self.llm.default is not None:
            yield ("llm", "default"), self.llm.default
        for name, purpose in self.llm.purposes.items():
            yield ("llm", "purposes", name), purpose


def settings_from(mapping: Mapping[str, Any]) -> Settings:
    """Return the settings that a mapping gives, which stands alone: no file, no environment.

    Raises:
        ConfigurationError: everything that is wrong with it.

    >>> settings_from({"llm": {"default": {"model": "echo:any"}}}).llm.default.model
    'echo:any'
    """
    outcome = _standing_alone(mapping)
    if isinstance(outcome, Settings):
        return outcome
    # Raised here, where no local holds an unmasked value.
    del mapping
    raise ConfigurationError(outcome)


def _standing_alone(mapping: Mapping[str, Any]) -> Settings | list[Problem]:
    if too_deep(mapping):
        return [Problem("Tables or lists are nested too deeply, or hold themselves.")]
    return settings_of(Sourced(copied(mapping)))


def settings_of(source: Sourced, *, complete: bool = True) -> Settings | list[Problem]:
    """Return the settings that the merged sources give, or everything wrong with them.

    Args:
        source: the merged sources.
        complete: whether all of them could be read; otherwise nothing counts as missing.

    It returns the problems, since a raised error would carry this frame, and with it values.
    """
    try:
        return Settings.model_validate(source.data, context=source)
    except ValidationError as error:
        moved = {path: _moved(source.data, path) for path in _purpose_keys(source.data)}
        found = problems_in(error, Settings, source, moved)
        return [problem for problem in found if complete or problem.message != MODEL_MISSING]


def _origin(source: Sourced, path: KeyPath) -> str:
    found = _moved(source.data, path)
    return source.origin(found) if source.holds(found) else ""


def _problem(source: Sourced, path: KeyPath, message: str, suggestion: str | None) -> Problem:
    return problem_at(_moved(source.data, path), message, source, suggestion)


def _no_provider(reference: str, known: tuple[str, ...]) -> str:
    name = provider_in(reference)
    cure = through_litellm(reference, known) if name != reference else ""
    return f"No provider '{name}'. Registered: {listed(known)}.{cure}"


def _values(table: Table, prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    for name in type(table).model_fields:
        yield from _leaves(getattr(table, name), (*prefix, name))


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Table):
        yield from _values(value, path)
    elif (table := as_table(value)) is not None:
        for name, item in table.items():
            yield from _leaves(item, (*path, name))
    elif value is not None and value != ():
        yield path, value


def _purpose_keys(data: Mapping[str, Any]) -> Iterator[KeyPath]:
    llm = as_table(data.get("llm")) or {}
    default = as_table(llm.get("default")) or {}
    for name in as_table(llm.get("purposes")) or {}:
        yield from (("llm", "purposes", name, key) for key in default)


def _moved(data: Mapping[str, Any], path: KeyPath) -> KeyPath:
    """Return where a purpose's value stands: with the purpose, or with what it inherits."""
    if len(path) < _PURPOSE_KEY or path[:2] != ("llm", "purposes"):
        return path
    llm = as_table(data.get("llm")) or {}
    default = llm.get("default")
    purpose = (as_table(llm.get("purposes")) or {}).get(path[2])
    source = Sourced(data)
    own = source.holds(path)
    inherited = ("llm", "default", *path[3:])
    return inherited if not own and inherits(purpose, default) and source.holds(inherited) else path
