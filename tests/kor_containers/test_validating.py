"""Validation finds what is wrong before anything is built, and says all of it at once."""

import json
from types import SimpleNamespace
from typing import Any, Protocol
from unittest.mock import Mock

import pytest
from dependency_injector import providers

from kor_containers.container import KorContainer
from kor_containers.providers import Dependency, Object, Singleton
from kor_containers.validation import InvalidContainerError, Report
from kor_core.errors import ContainerError


def broken() -> type[KorContainer]:
    class Needs(KorContainer):
        text = Dependency(instance_of=str)
        missing = Dependency()
        native = providers.Dependency(instance_of=int)
        wrong = Singleton(min)  # a C function that does not tell its arguments
        strict = Singleton(lambda a, *, b: (a, b), text, c=1)

    class App(KorContainer):
        count = Singleton(int)
        needs = providers.Container(Needs, text=count)

    return App


def test_all_problems_come_in_one_readable_error() -> None:
    app = broken()()
    with pytest.raises(InvalidContainerError) as caught:
        app.validate()
    report = caught.value.report

    assert [(item.kind, item.path) for item in report.problems] == [
        ("type", "needs.text"),
        ("missing", "needs.missing"),
        ("missing", "needs.native"),
        ("arguments", "needs.strict"),
    ]
    text = str(caught.value)
    assert text.startswith("4 problems in the container:\n  - needs.text: ")
    assert "is declared as str, and bound to 'count', which makes int" in text
    assert "providers.Container(..., missing=...)" in text
    assert "cannot be called so" in text
    assert isinstance(caught.value, ContainerError)


def test_the_first_resolve_validates_a_bare_container() -> None:
    app = broken()()
    with pytest.raises(InvalidContainerError, match="4 problems"):
        app.count()


def test_one_problem_is_told_as_one(toy: SimpleNamespace) -> None:
    with pytest.raises(InvalidContainerError, match="1 problem in the container"):
        toy.LLMContainer(operator=1, settings=2).openai()


def test_what_is_missing_can_be_bound_later(toy: SimpleNamespace) -> None:
    llm = toy.LLMContainer()
    with llm.override({"operator": 1, "settings": 2, "transport": 3}):
        assert llm.openai().needs == (3,)
    child = toy.LLMContainer().derive({"operator": 1, "settings": 2, "transport": 3})
    assert child.registry().needs[0] == 2
    bound = toy.LLMContainer()
    bound.operator.override(1)
    bound.override_providers(settings=2, transport=3)
    assert bound.openai().needs == (3,)


def test_a_missing_dependency_is_named_where_it_is_asked_for(toy: SimpleNamespace) -> None:
    llm = toy.LLMContainer(operator=1, settings=2, transport=3)
    llm.validate()
    incomplete = toy.LLMContainer(operator=1)
    incomplete._space.checked = True  # as if it had been complete
    with pytest.raises(ContainerError, match="'transport' is a dependency that nobody bound"):
        incomplete.openai()


def test_a_sound_container_is_reported_so(app: Any) -> None:
    report = app.validate()

    assert report == Report((), ())
    assert str(report) == "No problems, no warnings."
    assert app.derive({"config.settings": object()}).validate() == report


def test_a_replacement_of_another_type_works_and_is_reported(app: Any) -> None:
    with app.llm.openai.override(Mock()):
        report = app.validate()
        app.kernel()

    (warning,) = report.warnings
    assert (warning.kind, warning.path) == ("type", "llm.openai")
    assert "was replaced by a Mock, which is no OpenAI" in str(report)


def test_a_native_singleton_that_would_stay_stale_is_reported_with_its_cure() -> None:
    class App(KorContainer):
        word = Object("a")
        single = providers.ThreadSafeSingleton(list, providers.List(word))
        leaf = providers.Singleton(dict)

    (warning,) = App().validate().warnings

    assert (warning.kind, warning.path) == ("stale", "single")
    assert "kor_containers.providers.Singleton" in warning.message


def test_dependencies_may_expect_more_than_classes() -> None:
    class Speaks(Protocol):
        def speak(self) -> str: ...

    class App(KorContainer):
        union = Dependency(instance_of=str | None)
        listed = Dependency(instance_of=list[int])
        protocol = Dependency(instance_of=Speaks)
        default = Dependency(default=3)
        all = Singleton(lambda *given: given, union, listed, protocol, default)

    app = App(union="a", listed=[1], protocol=1)

    assert app.all() == ("a", [1], 1, 3)


def test_a_plain_protocol_is_never_checked_against_a_class() -> None:
    class Speaks(Protocol):
        def speak(self) -> str: ...

    class App(KorContainer):
        protocol = Dependency(instance_of=Speaks)
        made = Singleton(dict)

    assert App(protocol=Singleton(dict)).made() == {}


def test_a_report_is_data() -> None:
    with pytest.raises(InvalidContainerError) as caught:
        broken()().validate()
    plain = caught.value.report.as_dict()

    assert json.loads(json.dumps(plain)) == plain
    assert plain["problems"][1]["path"] == "needs.missing"
    assert "problem: needs.missing" in str(caught.value.report)
