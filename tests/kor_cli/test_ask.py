"""``kor ask``: which model answers which prompt."""

import io
import os
import pty
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kor_cli.main import main


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def until(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.01)


# --- which model ----------------------------------------------------------------------------


def test_without_configuration_the_echo_answers_and_stderr_says_how_to_configure(
    kor: Callable[..., Any],
):
    code, out, err = kor("ask", "Hello!")

    assert (0, "Echo: Hello!\n") == (code, out)
    assert "no configuration found" in err
    assert "[llm.default]" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "usual answers Hi"),
        (["--purpose", "coding"], "coder answers Hi"),
        (["--model", "stub:other"], "other answers Hi"),
        (["--model", "echo:any"], "Echo: Hi"),
    ],
)
def test_the_options_choose_the_model(
    stub: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
):
    code = main(["ask", *options, "Hi"])

    assert (0, f"{expected}\n", "") == (code, *capsys.readouterr())


def test_config_names_another_file(stub: Path, capsys: pytest.CaptureFixture[str]):
    Path("other.toml").write_text('[llm.default]\nprovider = "echo"\nmodel = "other"\n')

    assert 0 == main(["ask", "--config", "other.toml", "Hi"])
    assert "Echo: Hi\n" == capsys.readouterr().out


def test_a_purpose_and_a_model_exclude_each_other(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["ask", "--purpose", "coding", "--model", "echo:any", "Hi"])

    assert "not allowed with" in capsys.readouterr().err


# --- the prompt -----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["ask"], ["ask", "-"]])
def test_a_piped_prompt_is_read_whole_and_as_utf_8(
    stub: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
):
    pipe(monkeypatch, "two\nlines, ü\n".encode())

    assert 0 == main(arguments)
    assert "usual answers two\nlines, ü\n" == capsys.readouterr().out


def test_a_prompt_on_the_command_line_leaves_stdin_alone(stub: Path, start: Callable[..., Any]):
    """So that a script whose stdin stays open does not hang."""
    process = start("ask", "Hi")
    code = process.wait(timeout=60)
    out, _ = process.communicate()

    assert (0, "usual answers Hi\n") == (code, out)


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", "empty"), (b" \n", "empty"), (b"\xff", "not UTF-8")]
)
def test_a_prompt_that_is_none_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: bytes, expected: str
):
    pipe(monkeypatch, data)

    with pytest.raises(SystemExit, match="2"):
        main(["ask"])

    assert expected in capsys.readouterr().err


def test_an_empty_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["ask", ""])

    assert "the prompt is empty" in capsys.readouterr().err


def test_on_a_terminal_a_missing_prompt_is_said_and_not_waited_for(start: Callable[..., Any]):
    ours, theirs = pty.openpty()
    try:
        process = start("ask", stdin=theirs)
        out, err = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)

    assert (2, "") == (process.returncode, out)
    assert "there is no prompt" in err


# --- how it ends ----------------------------------------------------------------------------


def test_an_answer_that_the_terminal_cannot_show_is_printed_with_escapes(
    stub: Path, kor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code, out, err = kor("ask", "\N{SNOWMAN}")

    assert (0, "usual answers \\u2603\n", "") == (code, out, err)


def test_a_provider_that_fails_ends_with_1_and_one_readable_block(
    stub: Path, capsys: pytest.CaptureFixture[str]
):
    code = main(["ask", "--model", "stub:busy", "Hi"])

    expected = "kor: no answer: stub:busy: Slow down. (HTTP 429)\n"
    assert (1, "", expected) == (code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--purpose", "codign"], "No purpose 'codign'"),
        (["--purpose", "codign"], "Did you mean 'coding'?"),
        (["--model", "stbu:usual"], "Did you mean 'stub'?"),
        (["--config", "missing.toml"], "missing.toml"),
        (["--model", "openai:gpt-4"], "OPENAI_API_KEY"),
    ],
)
def test_what_the_configuration_lacks_ends_with_2_and_its_cure(
    stub: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
):
    code = main(["ask", *arguments, "Hi"])
    out, err = capsys.readouterr()

    assert (2, "") == (code, out)
    assert expected in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback_before_the_block(stub: Path, capsys: pytest.CaptureFixture[str]):
    code = main(["ask", "--debug", "--model", "stub:impossible", "Hi"])
    _, err = capsys.readouterr()

    assert 1 == code
    assert err.startswith("Traceback")
    assert "ValueError: planted" in err
    assert err.rstrip().splitlines()[-1].startswith("kor: no answer: stub:impossible:")


def test_ctrl_c_ends_with_130_and_no_traceback(stub: Path, start: Callable[..., Any]):
    process = start("ask", "--model", "stub:hanging", "Hi")
    until(stub / "asked")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert (130, "", "kor: interrupted\n") == (process.returncode, out, err)


def test_a_reader_that_went_away_ends_it_quietly(stub: Path, start: Callable[..., Any]):
    process = start("ask", "--model", "stub:waiting", "Hi")
    until(stub / "asked")
    process.stdout.close()
    (stub / "go").touch()
    err = process.stderr.read()
    process.stderr.close()
    process.stdin.close()

    assert (141, "") == (process.wait(timeout=60), err)
