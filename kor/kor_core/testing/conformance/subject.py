"""What a suite proves: a provider, one of its models, and the server behind it, if any."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import pytest

from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.redaction import Config
from kor_core.testing.upstream import Upstream

__all__ = ["Bench", "Subject"]

T = TypeVar("T")


class Bench:
    """A provider on the bench: what one test asks.

    Args:
        provider: the one to prove.
        model_name: of the model that is asked.
        config: what ``create_model`` gets.
        upstream: the server behind it, or None.
        deterministic: whether the same prompt gets the same answer.
        patience: seconds in which what must be prompt has happened.
    """

    def __init__(
        self,
        provider: BaseLLMProvider,
        model_name: str,
        config: Mapping[str, Any],
        upstream: Upstream | None,
        *,
        deterministic: bool,
        patience: float,
    ) -> None:
        self.provider = provider
        self.model_name = model_name
        self.config = Config(config)
        self.deterministic = deterministic
        self.patience = patience
        self.behind = upstream

    @property
    def upstream(self) -> Upstream:
        """The server behind the provider; without one the test is skipped."""
        if self.behind is None:
            pytest.skip("there is no server behind it: set `upstream`")
        return self.behind

    def model(self, name: str = "", **config: Any) -> BaseLLMModel:
        """Make a model, with more settings than those of the bench."""
        return self.provider.create_model(
            name or self.model_name, Config({**self.config, **config})
        )

    def expected(self, prompts: Sequence[str]) -> list[str]:
        """Return what is answered to prompts, one after the other."""
        if self.behind is not None:
            return list(prompts)
        return [self.run(self.model().agenerate(prompt)) for prompt in prompts]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on an event loop of its own, with a generous deadline."""

        async def patiently() -> T:
            return await asyncio.wait_for(work, 3 * self.patience)

        return asyncio.run(patiently())


class Subject:
    """What is proved. Attributes and methods are for overriding.

    The suite is sync and makes its own event loops: it needs no plugin of pytest.
    """

    #: The model that is asked.
    model_name: ClassVar[str] = "any-model"

    #: Other names that the provider takes, for which nothing is asked.
    more_names: ClassVar[Sequence[str]] = ()

    #: What ``create_model`` gets, beside the key and the endpoint of an upstream.
    config: ClassVar[Mapping[str, Any]] = {}

    #: Whether each test starts a :class:`~kor_core.testing.Upstream` behind the provider, and
    #: which of its URLs is the ``base_url``: ``openai``, ``gemini``, or ``root`` for Anthropic
    #: and Ollama. Without one, what only a server can show is skipped.
    upstream: ClassVar[Literal["", "openai", "gemini", "root"]] = ""

    #: Generation settings that the vendor wants in every request.
    always_sent: ClassVar[frozenset[str]] = frozenset()

    #: Whether the same prompt gets the same answer, where there is no upstream.
    deterministic: ClassVar[bool] = True

    #: Seconds in which what must be prompt has happened, on any machine.
    patience: ClassVar[float] = 20.0

    def make_provider(self) -> BaseLLMProvider:
        """Return the provider to prove, a new one for each test."""
        raise NotImplementedError

    def close_provider(self, provider: BaseLLMProvider) -> None:
        """Release what ``make_provider`` made."""
        provider.close()

    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        """Give the provider on its bench."""
        provider = self.make_provider()
        try:
            if not self.upstream:
                yield self._bench(provider, dict(self.config), None)
            else:
                with Upstream() as server:
                    yield self._bench(provider, self._wired(server), server)
        finally:
            self.close_provider(provider)

    def _wired(self, server: Upstream) -> dict[str, Any]:
        urls = {"openai": "openai_url", "gemini": "gemini_url", "root": "url"}
        url = getattr(server, urls[self.upstream])
        return {"api_key": "sk-of-the-bench", "base_url": url, **self.config}

    def _bench(
        self, provider: BaseLLMProvider, config: dict[str, Any], server: Upstream | None
    ) -> Bench:
        return Bench(
            provider,
            self.model_name,
            config,
            server,
            deterministic=self.deterministic,
            patience=self.patience,
        )
