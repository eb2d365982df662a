"""What the command ``kor`` understands, and how it ends.

A subcommand is imported when it runs, so that ``kor --help`` costs Python and argparse only.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kor_cli.output import UnwrittenError, flush, stop_writing
from kor_cli.parsing import Parser, parsed

__all__ = ["main"]

_UNWRITTEN: Final = 1
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count
_NOBODY_READS: Final = 141  # 128 + SIGPIPE, as shells count

_EXIT_CODES: Final = """\
exit codes:
  0  answered, or nothing is wrong
  1  the provider failed, or the answer could not be written
  2  the usage or the configuration is wrong
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: what stands after ``kor``; by default the process's own.
    """
    try:
        try:
            return _run(arguments)
        finally:
            flush()
    except BrokenPipeError:
        stop_writing()
        return _NOBODY_READS
    except OSError as error:  # stdout's alone: those of commands are reported where they run
        stop_writing()
        reason = error.strerror or str(error)
        sys.stderr.write(f"kor: the answer could not be written: {reason}.\n")
        return _UNWRITTEN
    except KeyboardInterrupt:
        sys.stderr.write("kor: interrupted\n")
        return _INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    options = parsed(_parser(), sys.argv[1:] if arguments is None else arguments)
    _find_modules_here()
    try:
        code: int = options.run(options)
    except (BrokenPipeError, UnwrittenError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever happens, users read a message
        from kor_cli.failure import report  # noqa: PLC0415  # only failures need it

        return report(error, debug=options.debug)
    return code


def _find_modules_here() -> None:
    """Let ``[plugins] modules`` name modules of the current folder, as ``python`` itself would.

    Last, so that no file there takes the place of an installed module.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


# --- what it understands ------------------------------------------------------------------


def _parser() -> Parser:
    parser = Parser(
        prog="kor",
        description="Ask language models, and look at the configuration that chooses them.",
        epilog=f'start here:\n  kor ask "Hello!"\n\n{_EXIT_CODES}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser)
    parser.set_defaults(config=None, debug=False)
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_ask(commands)
    _add_check(commands)
    _add_explain(commands)
    _add_config(commands)
    parser.commands = commands.choices
    return parser


class _Version(argparse.Action):
    """Look the version up when it is asked for: that takes longer than all of ``--help``."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:  # noqa: A002  # argparse passes it by this name
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415  # see the docstring

        print(f"kor {version('kor-sdk')}")
        parser.exit()


def _add_ask(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "ask",
        help="ask a model one thing and print its answer",
        description="Ask a model one thing and print its answer on stdout.",
        epilog=(
            "examples:\n"
            '  kor ask "Why is the sky blue?"\n'
            '  kor ask --purpose coding "Sort a list in Rust."\n'
            '  kor ask --model openai:gpt-4 "Hello!"\n'
            "  git diff | kor ask\n"
            "  (echo 'Review this change.'; git diff) | kor ask\n\n"
            "With a PROMPT, what is piped is left alone.\n\n"
            f"{_EXIT_CODES}"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser)
    parser.add_argument(
        "prompt",
        nargs="?",
        metavar="PROMPT",
        help="what to ask; absent or '-': what is piped alone",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--purpose",
        default="default",
        metavar="NAME",
        help="use the model of [llm.purposes.NAME] (default: that of [llm.default])",
    )
    chosen.add_argument(
        "--model", metavar="PROVIDER:MODEL", help="use this model, whatever is configured"
    )
    parser.set_defaults(run=_ask, parser=parser)


def _add_check(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "check",
        help="say what is wrong with the configuration, without calling anyone",
        description=(
            "Check everything that can be known without a call: files, names, keys, plugins, and "
            "which model serves each purpose. Exits with 2 when something is wrong, for CI."
        ),
    )
    _add_common(parser)
    parser.set_defaults(run=_check, parser=parser)


def _add_explain(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "explain",
        help="say which model serves a purpose, and why, without calling anyone",
        description=(
            "Say which model would serve a purpose, and why: the candidates in the order in\n"
            "which they are asked, with what they are ranked by, then those left out, with\n"
            "what would make them qualify. Nobody is called."
        ),
        epilog=(
            "examples:\n"
            "  kor explain coding\n"
            "  kor explain coding --needs tools,vision --tokens 50000\n"
            "  kor explain coding --json | jq -r '.candidates[0].reference'\n\n"
            "what is shown:\n"
            "  in $/M, out $/M  US dollars per million tokens; ? is unknown, and ranks last\n"
            "  window           tokens that a request and its answer may take\n"
            "  latency, health  of this process, which made no call yet; in an application\n"
            "                   ask kernel.model_selector.explain('coding')\n\n"
            "exit codes:\n"
            "  0  a model qualifies\n"
            "  1  the answer could not be written\n"
            "  2  no model qualifies, or the usage or the configuration is wrong\n"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser)
    parser.add_argument(
        "purpose",
        nargs="?",
        default="default",
        metavar="PURPOSE",
        help="that of [llm.purposes.PURPOSE] (default: [llm.default])",
    )
    parser.add_argument(
        "--needs",
        type=_names,
        default=[],
        metavar="NAMES",
        help="capabilities beside those of the configuration, such as tools,vision",
    )
    parser.add_argument(
        "--tokens",
        type=_count,
        default=0,
        metavar="N",
        help="how many tokens the request and its answer may take",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_explain, parser=parser)


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a number at least 0, found '{text}'")
    return int(text)


def _add_config(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser("config", help="look at the configuration")
    _add_common(parser)
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = actions.add_parser(
        "show",
        help="print every value in force, and where it comes from",
        description=(
            "Print every value in force as TOML, each with the file or environment variable it "
            "comes from. Secrets are masked."
        ),
    )
    _add_common(show)
    show.set_defaults(run=_config_show, parser=show)
    parser.commands = actions.choices


def _add_common(parser: Parser) -> None:
    """Add the options that may stand before a command and after it."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,  # otherwise what stands before the command would be lost
        help="read this file in the place of ./config.toml (or set KOR_CONFIG)",
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,  # like --config: it may stand before the command
        help="show the traceback of an error as well",
    )


# --- what it does: each imports the containers, which --help must not wait for --------------


def _ask(options: argparse.Namespace) -> int:
    from kor_cli.ask import ask  # noqa: PLC0415  # see above

    return ask(options)


def _check(options: argparse.Namespace) -> int:
    from kor_cli.check import check  # noqa: PLC0415  # see above

    return check(options)


def _explain(options: argparse.Namespace) -> int:
    from kor_cli.explain import explain  # noqa: PLC0415  # see above

    return explain(options)


def _config_show(options: argparse.Namespace) -> int:
    from kor_cli.show import show  # noqa: PLC0415  # see above

    return show(options)
