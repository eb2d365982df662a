"""``kor ask``: one prompt, one answer."""

import argparse
import sys

from kor_containers import create_container

__all__ = ["ask"]


def ask(options: argparse.Namespace) -> int:
    """Print a model's answer to the prompt of the command line, or else of stdin."""
    prompt = _prompt(options)
    with create_container(options.config).kernel() as kernel:
        model = kernel.model_selector.get_model(options.purpose, override=options.model)
        _write(model.generate(prompt))
    return 0


def _write(answer: str) -> None:
    # A terminal that lacks a character shows its escape: an answer is not lost for an emoji.
    encoding = sys.stdout.encoding
    print(answer.encode(encoding, errors="backslashreplace").decode(encoding))


def _prompt(options: argparse.Namespace) -> str:
    parser: argparse.ArgumentParser = options.parser
    given: str | None = options.prompt
    if given is None and sys.stdin.isatty():
        parser.error('there is no prompt: kor ask "Hello!"')
    prompt = _piped(parser) if given in {None, "-"} else given
    if not prompt or not prompt.strip():
        parser.error("the prompt is empty")
    return prompt


def _piped(parser: argparse.ArgumentParser) -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        parser.error(f"the prompt on stdin is not UTF-8: {error}")
