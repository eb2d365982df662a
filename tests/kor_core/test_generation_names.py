"""A generation parameter is known everywhere, or nowhere."""

from dataclasses import fields

from kor_core.adapters.parameters import CHAT
from kor_core.llm.generation import GENERATION, GenerationSettings
from kor_core.settings import ModelSettings


def test_every_setting_of_a_call_may_be_configured_and_is_sent():
    names = {each.name for each in fields(GenerationSettings)} - {"extra"}

    assert names == set(GENERATION)
    assert names <= ModelSettings.model_fields.keys()
    assert names - {"timeout"} <= CHAT
