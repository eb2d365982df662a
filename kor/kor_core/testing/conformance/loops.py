"""A model serves any thread and any event loop, and many callers at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kor_core.testing.conformance.subject import Bench, Subject

__all__ = ["Loops"]

_PROMPTS = [f"This is prompt {number}." for number in range(20)]


class Loops(Subject):
    """Changes of loops and threads, and calls side by side."""

    def test_one_model_serves_several_loops(self, bench: Bench) -> None:
        """Nothing in it hangs on the loop of its first call."""
        model = bench.model()

        self._same(bench, lambda prompt: bench.run(model.agenerate(prompt)))

    def test_sync_calls_work_inside_a_running_loop(self, bench: Bench) -> None:
        """So they do in notebooks and in sync callbacks of async programs."""
        model = bench.model()

        async def inside(prompt: str) -> str:
            return model.generate(prompt)

        self._same(bench, lambda prompt: bench.run(inside(prompt)))

    def test_one_model_serves_threads_side_by_side(self, bench: Bench) -> None:
        """Each thread has a loop of its own, and gets its own answers."""
        model = bench.model()

        def ask(prompt: str) -> str:
            return bench.run(model.agenerate(prompt))

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, _PROMPTS))

        self._check(bench, answers)

    def test_answers_of_calls_at_once_are_not_mixed_up(self, bench: Bench) -> None:
        """Each call gets the answer to its own prompt."""
        model = bench.model()

        async def all_at_once() -> list[str]:
            return await asyncio.gather(*map(model.agenerate, _PROMPTS))

        self._check(bench, bench.run(all_at_once()))

    def test_models_at_once_use_their_own_keys(self, bench: Bench) -> None:
        """A provider holds no key: each model's reaches the server with its own prompts."""
        upstream = bench.upstream
        keys = {f"sk-of-tenant-{number}": bench.model for number in range(4)}
        models = {key: make(api_key=key) for key, make in keys.items()}

        async def all_at_once() -> None:
            await asyncio.gather(*(model.agenerate(key) for key, model in models.items()))

        bench.run(all_at_once())
        if all(request.key is None for request in upstream.requests):
            pytest.skip("it sends no key")

        assert [] == [request.text for request in upstream.requests if request.key != request.text]

    def _same(self, bench: Bench, ask: Callable[[str], str]) -> None:
        self._check(bench, [ask(prompt) for prompt in _PROMPTS[:3]])

    def _check(self, bench: Bench, answers: list[str]) -> None:
        if bench.deterministic:
            assert bench.expected(_PROMPTS[: len(answers)]) == answers
        assert all(isinstance(answer, str) for answer in answers)
