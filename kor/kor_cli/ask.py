"""``kor ask``: one prompt, one answer."""

import argparse
import sys

from kor_cli.output import is_terminal, write
from kor_containers import create_container
from kor_core.llm.base import BaseLLMModel

__all__ = ["ask"]


def ask(options: argparse.Namespace) -> int:
    """Print a model's answer to the prompt of the command line, or else of stdin."""
    prompt = _prompt(options)
    with create_container(options.config).kernel() as kernel:
        model = kernel.model_selector.get_model(options.purpose, override=options.model)
        # Whoever reads it along gets it as it comes; a file gets all of it, or nothing.
        if is_terminal():
            _show(model, prompt)
        else:
            write(model.generate(prompt))
    return 0


def _show(model: BaseLLMModel, prompt: str) -> None:
    last = ""
    try:
        with model.stream(prompt) as stream:
            for delta in stream:
                write(delta.text, end="")
                last = delta.text or last
    finally:
        if last and not last.endswith("\n"):
            write("")  # what follows, an error or the shell, begins on a line of its own


def _prompt(options: argparse.Namespace) -> str:
    parser: argparse.ArgumentParser = options.parser
    given: str | None = options.prompt
    if given is not None and not given.strip():
        parser.error("the prompt is empty")
    if given is None and _is_terminal():
        parser.error('there is no prompt: kor ask "Hello!"')
    # With a prompt stdin is left alone: under cron and in loops it is open, and never ends.
    if given is None or given == "-":
        return _piped(parser) or parser.error("nothing came on stdin")
    return given


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]  # so under `<&-`


def _piped(parser: argparse.ArgumentParser) -> str:
    """Return what stands on stdin; empty where that is nothing but blanks."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  # see above
        return ""
    try:
        text = sys.stdin.buffer.read().decode("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        parser.error(f"the prompt on stdin is not UTF-8: {error}")
    return text if text.strip() else ""
