"""A parser whose errors name the nearest command or option."""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, Final, NoReturn

__all__ = ["Parser", "parsed"]

_NAMELESS: Final = "the following arguments are required: COMMAND"
_NO_COMMAND: Final = re.compile(r"argument COMMAND: invalid choice: '(.*?)' \(")


class Parser(argparse.ArgumentParser):
    """Takes options by their whole names only, so that a new one changes no old command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self.commands: Iterable[str] = ()
        self.given: Sequence[str] = ()  # to the whole command

    @property
    def options(self) -> list[str]:
        """The names of all options, without their short forms."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def error(self, message: str) -> NoReturn:
        """End with a message that names the nearest command, or where none is given, with help."""
        if message == _NAMELESS:
            self.print_help(sys.stderr)
            self.exit(2)
        if found := _NO_COMMAND.match(message):
            message = self._no_command(found[1])
        super().error(message)

    def refuse(self, rest: Sequence[str]) -> NoReturn:
        """End with a message about arguments that nobody understands."""
        option = next((each for each in rest if each.startswith("-")), None)
        self.error(self._no_option(option) if option else f"too many arguments: {' '.join(rest)}")

    def _no_command(self, name: str) -> str:
        # The value of an unknown option was taken for the command.
        before = takewhile(lambda each: each != name, self.given)
        for each in before:
            if each.startswith("--") and each.partition("=")[0] not in self.options:
                return self._no_option(each)
        known = ", ".join(self.commands)
        return f"there is no command '{name}'. Commands: {known}.{_hint(name, self.commands)}"

    def _no_option(self, option: str) -> str:
        name = option.partition("=")[0]
        known = ", ".join(self.options)
        return f"there is no option {name}. Options: {known}.{_hint(name, self.options)}"


def _hint(name: str, known: Iterable[str]) -> str:
    from kor_core.suggestions import did_you_mean  # noqa: PLC0415  # only mistakes need it

    return did_you_mean(name, known)


def parsed(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options that a command line gives.

    Args:
        parser: that of the whole command; each subcommand sets its own as ``parser``.
        arguments: what stands after the command's name.
    """
    parser.given = arguments
    options: argparse.Namespace
    options, rest = parser.parse_known_args(arguments)
    if not rest:
        return options
    chosen: Parser = options.parser
    prompt: str | None = getattr(options, "prompt", None)
    if prompt is not None and not any(each.startswith("-") for each in rest):
        words = " ".join([prompt, *rest])
        chosen.error(f'the prompt is one argument; put the prompt in quotes: kor ask "{words}"')
    return chosen.refuse(rest)
