"""``kor config show``: every value with its source, and no secret."""

import tomllib
from pathlib import Path

import pytest

from kor_cli.main import main
from kor_cli.show import lines
from kor_core.redaction import MASK
from kor_core.settings import settings_from


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert 0 == main(["config", "show", *arguments])
    pairs = (line.rsplit("  # ", 1) for line in capsys.readouterr().out.splitlines())
    return {value.rstrip(): source for value, source in pairs}


def test_each_value_names_the_file_or_variable_it_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    Path("config.toml").write_text('[llm.default]\nprovider = "echo"\nmodel = "one"\n')
    monkeypatch.setenv("KOR_LLM__DEFAULT__MODEL", "two")
    shown = printed(capsys)

    assert "config.toml" in shown['llm.default.provider = "echo"']
    assert "KOR_LLM__DEFAULT__MODEL" in shown['llm.default.model = "two"']
    assert "default" == shown["network.connect_timeout = 5.0"]


def test_another_file_can_be_shown(capsys: pytest.CaptureFixture[str]):
    Path("other.toml").write_text("[network]\nmax_connections = 7\n")

    assert "other.toml" in printed(capsys, "--config", "other.toml")["network.max_connections = 7"]


@pytest.mark.parametrize(
    ("written", "key", "shown"),
    [
        ('extra_query = { code = "PLANTED" }', "extra_query.code", f'"{MASK}"'),
        (
            'hook = "https://u:PLANTED@h/x?token=PLANTED"',
            "hook",
            f'"https://{MASK}@h/x?token={MASK}"',
        ),
        ('myapikey = "PLANTED"', "myapikey", f'"{MASK}"'),
        ('accesskey = "PLANTED"', "accesskey", f'"{MASK}"'),
        ('monkey = "plain"', "monkey", '"plain"'),
    ],
)
def test_what_an_error_masks_is_masked_here(
    capsys: pytest.CaptureFixture[str], written: str, key: str, shown: str
):
    text = f"[llm.providers.openai]\nextra = {{ {written} }}\n"
    Path("config.toml").write_text(text)
    settings = settings_from(tomllib.loads(text))

    assert f"llm.providers.openai.extra.{key} = {shown}" in printed(capsys)
    assert "PLANTED" not in repr(settings)
    assert "PLANTED" not in settings.model_dump_json()


def test_secrets_are_masked_wherever_they_stand(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text(
        '[llm.providers.openai]\napi_key = "sk-planted"\n'
        'extra = { extra_headers = { x = "planted-header" } }\n'
        '[network]\nproxy = "http://user:planted-password@proxy:1"\n'
    )
    shown = "\n".join(printed(capsys))

    assert "planted" not in shown
    assert 'llm.providers.openai.api_key = "**********"' in shown


def test_what_is_shown_is_toml_that_means_the_same():
    given = {
        "llm": {
            "default": {"provider": "echo", "model": 'quo"te', "stop": ["END", "ü"]},
            "providers": {"openai": {"extra": {"a.b": [{"c d": 1}, {}], "flag": True}}},
            "purposes": {"gpt-4.1": {"model": "echo:x"}},
        }
    }
    settings = settings_from(given)
    shown = tomllib.loads("\n".join(lines(settings)))

    assert settings == settings_from(shown)


def test_a_wrong_configuration_is_an_error(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text("[llm.defualt]\n")

    assert 2 == main(["config", "show"])
    assert "defualt" in capsys.readouterr().err
