"""Kernels come and go for as long as a service runs."""

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from kor_containers import create_container
from kor_core.kernel import Kernel, get_kernel, use_kernel
from kor_core.settings import settings_from


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_derived_kernels_leave_nothing_behind(rounds: Callable[[int], int]):
    """Each kernel answers, closes and is freed; no thread stays, and the parent serves on."""
    alive = weakref.WeakSet[Kernel]()
    with create_container({"llm": {"default": {"model": "echo:parent"}}}) as app:
        assert "Echo: first" == app.kernel().model_selector.get_model().generate("first")
        threads = threading.active_count()
        for turn in range(rounds(20_000)):
            settings = settings_from({"llm": {"default": {"model": f"echo:{turn}"}}})
            with app.derive({"config.settings": settings}) as child, use_kernel(child.kernel()):
                kernel = get_kernel()
                alive.add(kernel)

                assert f"{turn}" == kernel.model_selector.get_model().model_name
                assert f"Echo: {turn}" == kernel.model_selector.get_model().generate(f"{turn}")
        del child, kernel
        gc.collect()

        assert 0 == len(alive)
        assert threads == threading.active_count()
        assert "Echo: last" == app.kernel().model_selector.get_model().generate("last")
