"""The models: provider factories, the catalogue, the registry and the selector."""

from collections.abc import Iterable, Mapping

from dependency_injector.providers import Dependency

from kor_containers.config import HandedIn
from kor_containers.container import KorContainer
from kor_containers.providers import ScopeOf, Singleton
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.model_map import bundled_profiles
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.adapters.vendors import COMPATIBLE
from kor_core.errors import ContainerError
from kor_core.llm.base import BaseLLMProvider
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.echo import EchoProvider
from kor_core.llm.pipeline import Policies
from kor_core.llm.profile import ProfileTable
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.plugin import build_catalogue, strategy_of
from kor_core.scope import Scope
from kor_core.settings import Settings

__all__ = ["LLMContainer"]


def _catalogue(
    operator: Settings,
    handed_in: HandedIn,
    vendors: Iterable[BaseLLMProvider],
    **builtin: BaseLLMProvider,
) -> Catalogue:
    builtin |= {vendor.id: vendor for vendor in vendors}
    return build_catalogue(operator, builtin, handed_in.providers, handed_in.plugins)


def _vendors(transport: Transport) -> tuple[BaseLLMProvider, ...]:
    return tuple(OpenAIProvider(transport, row) for row in COMPATIBLE.values())


def _registry(
    settings: Settings,
    catalogue: Catalogue,
    profiles: ProfileTable,
    policies: Policies,
    scope: Scope,
) -> LLMRegistry:
    if isinstance(settings, Mapping):
        raise ContainerError(
            "'config.settings' was replaced by a mapping, and must be Settings: make them with "
            "kor_core.settings.settings_from({…}).",
            path="config.settings",
        )
    return LLMRegistry(
        settings,
        catalogue,
        scope.providers,
        profiles,
        policies=policies,
        strategies=strategy_of,
    )


class LLMContainer(KorContainer):
    """Builds models.

    The provider factories, the table of profiles and the catalogue depend on the operator's
    configuration alone, so that tenants share them; the registry and the selector know the
    kernel's own settings.
    """

    operator = Dependency(instance_of=Settings)
    settings = Dependency(instance_of=Settings)
    transport = Dependency(instance_of=Transport)
    handed_in = Dependency(instance_of=HandedIn)
    policies = Dependency(instance_of=Policies)

    openai = Singleton(OpenAIProvider, transport)
    litellm = Singleton(LiteLLMProvider, transport)
    echo = Singleton(EchoProvider)
    vendors = Singleton(_vendors, transport)
    profiles = Singleton(bundled_profiles)
    catalogue = Singleton(
        _catalogue, operator, handed_in, vendors, openai=openai, litellm=litellm, echo=echo
    )
    registry = Singleton(_registry, settings, catalogue, profiles, policies, ScopeOf())
    selector = Singleton(ModelSelector, settings, registry)
