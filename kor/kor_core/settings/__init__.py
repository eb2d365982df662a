"""The configuration as frozen pydantic models; every default lives in ``models``."""

from kor_core.settings.document import Explained, Settings, settings_from
from kor_core.settings.models import (
    LLMSettings,
    ModelSettings,
    NetworkSettings,
    PluginSettings,
    ProviderSettings,
    PurposeSettings,
    StateSettings,
)

__all__ = [
    "Explained",
    "LLMSettings",
    "ModelSettings",
    "NetworkSettings",
    "PluginSettings",
    "ProviderSettings",
    "PurposeSettings",
    "Settings",
    "StateSettings",
    "settings_from",
]
