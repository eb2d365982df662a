"""``kor check``: everything that can be known of a configuration without a call."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from kor_cli.failure import MISCONFIGURED
from kor_containers import create_container, load_settings
from kor_core.errors import KorError, ProviderNotFoundError
from kor_core.kernel import Kernel
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
    with create_container(load_settings(options.config)).kernel() as kernel:
        found = list(findings(kernel))
    for finding in found:
        print(finding)
    return MISCONFIGURED if any(finding.wrong for finding in found) else 0


def findings(kernel: Kernel) -> Iterator[Finding]:
    """Yield what can be said of a kernel's configuration; nobody is called.

    That a kernel could be built says already that files, values and plugins are right.
    """
    known = kernel.llm_registry.providers
    yield Finding("providers", listed(known))
    for problem in kernel.settings.problems_with_providers(known):
        yield Finding("names", str(problem), wrong=True)
    for purpose in ("default", *kernel.settings.llm.purposes):
        yield from _served(kernel, purpose)


def _served(kernel: Kernel, purpose: str) -> Iterator[Finding]:
    subject = f"purpose {purpose}"
    try:
        model = kernel.model_selector.get_model(purpose)
    except ProviderNotFoundError:
        return  # said among the names, with the place that gives it
    except KorError as error:
        yield Finding(subject, str(error), wrong=True)
    else:
        yield Finding(subject, str(model))
