"""``kor ask``: which model answers which prompt."""

import io
import os
import pty
import signal
import subprocess
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


@pytest.mark.parametrize(
    ("model", "shown"),
    [("streaming", "one two\n"), ("cut", "one two\n"), ("usual", "usual answers Hi\n")],
)
def test_on_a_terminal_the_answer_comes_as_it_is_given(
    stub: Path, start: Callable[..., subprocess.Popen[str]], model: str, shown: str
):
    """Each piece is there before the next is given, and the line ends though the stream is cut."""
    ours, theirs = pty.openpty()
    process = start("ask", "--model", f"stub:{model}", "Hi", stdout=theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        came = b""
        while model != "usual" and came != b"one ":
            came += terminal.read(4 - len(came))
        Path("go").touch()
        _, err = process.communicate(timeout=60)
        came += read_to_the_end(terminal)

    assert shown == came.decode().replace("\r\n", "\n")
    assert (1, True) == (process.returncode, "interrupted" in err) or "cut" != model


def test_a_terminal_obeys_nothing_that_an_answer_says(
    stub: Path, start: Callable[..., subprocess.Popen[str]], kor: Callable[..., Any]
):
    """Whatever moves the cursor or fills the clipboard is shown there; a pipe has it as it is."""
    prompt = "\x1b]0;title\x07\x9b2J\x7f\rü\tend\nline"
    ours, theirs = pty.openpty()
    process = start("ask", prompt, stdout=theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        came = read_to_the_end(terminal)
    process.communicate(timeout=60)
    _, piped, _ = kor("ask", prompt)

    shown = came.decode().replace("\r\n", "\n").expandtabs()
    escaped = r"\x1b]0;title\x07\x9b2J\x7f\x0dü"
    assert f"usual answers {escaped}\tend\nline\n".expandtabs() == shown
    assert f"usual answers {prompt}\n".replace("\r", "\n") == piped  # so are pipes read here


def read_to_the_end(terminal: io.RawIOBase) -> bytes:
    came = b""
    try:
        while piece := terminal.read(4096):
            came += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    return came


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


def test_with_a_prompt_what_is_piped_is_left_alone_for_others(
    stub: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    pipe(monkeypatch, b"one\ntwo\n")

    assert 0 == main(["ask", "Hi"])
    assert "usual answers Hi\n" == capsys.readouterr().out
    assert b"one\ntwo\n" == sys.stdin.buffer.read()


def test_on_a_terminal_and_without_stdin_the_prompt_alone_is_asked(
    stub: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        for stdin in (terminal, None):
            monkeypatch.setattr(sys, "stdin", stdin)

            assert 0 == main(["ask", "Hi"])
            assert "usual answers Hi\n" == capsys.readouterr().out
    os.close(ours)


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", "nothing came on stdin"), (b" \n", "nothing came on stdin"), (b"\xff", "not UTF-8")],
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
    process = start("ask", "--model", "stub:hanging", "Hi", stdin=subprocess.DEVNULL)
    until(stub / "asked")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert (130, "", "kor: interrupted\n") == (process.returncode, out, err)


def test_a_reader_that_went_away_ends_it_quietly(stub: Path, start: Callable[..., Any]):
    process = start("ask", "--model", "stub:waiting", "Hi", stdin=subprocess.DEVNULL)
    until(stub / "asked")
    process.stdout.close()
    (stub / "go").touch()
    err = process.stderr.read()
    process.stderr.close()

    assert (141, "") == (process.wait(timeout=60), err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", [["ask", "Hi"], ["check"], ["config", "show"], ["--help"]])
def test_a_full_disk_is_said_as_what_it_is(
    stub: Path,
    start: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with Path("/dev/full").open("w") as full:
        process = start(*arguments, stdout=full)
        _, err = process.communicate("", timeout=60)

    expected = "kor: the answer could not be written: No space left on device.\n"
    assert (1, expected) == (process.returncode, err)


def test_a_closed_stdout_is_said(
    stub: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdout", None)

    assert 1 == main(["ask", "Hi"])
    assert "could not be written: stdout is closed." in capsys.readouterr().err


def test_no_advice_is_for_those_who_call_kor_from_code(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text("[llm]\n")
    main(["ask", "Hi"])
    main(["ask", "--model", "opnai:x", "Hi"])
    err = capsys.readouterr().err

    assert "--model provider:model" in err
    assert "`kor check` lists them" in err
    assert "get_model" not in err
    assert "registry.register" not in err
    assert "while building" not in err


def test_the_current_folder_holds_modules_of_plugins(stub: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTHONPATH")
    script = Path(sys.executable).with_name("kor")
    run = subprocess.run(
        [script, "ask", "Hi"], input="", check=False, capture_output=True, text=True
    )

    assert (0, "usual answers Hi\n", "") == (run.returncode, run.stdout, run.stderr)
