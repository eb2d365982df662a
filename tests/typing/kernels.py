"""What type checkers know of the public interface; run by mypy and pyright, not by pytest."""

from typing import assert_type

from kor_containers import ApplicationContainer, create_container, create_kernel, default_container
from kor_core.kernel import Kernel, get_kernel, use_kernel
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.settings import Settings


def containers_are_known_by_their_class(app: ApplicationContainer) -> None:
    assert_type(create_container("config.toml"), ApplicationContainer)
    assert_type(default_container(), ApplicationContainer)
    assert_type(app.derive({}), ApplicationContainer)


def bindings_give_what_they_build(app: ApplicationContainer) -> None:
    assert_type(app.kernel(), Kernel)
    assert_type(app.config().settings(), Settings)
    assert_type(app.llm().registry(), LLMRegistry)
    assert_type(app.llm().selector(), ModelSelector)


def kernels_are_known_wherever_they_come_from(kernel: Kernel) -> None:
    assert_type(get_kernel(), Kernel)
    with create_kernel() as created, use_kernel(kernel) as used:
        assert_type(created, Kernel)
        assert_type(used, Kernel)


async def answers_are_text(kernel: Kernel) -> None:
    model = kernel.model_selector.get_model(purpose="coding")
    assert_type(model, BaseLLMModel)
    assert_type(model.generate("Hello!"), str)
    assert_type(await model.agenerate("Hello!"), str)
