"""Providers that each break one rule, for ``test_conformance_broken.py`` to run the suite on.

``breaks`` names the tests that must fail; ``may_break`` others that the same mistake may fail,
depending on timing.
"""

import asyncio
import logging
import threading
from dataclasses import replace

from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIModel
from kor_core.errors import BadRequestError, LLMError, StreamInterruptedError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.generation import GenerationSettings
from kor_core.llm.profile import ModelProfile
from kor_core.llm.response import Delta, Usage
from kor_core.settings import NetworkSettings
from kor_core.testing.conformance import ProviderConformance


class Model(BaseLLMModel):
    """A right one, to break."""

    async def agenerate(self, prompt, **kwargs):
        return prompt[::-1]


class Provider(BaseLLMProvider):
    id = "broken"

    def __init__(self, kind):
        self.kind = kind

    def create_model(self, model_name, config):
        return self.kind(model_name, config)


class Offline(ProviderConformance):
    """Proves ``model`` of the class, without a server."""

    breaks = ()
    may_break = ()
    patience = 1.0
    model = Model

    def make_provider(self):
        return Provider(self.model)


class Online(Offline):
    """Proves a broken ``OpenAIModel``, over loopback."""

    model_name = "gpt-4"
    upstream = "openai"
    model = OpenAIModel

    def make_provider(self):
        transport = Transport(NetworkSettings())
        provider = Provider(lambda name, config: self.model(name, config, transport=transport))
        provider.id = "openai"
        return provider


class TestRight(Offline):
    pass


# --- identity -----------------------------------------------------------------------------------


class TestIdWithAColon(Offline):
    breaks = ("test_the_id_can_stand_in_references",)

    def make_provider(self):
        provider = super().make_provider()
        provider.id = "bro:ken"
        return provider


class TestModelOfAnotherClass(Offline):
    breaks = ("test_create_model_returns_a_model",)

    class model:  # in the place of one
        def __init__(self, model_name, config):
            self._inner = Model(model_name, config)

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def __repr__(self):
            return repr(self._inner)


class TestNamesInLowerCase(Offline):
    breaks = ("test_names_are_kept_verbatim", "test_the_repr_of_a_model_names_it")
    model_name = "Any-Model"

    class model(Model):
        def __init__(self, model_name, config):
            super().__init__(model_name.lower(), config)


class TestModelsByName(Offline):
    breaks = ("test_each_model_has_its_own_config",)

    def make_provider(self):
        provider, made = super().make_provider(), {}
        create = provider.create_model
        provider.create_model = lambda name, config: made.setdefault(name, create(name, config))
        return provider


# --- settings -----------------------------------------------------------------------------------


class TestDefaultTemperature(Online):
    breaks = ("test_what_is_not_set_is_not_sent",)

    class model(OpenAIModel):
        def __init__(self, model_name, config, **more):
            super().__init__(model_name, {"temperature": 1.0, **config}, **more)


class TestDeafToTheCall(Online):
    breaks = ("test_the_call_goes_before_the_configuration",)

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            return await super().agenerate(prompt)


class TestUnknownSettingsIgnored(Offline):
    breaks = ("test_unknown_settings_are_refused",)

    class model(Model):
        async def achat(self, messages, *, settings=None, **kwargs):
            return await super().achat(messages, **kwargs)


# --- errors -------------------------------------------------------------------------------------


class TestRawErrors(Online):
    breaks = (
        "test_a_failure_is_a_typed_error",
        "test_an_error_says_whose_it_is",
        "test_how_long_to_wait_is_kept",
        "test_after_a_failure_the_model_serves",
    )

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            try:
                return await super().agenerate(prompt, **kwargs)
            except LLMError as error:
                raised = RuntimeError(str(error))
            raise raised


class TestErrorsSwallowed(Online):
    breaks = (
        *("test_a_failure_is_a_typed_error", "test_an_error_says_whose_it_is"),
        *("test_an_error_survives_pickling", "test_how_long_to_wait_is_kept"),
        *("test_nobody_tries_again_but_kor", "test_after_a_failure_the_model_serves"),
        *("test_no_error_shows_the_key", "test_no_log_shows_the_key"),
    )

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            try:
                return await super().agenerate(prompt, **kwargs)
            except LLMError:
                return ""


