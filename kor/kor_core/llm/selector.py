"""The selector: which model serves a purpose."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kor_core.errors import AllModelsFailedError, PurposeNotFoundError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.emulation import refuse_missing
from kor_core.llm.handle import ModelHandle
from kor_core.llm.lasting import Lasting
from kor_core.llm.reference import SEPARATORS
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selection import Ranked, Rejected
from kor_core.settings import ModelSettings, Settings
from kor_core.settings.capabilities import checked_capabilities

__all__ = ["DEFAULT", "Explanation", "ModelSelector", "Selection"]

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which model would be asked, and why.

    Args:
        candidates: those that qualify, in the order in which they would be asked.
        rejected: the others, each with its reason.
        why: in one sentence.
    """

    candidates: tuple[Ranked, ...]
    rejected: tuple[Rejected, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The model that was chosen, and why.

    Args:
        model: to be called; it chooses anew at each call.
        candidates: those that qualify, in the order in which they would be asked.
        rejected: the others, each with its reason.
        why: in one sentence.
    """

    model: BaseLLMModel = field(compare=False)
    candidates: tuple[Ranked, ...]
    rejected: tuple[Rejected, ...]
    why: str


class ModelSelector:
    """Chooses a model by purpose: an override, else the purpose's, else the default's.

    Args:
        settings: what this kernel runs on; ``[llm.purposes.<name>]`` are the purposes.
        registry: where the models come from.

    >>> from kor_core.llm.catalogue import Catalogue
    >>> from kor_core.llm.echo import EchoProvider
    >>> from kor_core.settings import settings_from
    >>> settings = settings_from(
    ...     {"llm": {"purposes": {"coding": {"provider": "echo", "model": "coder"}}}}
    ... )
    >>> selector = ModelSelector(settings, LLMRegistry(settings, Catalogue([EchoProvider()])))
    >>> selector.get_model(purpose="coding").model_name
    'coder'
    """

    # There is one for each of thousands of tenants.
    __slots__ = ("__weakref__", "_handles", "_registry", "_settings")

    def __init__(self, settings: Settings, registry: LLMRegistry) -> None:
        self._settings = settings
        self._registry = registry
        self._handles = Lasting()

    def get_model(
        self,
        purpose: str | None = DEFAULT,
        *,
        override: str | BaseLLMModel | None = None,
        needs: Iterable[str] = (),
        affinity: str | None = None,
    ) -> BaseLLMModel:
        """Return the model for a purpose; the same object each time.

        Which candidate answers is chosen at each call.

        Args:
            purpose: the name of a ``[llm.purposes.<name>]`` table, or ``"default"``, which
                None means too.
            override: a reference or a model that is to serve instead; a model is returned as
                it is, without policies and affinity.
            needs: capabilities that the model must have beside those that the configuration
                and the request ask for, such as ``"tools"``.
            affinity: what a conversation is known by: it stays with one model while that is
                healthy. Conversations are many, so theirs is another object each time.

        Raises:
            CapabilityNotSupportedError: the model given lacks one of the needs.
            PurposeNotFoundError: no such purpose is configured, unless
                ``[llm] unknown_purpose = "default"``.
            ProviderNotFoundError: the override names no registered provider.
            MissingCredentialsError: the provider needs a key and has none.
            ValueError: a capability has an unknown name.
        """
        if override is None and not needs and affinity is None:
            # First, and without a closure: applications ask at each of their own requests.
            found = self._handles.recent.get(purpose)
            if found is not None:
                return found
        wanted = frozenset(checked_capabilities(needs))
        if isinstance(override, BaseLLMModel):
            refuse_missing(override.model_name, override.profile, wanted)
            return override
        model = self._lasting(DEFAULT if purpose is None else purpose, override, wanted)
        return model if affinity is None else model.with_affinity(affinity)

    def select(
        self,
        purpose: str | None = DEFAULT,
        *,
        override: str | None = None,
        needs: Iterable[str] = (),
        tokens: int = 0,
        affinity: str | None = None,
    ) -> Selection:
        """Choose a model for a purpose as a call would just now, and say why.

        Args:
            purpose: as for :meth:`get_model`.
            override: a reference that is to serve instead.
            needs: as for :meth:`get_model`.
            tokens: how many the request and its answer may take.
            affinity: as for :meth:`get_model`.

        Raises:
            LLMError: the one candidate does not qualify.
            AllModelsFailedError: there are several, and none qualifies; each with its reason.
            PurposeNotFoundError: as for :meth:`get_model`.
        """
        wanted = frozenset(needs)
        model = self._lasting(DEFAULT if purpose is None else purpose, override, wanted)
        model = model if affinity is None else model.with_affinity(affinity)
        choice = model.choose(tokens=tokens)
        errors = [each.error for each in choice.rejected]
        if not choice.order:
            raise errors[0] if len(errors) == 1 else AllModelsFailedError(choice.why, errors)
        return Selection(model, model.ranked(choice), choice.rejected, choice.why)

    def explain(
        self,
        purpose: str | None = DEFAULT,
        *,
        needs: Iterable[str] = (),
        tokens: int = 0,
        affinity: str | None = None,
    ) -> Explanation:
        """Say which model would serve a purpose just now, and why; builds and calls nothing.

        Args:
            purpose: as for :meth:`get_model`.
            needs: as for :meth:`get_model`.
            tokens: how many the request and its answer may take.
            affinity: as for :meth:`get_model`.

        Raises:
            PurposeNotFoundError: as for :meth:`get_model`.
        """
        name, table = self._table(DEFAULT if purpose is None else purpose)
        choice = self._registry.explained(name, table, frozenset(needs), tokens, affinity)
        return Explanation(choice.candidates, choice.rejected, choice.why)

    def _lasting(self, purpose: str, override: str | None, needs: frozenset[str]) -> ModelHandle:
        if override is not None:
            return self._registry.get_model(override, needs=needs)
        # By what serves it: texts of users may be purposes, and all of them the default's.
        name, table = self._table(purpose)
        key = (name, needs) if needs else name
        return self._handles.get(key, lambda: self._made(name, table, needs))

    def _made(self, name: str, table: ModelSettings, needs: frozenset[str]) -> ModelHandle:
        if name == DEFAULT and not needs:
            return self._registry.get_model()
        return self._registry.for_table(name, table, needs)

    def _table(self, purpose: str) -> tuple[str, ModelSettings]:
        """Return the purpose that serves, and its table."""
        llm = self._settings.llm
        found = llm.purposes.get(purpose)
        if found is not None:
            return purpose, found
        if DEFAULT in (purpose, llm.unknown_purpose):
            return DEFAULT, self._registry.default()
        raise PurposeNotFoundError(purpose, [DEFAULT, *llm.purposes], _cure(purpose))

    def __repr__(self) -> str:
        return f"<ModelSelector {', '.join([DEFAULT, *self._settings.llm.purposes])}>"


def _cure(purpose: str) -> str:
    if any(mark in purpose for mark in SEPARATORS):
        return f"For a reference write override='{purpose}', or ask kernel.llm_registry."
    return f"Add [llm.purposes.{purpose}] to the configuration."
