"""``kor`` itself: help, version, usage."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from kor_cli.main import main


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])

    assert f"kor {version('kor-sdk')}\n" == capsys.readouterr().out


@pytest.mark.parametrize("command", [["ask"], ["check"], ["config"], ["config", "show"]])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: list[str]):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])

    assert f"usage: kor {' '.join(command)}" in capsys.readouterr().out


def test_the_help_says_how_to_start_and_what_exit_codes_mean(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out

    assert 'kor ask "Hello!"' in out
    assert "1  the provider failed" in out
    assert "2  the usage or the configuration is wrong" in out


@pytest.mark.parametrize("arguments", [[], ["aks"], ["ask", "--modle", "x"], ["config"]])
def test_a_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert "usage: kor" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "command"), [([], "ask"), (["config"], "show")])
def test_without_a_command_the_help_lists_them(
    capsys: pytest.CaptureFixture[str], arguments: list[str], command: str
):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    err = capsys.readouterr().err
    assert f"\n    {command} " in err
    assert "are required" not in err


def test_help_into_a_closed_pipe_ends_quietly(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    process = start("--help")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.stdin.close()

    assert (141, "") == (process.wait(timeout=60), err)


def test_the_script_and_the_module_are_the_same_command():
    script = Path(sys.executable).with_name("kor")
    runs = [
        subprocess.run([*command, "--help"], check=True, capture_output=True).stdout
        for command in ([script], [sys.executable, "-m", "kor_cli"])
    ]

    assert runs[0] == runs[1]


@pytest.mark.parametrize("before", [["--config", "other.toml"], ["--config=other.toml", "--debug"]])
@pytest.mark.parametrize("command", [["check"], ["config", "show"], ["ask", "Hi"]])
def test_common_options_stand_before_the_command_as_well_as_after(
    capsys: pytest.CaptureFixture[str], before: list[str], command: list[str]
):
    Path("other.toml").write_text('[llm.default]\nmodel = "echo:other"\n')
    runs = [
        (main(line), capsys.readouterr()) for line in ([*before, *command], [*command, *before])
    ]

    assert 0 == runs[0][0]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["chekc"],
            "there is no command 'chekc'. Commands: ask, check, explain, config. Did you mean ",
        ),
        (["config", "shwo"], "Did you mean 'show'?"),
        (["--confg", "x", "check"], "there is no option --confg."),
        (["--debug", "x", "check"], "there is no command 'x'."),
        (["ask", "--modle=x", "Hi"], "Did you mean '--model'?"),
        (["ask", "--mod", "x", "Hi"], "there is no option --mod."),
        (["ask", "hi", "there"], 'put the prompt in quotes: kor ask "hi there"'),
        (["check", "config.toml"], "too many arguments: config.toml"),
    ],
)
def test_a_misspelt_command_line_is_answered_with_its_cure(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert expected in capsys.readouterr().err
