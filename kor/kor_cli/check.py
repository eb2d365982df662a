"""``kor check``: everything that can be known of a configuration without a call."""

import argparse
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from kor_cli.failure import MISCONFIGURED, worded
from kor_cli.output import width, wrapped, write
from kor_containers import ApplicationContainer, load_settings
from kor_core.adapters.litellm import LiteLLMModel
from kor_core.adapters.litellm_vendors import VENDORS, qualified, vendor_of
from kor_core.adapters.proxies import Proxies
from kor_core.adapters.tls import ssl_context
from kor_core.errors import (
    ConfigurationError,
    KorError,
    MissingCredentialsError,
    Problem,
    ProviderNotFoundError,
)
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.handle import ModelHandle
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import Explanation, ModelSelector
from kor_core.plugin import plugin_names
from kor_core.settings import Settings
from kor_core.settings.llm import provider_in
from kor_core.suggestions import listed, nearest

__all__ = ["Finding", "check", "findings"]

_LINE: Final = re.compile(r":\d+$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: what it is, such as ``purpose coding``.
        text: what was found: the model that serves, or what is wrong.
        mark: ``wrong`` is to be mended, ``note`` may be meant so.
    """

    subject: str
    text: str
    mark: Literal["ok", "note", "wrong"] = "ok"

    def __str__(self) -> str:
        return f"{self.mark:<6} {self.subject}: {self.text}"


def check(options: argparse.Namespace) -> int:
    """Print what was found, and tell by the exit code whether something is wrong."""
    settings = load_settings(options.config)
    # create_container() would stop at the first wrong names; here all is to be found at once.
    with ApplicationContainer() as bare, bare.derive({"config.operator": settings}) as app:
        found = list(findings(settings, app.llm().registry(), app.llm().selector()))
    longest, indent = width(), " " * len(f"{'':<6} ")
    write("\n".join(line for each in found for line in wrapped(str(each), longest, indent)))
    return MISCONFIGURED if any(finding.mark == "wrong" for finding in found) else 0


def findings(
    settings: Settings, registry: LLMRegistry, selector: ModelSelector
) -> Iterator[Finding]:
    """Yield what can be said of a configuration; nobody is called.

    That a registry could be built says already that files, values and plugins are right.
    """
    yield from _sources(settings)
    yield Finding("providers", listed(registry.providers))
    for problem in dict.fromkeys([*_names(settings, registry), *_plugins(settings)]):
        yield Finding("names", worded(str(problem)), "wrong")
    yield from _network(settings)
    if settings.llm.default is None:
        # An error only for those who ask for it, which an application may never do.
        words = "none is configured; `kor ask` needs --purpose or --model, or add [llm.default]"
        yield Finding("purpose default", words, "note")
    else:
        yield from _served(selector, "default")
        yield from _verbatim(settings, "default", registry.providers)
    for purpose in settings.llm.purposes:
        yield from _served(selector, purpose)
        yield from _verbatim(settings, purpose, registry.providers)


# --- what was read ------------------------------------------------------------------------


def _sources(settings: Settings) -> Iterator[Finding]:
    places = [_LINE.sub("", origin) for origin in settings.source.origins.values()]
    files = [_shown(Path(place)) for place in places if not place.startswith("KOR_")]
    variables = [place for place in places if place.startswith("KOR_")]
    if files:
        yield Finding("files", ", ".join(dict.fromkeys(files)))
    elif settings.unconfigured:
        yield Finding("files", "none, so the offline echo serves", "note")
    elif not variables:
        yield Finding("files", "found, and nothing is set in them", "note")
    if variables:
        yield Finding("variables", listed(set(variables)))


def _shown(path: Path) -> str:
    here = Path.cwd()
    return f"./{path.relative_to(here)}" if path.is_relative_to(here) else str(path)


# --- names --------------------------------------------------------------------------------


def _names(settings: Settings, registry: LLMRegistry) -> Iterator[Problem]:
    yield from settings.problems_with_providers(registry.providers)
    try:
        registry.check()
    except ConfigurationError as error:
        yield from error.problems


def _plugins(settings: Settings) -> Iterator[Problem]:
    ids, others = plugin_names(settings)
    disabled = set(settings.plugins.disabled)
    chosen = {"enabled": ids | disabled, "disabled": ids | others}
    for field, known in chosen.items():
        for name in getattr(settings.plugins, field) or ():
            if name not in known:
                found = ids | others
                message = f"No plugin '{name}' is found. Found: {listed(found)}."
                yield settings.problem(("plugins", field), message, nearest(name, found))


# --- connections --------------------------------------------------------------------------


def _network(settings: Settings) -> Iterator[Finding]:
    """Yield what every call would fail by, in the environment as well."""
    for read in (Proxies.configured, ssl_context):
        try:
            read(settings.network)
        except ConfigurationError as error:
            for problem in error.problems:
                yield Finding("network", str(_placed(problem, settings)), "wrong")


def _placed(problem: Problem, settings: Settings) -> Problem:
    return replace(problem, origin=problem.origin or settings.origin(problem.key))


# --- which model serves -------------------------------------------------------------------


def _served(selector: ModelSelector, purpose: str) -> Iterator[Finding]:
    subject = f"purpose {purpose}"
    try:
        model = selector.get_model(purpose)
    except KorError as error:
        # An unknown provider was said among the names, with the place that gives it.
        if not isinstance(error.__cause__, ProviderNotFoundError):
            yield Finding(subject, worded(str(error)), "wrong")
    else:
        yield Finding(subject, _described(model))
        yield from _unsure(subject, model)
        yield from _left_out(subject, selector.explain(purpose))


def _left_out(subject: str, explanation: Explanation) -> Iterator[Finding]:
    """Yield the candidates that are never asked: nobody would miss them until one is needed."""
    for each in explanation.rejected:
        missing = isinstance(each.error, MissingCredentialsError)
        words = worded(str(each.error)) if missing else f"{each.reference}: {each.reason}"
        yield Finding(subject, words, "wrong" if missing else "note")


def _described(model: BaseLLMModel) -> str:
    if not isinstance(model, ModelHandle):
        return repr(model)
    # litellm refuses many bare names, so it is given another one than is configured.
    asked = model.inner.model_name
    sent = qualified(asked) if isinstance(model.inner, LiteLLMModel) else asked
    return f"{model.reference}" if sent == asked else f"{model.reference}, asked for as {sent}"


def _unsure(subject: str, model: BaseLLMModel) -> Iterator[Finding]:
    inner = model.inner if isinstance(model, ModelHandle) else model
    if isinstance(inner, LiteLLMModel) and not vendor_of(inner.model_name):
        words = f"'{inner.model_name}' does not say whose it is, which litellm may refuse"
        yield Finding(subject, f"{words}: write vendor/{inner.model_name}", "note")


def _verbatim(settings: Settings, name: str, known: Iterable[str]) -> Iterator[Finding]:
    """Yield a note where a reference was written, and is taken as the name of a model."""
    path = ("llm", "default") if name == "default" else ("llm", "purposes", name)
    table, source = settings.llm.tables[name], settings.source
    if table.provider is None or not source.holds((*path, "model")):
        return
    text = table.model
    meant = provider_in(text)
    model = text[len(meant) + 1 :]
    if meant not in known or not model:
        return
    taken = f"'{text}' is taken verbatim as a model of '{table.provider}'"
    if meant == table.provider:
        cure = f'if that repeats the provider, write model = "{model}"'
    elif source.holds((*path, "provider")) or _is_vendors(table.provider, text):
        return
    else:
        taken += ", the provider of [llm.default]"
        cure = f'for another provider write provider = "{meant}" and model = "{model}"'
    yield Finding(f"purpose {name}", f"{taken}; {cure}", "note")


def _is_vendors(provider: str, model: str) -> bool:
    return provider == "litellm" and vendor_of(model) in VENDORS
