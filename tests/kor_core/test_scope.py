"""What is registered by hand is seen by derived scopes, and never the other way round."""

import pytest

from kor_core.errors import RegistrationError
from kor_core.scope import Layer


def test_a_child_sees_what_its_parent_adds_later_and_the_parent_sees_nothing_of_the_child():
    parent = Layer[int]()
    child = Layer(parent)

    child.add("mine", 1)
    parent.add("ours", 2)

    assert {"mine": 1, "ours": 2} == dict(child)
    assert {"ours": 2} == dict(parent)
    assert 2 == len(child)


def test_a_name_that_is_taken_above_needs_replace_and_then_hides_the_parents():
    parent = Layer[int]()
    child = Layer(parent)
    parent.add("x", 1)

    with pytest.raises(RegistrationError, match="replace=True") as caught:
        child.add("x", 2)
    child.add("x", 2, replace=True)

    assert "x" == caught.value.name
    assert (1, 2) == (parent["x"], child["x"])


def test_a_missing_name_is_a_key_error():
    with pytest.raises(KeyError, match="x"):
        Layer(Layer[int]())["x"]
