"""A suite that proves a provider right; a plugin's author subclasses one class.

It needs pytest, which comes with the extra: ``pip install 'kor-sdk[testing]'``. See
``docs/how-to-prove-a-provider.md``.
"""

from kor_core.testing.conformance.subject import Bench
from kor_core.testing.conformance.suite import ProviderConformance

__all__ = ["Bench", "ProviderConformance"]
