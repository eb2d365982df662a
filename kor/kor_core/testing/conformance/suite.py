"""All groups of the suite as one class."""

from kor_core.testing.conformance.cancellation import Cancellation
from kor_core.testing.conformance.errors import Errors
from kor_core.testing.conformance.honesty import Honesty
from kor_core.testing.conformance.identity import Identity
from kor_core.testing.conformance.loops import Loops
from kor_core.testing.conformance.secrets import Secrets
from kor_core.testing.conformance.settings import SettingsOfCalls
from kor_core.testing.conformance.streams import Streams

__all__ = ["ProviderConformance"]


class ProviderConformance(
    Identity, SettingsOfCalls, Errors, Cancellation, Streams, Loops, Secrets, Honesty
):
    """The suite. Subclass it in a test module, under a name that begins with ``Test``.

    What is to be proved is said by :class:`~kor_core.testing.conformance.subject.Subject`'s
    attributes: ``make_provider`` must be given, all others have defaults.

    >>> from kor_core.llm.base import BaseLLMProvider
    >>> from kor_core.testing import EchoProvider
    >>> from kor_core.testing.conformance import ProviderConformance
    >>> class TestEcho(ProviderConformance):
    ...     def make_provider(self) -> BaseLLMProvider:
    ...         return EchoProvider()
    """