class TestAnonymousErrors(Online):
    breaks = ("test_an_error_says_whose_it_is",)

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            try:
                return await super().agenerate(prompt, **kwargs)
            except LLMError as error:
                error.provider = error.model = None
                raise


class TestErrorsThatDoNotTravel(Online):
    breaks = ("test_an_error_survives_pickling", "test_no_error_shows_the_key")

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            try:
                return await super().agenerate(prompt, **kwargs)
            except LLMError as error:
                error.response = threading.Lock()
                raise


class TestWaitForgotten(Online):
    breaks = ("test_how_long_to_wait_is_kept",)

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            try:
                return await super().agenerate(prompt, **kwargs)
            except LLMError as error:
                error.retry_after = None
                raise


class TestNoDeadline(Online):
    breaks = ("test_the_deadline_of_a_call_is_kept",)

    class model(OpenAIModel):
        async def _chat(self, request):
            return await super()._chat(request.once)


class TestTriesAgain(Online):
    breaks = ("test_nobody_tries_again_but_kor",)
    may_break = (
        *("test_a_failure_is_a_typed_error", "test_an_error_says_whose_it_is"),
        *("test_an_error_survives_pickling", "test_how_long_to_wait_is_kept"),
        *("test_after_a_failure_the_model_serves", "test_no_error_shows_the_key"),
        "test_no_log_shows_the_key",
    )

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            try:
                return await super().agenerate(prompt, **kwargs)
            except LLMError:
                return await super().agenerate(prompt, **kwargs)


# --- cancellation -------------------------------------------------------------------------------


class TestCancellationSwallowed(Online):
    breaks = ("test_a_cancelled_call_ends_as_cancelled",)

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            try:
                return await super().agenerate(prompt, **kwargs)
            except asyncio.CancelledError:
                return ""


class TestRequestOutlivesItsCall(Online):
    breaks = ("test_a_cancelled_call_leaves_the_server",)

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            return await asyncio.shield(super().agenerate(prompt, **kwargs))


# --- streams ------------------------------------------------------------------------------------


class TestQuietCut(Online):
    breaks = ("test_a_cut_stream_says_so",)

    class model(OpenAIModel):
        async def _stream(self, request):
            try:
                async for delta in super()._stream(request):
                    yield delta
            except StreamInterruptedError:
                pass
            except LLMError as error:
                if error.status not in {None, 200}:
                    raise
            yield Delta(finish_reason="stop")


class TestStreamOutlivesItsReader(Online):
    breaks = ("test_leaving_a_stream_leaves_the_server",)

    class model(OpenAIModel):
        async def _stream(self, request):
            queue = asyncio.Queue()

            async def pump():
                try:
                    async for delta in OpenAIModel._stream(self, request):
                        queue.put_nowait(delta)
                except LLMError as error:
                    queue.put_nowait(error)
                queue.put_nowait(None)

            self.pumping = asyncio.create_task(pump())
            while (delta := await queue.get()) is not None:
                if isinstance(delta, LLMError):
                    raise delta
                yield delta


class TestStreamInOnePiece(Online):
    breaks = ("test_a_stream_comes_in_pieces",)
    may_break = ("test_a_cut_stream_says_so", "test_leaving_a_stream_leaves_the_server")

    class model(OpenAIModel):
        async def _stream(self, request):
            deltas = [delta async for delta in super()._stream(request)]
            yield Delta("".join(delta.text for delta in deltas))
            for delta in deltas:
                yield replace(delta, text="")


# --- loops --------------------------------------------------------------------------------------


class TestBoundToItsFirstLoop(Offline):
    breaks = ("test_one_model_serves_several_loops", "test_one_model_serves_threads_side_by_side")
    may_break = ("test_sync_calls_work_inside_a_running_loop",)

    class model(Model):
        loop = None

        async def agenerate(self, prompt, **kwargs):
            self.loop = self.loop or asyncio.get_running_loop()
            if self.loop is not asyncio.get_running_loop():
                raise RuntimeError("attached to a different loop")
            return await super().agenerate(prompt)


