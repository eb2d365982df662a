"""The selector: which model serves a purpose."""

from kor_core.errors import PurposeNotFoundError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.handle import ModelHandle
from kor_core.llm.lasting import Lasting
from kor_core.llm.registry import LLMRegistry
from kor_core.settings import Settings

__all__ = ["DEFAULT", "ModelSelector"]

DEFAULT = "default"


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

    def __init__(self, settings: Settings, registry: LLMRegistry) -> None:
        self._settings = settings
        self._registry = registry
        self._handles = Lasting()

    def get_model(
        self, purpose: str | None = DEFAULT, *, override: str | BaseLLMModel | None = None
    ) -> BaseLLMModel:
        """Return the model for a purpose; the same object each time.

        Args:
            purpose: the name of a ``[llm.purposes.<name>]`` table, or ``"default"``, which
                None means too.
            override: a reference or a model that is to serve instead.

        Raises:
            PurposeNotFoundError: no such purpose is configured, unless
                ``[llm] unknown_purpose = "default"``.
            ProviderNotFoundError: the override names no registered provider.
            MissingCredentialsError: the provider needs a key and has none.
        """
        if override is None:
            purpose = DEFAULT if purpose is None else purpose
            found = self._handles.recent.get(purpose)
            return found or self._handles.get(purpose, lambda: self._made(purpose))
        if isinstance(override, BaseLLMModel):
            return override
        return self._registry.get_model(override)

    def _made(self, purpose: str) -> ModelHandle:
        llm = self._settings.llm
        found = llm.purposes.get(purpose)
        if found is not None:
            return self._registry.handle(
                self._registry.candidates(found, "llm", "purposes", purpose)
            )
        if DEFAULT in (purpose, llm.unknown_purpose):
            return self._registry.get_model()
        raise PurposeNotFoundError(
            purpose,
            [DEFAULT, *llm.purposes],
            f"Add [llm.purposes.{purpose}] to the configuration.",
        )

    def __repr__(self) -> str:
        return f"<ModelSelector {', '.join([DEFAULT, *self._settings.llm.purposes])}>"
