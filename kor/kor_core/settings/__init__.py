"""The configuration as frozen pydantic models; every default lives in ``llm`` or ``tables``."""

from kor_core.settings.document import Explained, Settings, settings_from
from kor_core.settings.llm import (
    LLMSettings,
    ModelSettings,
    ProviderSettings,
    PurposeSettings,
)
from kor_core.settings.models import ProfileSettings
from kor_core.settings.tables import NetworkSettings, PluginSettings, StateSettings

__all__ = [
    "Explained",
    "LLMSettings",
    "ModelSettings",
    "NetworkSettings",
    "PluginSettings",
    "ProfileSettings",
    "ProviderSettings",
    "PurposeSettings",
    "Settings",
    "StateSettings",
    "settings_from",
]
