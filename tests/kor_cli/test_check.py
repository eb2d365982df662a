"""``kor check``: what is wrong, found without calling anyone."""

import sys
from pathlib import Path

import pytest

from kor_cli.main import main


def checked(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["check"])
    return code, *capsys.readouterr()


def test_a_right_configuration_ends_with_0_and_says_which_model_serves(
    stub: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, err = checked(capsys)

    assert (0, "") == (code, err)
    assert "ok     providers: echo, litellm, openai, stub" in out
    assert "ok     purpose default: stub:usual" in out
    assert "ok     purpose coding: stub:coder" in out


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('[llm.default]\nprovider = "opnai"\nmodel = "x"\n', "Did you mean 'openai'?"),
        ('[llm.providers.opnai]\nbase_url = "http://h"\n', "Did you mean 'openai'?"),
        ('[llm.purposes.coding]\nmodel = "opnai:x"\n', "Did you mean 'openai'?"),
        ('[llm.default]\nprovider = "openai"\nmodel = "gpt-4o"\n', "OPENAI_API_KEY"),
        ('[plugins]\nmodules = ["no_such_module:Plugin"]\n', "no_such_module"),
        ("[llm.defualt]\n", "Did you mean 'default'?"),
        ("[llm\n", "config.toml"),
    ],
)
def test_each_mistake_ends_with_2_and_its_cure(
    capsys: pytest.CaptureFixture[str], config: str, expected: str
):
    Path("config.toml").write_text(config)
    code, out, err = checked(capsys)

    assert 2 == code
    assert expected in out + err
    assert "Traceback" not in err


def test_every_purpose_is_checked_though_another_is_wrong(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text(
        '[llm.default]\nmodel = "echo:any"\n'
        '[llm.purposes.bad]\nmodel = "openai:gpt-4"\n'
        '[llm.purposes.good]\nmodel = "echo:good"\n'
    )
    code, out, _ = checked(capsys)

    assert 2 == code
    assert "ok     purpose default: echo:any" in out
    assert "wrong  purpose bad: " in out
    assert "ok     purpose good: echo:good" in out


def test_a_configuration_without_default_is_right(capsys: pytest.CaptureFixture[str]):
    """The default is an error when it is asked for, not before."""
    Path("config.toml").write_text('[llm.purposes.good]\nmodel = "echo:good"\n')
    code, out, err = checked(capsys)

    assert (0, "") == (code, err)
    assert "purpose default: none is configured" in out


def test_the_name_that_litellm_is_given_is_said_without_loading_litellm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-planted")
    monkeypatch.setitem(sys.modules, "litellm", None)
    Path("config.toml").write_text('[llm.default]\nprovider = "litellm"\nmodel = "claude-3-opus"\n')
    code, out, err = checked(capsys)

    assert (0, "") == (code, err)
    assert "purpose default: litellm:claude-3-opus, asked for as anthropic/claude-3-opus" in out
    assert "sk-planted" not in out
