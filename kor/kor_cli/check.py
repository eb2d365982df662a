"""``kor check``: everything that can be known of a configuration without a call."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from kor_cli.failure import MISCONFIGURED
from kor_containers import ApplicationContainer, load_settings
from kor_core.adapters.litellm import LiteLLMModel
from kor_core.adapters.litellm_vendors import qualified
from kor_core.errors import KorError, ProviderNotFoundError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.handle import ModelHandle
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.settings import Settings
from kor_core.suggestions import listed

__all__ = ["Finding", "check", "findings"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: what it is, such as ``purpose coding``.
        text: what was found: the model that serves, or what is wrong.
        wrong: whether the configuration has to be mended.
    """

    subject: str
    text: str
    wrong: bool = False

    def __str__(self) -> str:
        mark = "wrong" if self.wrong else "ok"
        return f"{mark:<6} {self.subject}: {self.text}"


def check(options: argparse.Namespace) -> int:
    """Print what was found, and tell by the exit code whether something is wrong."""
    settings = load_settings(options.config)
    # create_container() would stop at the first wrong names; here all is to be found at once.
    with ApplicationContainer() as bare, bare.derive({"config.operator": settings}) as app:
        found = list(findings(settings, app.llm().registry(), app.llm().selector()))
    for finding in found:
        print(finding)
    return MISCONFIGURED if any(finding.wrong for finding in found) else 0


def findings(
    settings: Settings, registry: LLMRegistry, selector: ModelSelector
) -> Iterator[Finding]:
    """Yield what can be said of a configuration; nobody is called.

    That a registry could be built says already that files, values and plugins are right.
    """
    yield Finding("providers", listed(registry.providers))
    for problem in settings.problems_with_providers(registry.providers):
        yield Finding("names", str(problem), wrong=True)
    if settings.llm.default is None:
        # An error only for those who ask for it, which an application may never do.
        yield Finding("purpose default", "none is configured")
    else:
        yield from _served(selector, "default")
    for purpose in settings.llm.purposes:
        yield from _served(selector, purpose)


def _served(selector: ModelSelector, purpose: str) -> Iterator[Finding]:
    subject = f"purpose {purpose}"
    try:
        model = selector.get_model(purpose)
    except ProviderNotFoundError:
        return  # said among the names, with the place that gives it
    except KorError as error:
        yield Finding(subject, str(error), wrong=True)
    else:
        yield Finding(subject, _described(model))


def _described(model: BaseLLMModel) -> str:
    if not isinstance(model, ModelHandle):
        return repr(model)
    # litellm refuses many bare names, so it is given another one than is configured.
    asked = model.inner.model_name
    sent = qualified(asked) if isinstance(model.inner, LiteLLMModel) else asked
    return f"{model.reference}" if sent == asked else f"{model.reference}, asked for as {sent}"
