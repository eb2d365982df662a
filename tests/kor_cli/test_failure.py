"""Errors on the command line: a readable block, an exit code, a traceback when asked for."""

import pytest

from kor_cli.failure import report
from kor_core.errors import (
    AllModelsFailedError,
    AuthenticationError,
    ConfigurationError,
    ContainerError,
    LLMError,
    MissingCredentialsError,
    PluginError,
    Problem,
    ProviderNotFoundError,
    RateLimitError,
)

MISSING = MissingCredentialsError(
    Problem("No key.", "config.toml", "llm.providers.openai.api_key"),
    variables=["OPENAI_API_KEY"],
    provider="openai",
    model="gpt-4",
)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1, RateLimitError("Slow down.")),
        (1, AuthenticationError("Wrong key.")),
        (1, AllModelsFailedError("None answered.", [LLMError("a"), LLMError("b")])),
        (1, RuntimeError("a fault of ours")),
        (2, MISSING),
        (2, ConfigurationError([Problem("Unknown key.")])),
        (2, ProviderNotFoundError("opnai", ["openai"])),
        (2, PluginError("broken", plugin="mine", origin="an argument")),
        (2, ContainerError("No such path.")),
    ],
)
def test_the_exit_code_tells_a_provider_from_the_configuration(
    capsys: pytest.CaptureFixture[str], code: int, error: Exception
):
    assert code == report(error)
    assert capsys.readouterr().err.startswith("kor: ")


def test_further_lines_are_indented_below_the_first_and_notes_left_for_debug(
    capsys: pytest.CaptureFixture[str],
):
    error = ConfigurationError([Problem("One."), Problem("Two.")])
    error.add_note("while building kernel")
    report(error)

    assert (
        "kor: 2 problems in the configuration:\n       - One.\n       - Two.\n"
    ) == capsys.readouterr().err


def test_what_nobody_foresaw_asks_to_be_reported(capsys: pytest.CaptureFixture[str]):
    report(RuntimeError("planted"))
    err = capsys.readouterr().err

    assert "kor: unexpected RuntimeError: planted\n" in err
    assert "--debug" in err


def test_the_traceback_is_shown_when_asked_for_alone(capsys: pytest.CaptureFixture[str]):
    report(LLMError("planted"))
    quiet = capsys.readouterr().err
    report(LLMError("planted"), debug=True)

    assert "LLMError: planted" not in quiet
    assert "LLMError: planted" in capsys.readouterr().err
