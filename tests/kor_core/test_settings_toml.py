"""TOML files: the line of every key, and errors that say line and column."""

from pathlib import Path

import pytest

from kor_core.errors import Problem
from kor_core.settings import toml
from kor_core.settings.provenance import Sourced
from kor_core.settings.toml import parsed_toml, read_toml

DOCUMENT = '''\
# a comment
[llm]
unknown_purpose = "default"   # another

[llm.default]
provider = "openai"
model = """
[not.a.header]
key = 1
"""
stop = [
  "a",   # ]
  "[b]",
]
extra = { drop_params = true, nested = { deep = 1 } }

[llm.purposes."gpt-4.1"]
model.x = 1
"2024" = 'y'

[[things]]
name = 1
[[things]]
name = 2
'''


def lines(text: str) -> dict[str, int]:
    parsed = parsed_toml(text, "f")
    assert isinstance(parsed, Sourced)
    return {
        ".".join(path): int(origin.partition(":")[2]) for path, origin in parsed.origins.items()
    }


def test_every_key_has_the_line_it_stands_in():
    expected = {
        "llm": 2,
        "llm.unknown_purpose": 3,
        "llm.default": 5,
        "llm.default.provider": 6,
        "llm.default.model": 7,
        "llm.default.stop": 11,
        "llm.default.extra": 15,
        "llm.default.extra.drop_params": 15,
        "llm.default.extra.nested": 15,
        "llm.default.extra.nested.deep": 15,
        "llm.purposes": 17,
        "llm.purposes.gpt-4.1": 17,
        "llm.purposes.gpt-4.1.model": 18,
        "llm.purposes.gpt-4.1.model.x": 18,
        "llm.purposes.gpt-4.1.2024": 19,
        "things": 23,
        "things.name": 22,
    }

    assert lines(DOCUMENT) == expected


def test_lines_are_the_same_with_windows_line_ends():
    assert lines(DOCUMENT.replace("\n", "\r\n")) == lines(DOCUMENT)


def test_a_table_named_by_its_children_first_has_the_line_of_its_own_header():
    assert lines("[a.b]\n[a]\nc = 1") == {"a": 2, "a.b": 1, "a.c": 3}


def test_an_empty_document_is_an_empty_table():
    assert lines("") == {}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a = 1\n[llm.default\n", 2, 13),
        ("a =", 1, 4),
        ('a = "x', 1, 7),
        ('\n\na = """x\n', 4, 1),
        ("a = 1\na = 2\n", 2, 6),
        ("a = nope", 1, 5),
    ],
)
def test_a_syntax_error_says_line_and_column(text: str, line: int, column: int):
    found = parsed_toml(text, "config.toml")

    assert isinstance(found, Problem)
    assert found.origin == f"config.toml:{line}"
    assert found.message.startswith(f"TOML syntax error in column {column}: ")


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("model = gpt-4o", 'Text needs quotes: "…".'),
        ("model = 4o-mini", 'Text needs quotes: "…".'),
        ("stop = [END]", 'Text needs quotes: "…".'),
        ("proxy = ~/x", 'Text needs quotes: "…".'),
        ("extra = { a = b }", 'Text needs quotes: "…".'),
        ("trust_env = True", "Write true or false, in small letters."),
        ("trust_env = no", "Write true or false, in small letters."),
    ],
)
def test_text_without_quotes_is_told_what_it_lacks(text: str, cure: str):
    found = parsed_toml(f"# first\n{text}  # a comment\n", "f")

    assert isinstance(found, Problem)
    assert found.origin == "f:2"
    assert found.message.endswith(f". {cure}")


@pytest.mark.parametrize(
    "text", ["a =", "a = 1 2", 'a = "x" y', "a = [1 2]", "a", "a = \x00", "[a"]
)
def test_other_syntax_errors_say_nothing_of_quotes(text: str):
    found = parsed_toml(text, "f")

    assert isinstance(found, Problem)
    assert "quotes" not in found.message


def test_a_number_too_long_for_python_is_a_problem():
    found = parsed_toml(f"a = {'1' * 5000}", "config.toml")

    assert isinstance(found, Problem)
    assert found.message.startswith("TOML error: ")


def test_lists_nested_without_end_are_a_problem():
    found = [
        parsed_toml(text, "f")
        for text in (
            f"a = {'[' * 100_000}",
            f"a = {'[' * 100}{']' * 100}",
            f"{'a.' * 100}a = 1",
        )
    ]

    assert found == [Problem("Tables or lists are nested too deeply.", "f")] * 3


def test_a_byte_order_mark_is_skipped(tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1")
    found = read_toml(path)

    assert isinstance(found, Sourced)
    assert found.data == {"a": 1}
    assert found.origin(("a",)) == f"{path}:1"


def test_a_file_that_is_not_utf8_says_in_which_line(tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"a = 1\nb = '\xe9'\n")
    found = read_toml(path)

    assert found == Problem("The file is not UTF-8: see line 2. Save it as UTF-8.", str(path))


def test_a_directory_is_a_problem(tmp_path: Path):
    found = read_toml(tmp_path)

    assert found == Problem("Expected a file, found a directory.", str(tmp_path))


def test_an_unreadable_file_is_a_problem_that_says_why(tmp_path: Path):
    # A link to itself: unlike permissions, it stops root as well.
    path = tmp_path / "config.toml"
    path.symlink_to(path)
    found = read_toml(path)

    assert isinstance(found, Problem)
    assert found.message.startswith("The file cannot be read: ")


def test_a_path_that_no_file_can_have_is_a_problem():
    found = read_toml(Path("a\0b"))

    assert isinstance(found, Problem)
    assert "null" in found.message


def test_a_missing_file_is_none(tmp_path: Path):
    assert read_toml(tmp_path / "config.toml") is None


def test_a_value_of_thousands_of_lines_costs_lines_not_minutes(monkeypatch):
    parsed = []
    real = toml.tomllib.loads
    monkeypatch.setattr(toml.tomllib, "loads", lambda text: parsed.append(len(text)) or real(text))
    text = "before = 0\na = [\n" + "1,\n" * 2000 + "]\nb = 1\n"

    found = parsed_toml(text, "f.toml")

    assert 1 == found.data["b"]
    assert ("f.toml:1", "f.toml") == (found.origin(("before",)), found.origin(("b",)))
    assert sum(parsed) < 100 * len(text)