class TestAnswersMixedUp(Offline):
    breaks = ("test_answers_of_calls_at_once_are_not_mixed_up",)
    may_break = ("test_one_model_serves_threads_side_by_side",)

    class model(Model):
        async def agenerate(self, prompt, **kwargs):
            self.prompt = prompt
            await asyncio.sleep(0.01)
            return await super().agenerate(self.prompt)


class TestOneKeyForAll(Online):
    breaks = ("test_models_at_once_use_their_own_keys",)
    may_break = ("test_each_model_has_its_own_config", "test_no_log_shows_the_key")
    keys = ()

    def make_provider(self):
        provider, first = super().make_provider(), []
        create = provider.create_model

        def create_model(name, config):
            first.append(config["api_key"])
            return create(name, {**config, "api_key": first[0]})

        provider.create_model = create_model
        return provider


# --- secrets ------------------------------------------------------------------------------------


class TestReprWithTheKey(Offline):
    breaks = ("test_no_repr_shows_the_key",)

    class model(Model):
        def __repr__(self):
            return f"<Model {self.model_name} {self.config.get('api_key')!s}>"


class TestErrorsWithTheKey(Online):
    breaks = ("test_no_error_shows_the_key",)

    class model(OpenAIModel):
        async def agenerate(self, prompt, **kwargs):
            try:
                return await super().agenerate(prompt, **kwargs)
            except LLMError as error:
                error.args = (f"{error.args[0]} Key: {self.config['api_key']!s}",)
                raise


class TestLogsWithTheKey(Offline):
    breaks = ("test_no_log_shows_the_key",)

    class model(Model):
        async def agenerate(self, prompt, **kwargs):
            logging.getLogger("broken").debug("key %s", self.config.get("api_key"))
            return await super().agenerate(prompt)


# --- honesty ------------------------------------------------------------------------------------

REFUSED = ("embeddings", "json_schema", "tools", "vision")
HONEST = "test_what_it_says_it_can_do_works"


class TestClaimsTools(Offline):
    breaks = (HONEST,)

    class model(Model):
        capabilities = frozenset({"tools"})


class TestFailsAtImages(Online):
    breaks = (HONEST,)

    class model(OpenAIModel):
        async def _chat(self, request):
            if request.messages[-1].images:
                raise BadRequestError("no images here")
            return await super()._chat(request)


class TestLosesTools(Online):
    breaks = (HONEST,)

    class model(OpenAIModel):
        async def _chat(self, request):
            return await super()._chat(replace(request, tools=()))


class TestLosesImages(Online):
    breaks = (HONEST,)

    class model(OpenAIModel):
        async def _chat(self, request):
            messages = tuple(
                replace(each, parts=tuple(p for p in each.parts if p not in each.images))
                for each in request.messages
            )
            return await super()._chat(replace(request, messages=messages))


class TestMixesUpVectors(Online):
    breaks = (HONEST,)

    class model(OpenAIModel):
        async def _embed(self, texts, settings: GenerationSettings):
            found = await super()._embed(texts, settings)
            return replace(found, vectors=tuple(sorted(found.vectors)))


class TestHiddenEmulation(Offline):
    breaks = (HONEST,)

    class model(Model):
        def astream(self, messages, **kwargs):
            stream = super().astream(messages, **kwargs)
            stream._finish = lambda response: replace(response, emulated=frozenset())
            return stream

        @property
        def profile(self):
            return ModelProfile(unsupported=frozenset({"streaming", *REFUSED}))


class TestLosesTheSystemPrompt(Online):
    breaks = ("test_a_conversation_arrives_whole",)
    may_break = (HONEST,)

    class model(OpenAIModel):
        async def _chat(self, request):
            return await super()._chat(request.of_messages(request.messages[-1:]))


class TestMadeUpUsage(Offline):
    breaks = ("test_usage_is_the_servers_or_unknown",)

    class model(Model):
        async def achat(self, messages, **kwargs):
            return replace(await super().achat(messages, **kwargs), usage=Usage(0, 0))
