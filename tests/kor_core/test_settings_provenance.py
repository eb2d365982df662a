"""Merging: tables merge, everything else is replaced, and each key keeps its origin."""

from kor_core.settings.provenance import Sourced, dotted, paths_of
from kor_core.settings.toml import parsed_toml


def source(text: str, name: str) -> Sourced:
    parsed = parsed_toml(text, name)
    assert isinstance(parsed, Sourced)
    return parsed


def test_tables_merge_and_lists_replace():
    merged = source("[a]\nx = [1, 2]\ny = 1", "low").under(source("[a]\nx = [3]\nz = 2", "high"))

    assert merged.data == {"a": {"x": [3], "y": 1, "z": 2}}
    assert merged.origin(("a", "x")) == "high:2"
    assert merged.origin(("a", "y")) == "low:3"
    assert merged.origin(("a", "z")) == "high:3"
    assert merged.origin(("a",)) == "high:1"


def test_keys_that_differ_in_case_or_hold_dots_stay_apart():
    merged = source("Coding = 1\n'a.b' = 1", "low").under(source("coding = 2\na.b = 2", "high"))

    assert merged.data == {"Coding": 1, "coding": 2, "a.b": 1, "a": {"b": 2}}


def test_a_value_replaces_a_table_with_all_its_origins():
    merged = source("[a.b]\nc = 1", "low").under(source("[a]\nb = 2", "high"))

    assert merged.data == {"a": {"b": 2}}
    assert merged.origin(("a", "b", "c")) == "high:2"


def test_a_table_replaces_a_value():
    merged = source("a = 1", "low").under(source("[a]\nb = 2", "high"))

    assert merged.data == {"a": {"b": 2}}
    assert merged.origin(("a",)) == "high:1"


def test_merging_changes_neither_source():
    low, high = source("[a]\nx = 1", "low"), source("[a]\nx = 2", "high")
    low.under(high)

    assert (low.data, high.data) == ({"a": {"x": 1}}, {"a": {"x": 2}})
    assert low.origin(("a", "x")) == "low:2"


def test_what_nobody_set_has_no_origin():
    assert source("a = 1", "f").origin(("b", "c")) == ""


def test_holds_says_whether_a_path_is_set():
    found = source("[a]\nb = 1", "f")

    assert found.holds(("a", "b"))
    assert not found.holds(("a", "c"))
    assert not found.holds(("a", "b", "c"))


def test_the_repr_shows_no_value():
    assert repr(source("key = 'sk-planted'", "f")) == "<configuration of 1 keys>"


def test_paths_come_parents_first():
    assert list(paths_of({"a": {"b": 1}, "c": []})) == [("a",), ("a", "b"), ("c",)]


def test_key_paths_are_written_as_toml_writes_them():
    assert dotted(("llm", "purposes", "", "a b", "é", "x-1")) == 'llm.purposes.""."a b"."é".x-1'
