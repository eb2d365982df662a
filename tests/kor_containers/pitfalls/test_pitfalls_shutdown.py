"""Resources and shutdown: what goes wrong with dependency-injector's, and does not with ours."""

from types import SimpleNamespace
from typing import Any

import pytest

from kor_containers.container import KorContainer
from kor_containers.providers import Singleton


def test_the_order_is_the_reverse_of_creation_through_objects_in_between(
    toy: SimpleNamespace, app: Any
) -> None:
    """There, it looks at direct links only: wrong in a third of runs."""
    app.kernel()
    app.close()

    assert toy.log.index("Kernel") < toy.log.index("Catalogue") < toy.log.index("Transport")


def test_one_failing_closer_leaves_no_other_open(toy: SimpleNamespace) -> None:
    """There, the rest stays open."""

    class Bad:
        def __init__(self, part: Any) -> None:
            self.part = part

        def close(self) -> None:
            raise OSError("stuck")

    class App(KorContainer):
        part = Singleton(toy.Part)
        bad = Singleton(Bad, part)
        last = Singleton(toy.Part, bad)

    app = App()
    part, last = app.part(), app.last()
    with pytest.raises(ExceptionGroup):
        app.close()

    assert (part.closed, last.closed) == (1, 1)


def test_after_a_failed_build_what_was_built_is_closed(toy: SimpleNamespace) -> None:
    """There, a failed init closes nothing."""

    def fail(part: Any) -> None:
        raise OSError("no")

    class App(KorContainer):
        part = Singleton(toy.Part)
        bad = Singleton(fail, part)

    app = App()
    with pytest.raises(OSError, match="no"):
        app.bad()
    part = app.part()
    app.close()

    assert part.closed == 1


def test_the_exception_in_flight_is_the_context_of_what_closers_raise(app: Any) -> None:
    """There, it is never passed on."""

    class Bad:
        def close(self) -> None:
            raise OSError("stuck")

    with pytest.raises(ExceptionGroup) as caught, app.llm.openai.override(Singleton(Bad)):  # noqa: PT012 # both fail
        app.kernel()
        raise ZeroDivisionError

    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_nothing_is_built_to_be_closed(toy: SimpleNamespace, app: Any) -> None:
    app.close()

    assert toy.log == []
