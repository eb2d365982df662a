"""The SDK of litellm, imported without its side effects and called past its globals."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from copy import copy
from functools import partial
from importlib import import_module
from inspect import signature
from logging import LogRecord, getLogger
from typing import Any, Final

from kor_core.adapters import openai
from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.litellm_host import importing
from kor_core.adapters.network import Transport
from kor_core.errors import BadRequestError
from kor_core.redaction import Config

__all__ = ["SDK"]


# Whether KOR calls litellm at the moment.
_calling: Final[ContextVar[bool]] = ContextVar("kor_calling_litellm", default=False)


class _Answered(BaseException):
    """Carries an answer past litellm, which holds up every Exception but not this."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response


class SDK:
    """What is used of litellm. To be made beside the event loop: it takes seconds."""

    def __init__(self) -> None:
        with importing():
            litellm: Any = import_module("litellm")
            # Its first call would import these, and they write to the environment.
            import_module("litellm.litellm_core_utils.default_encoding")
            # Builds its pydantic schemas now, while the warnings of that are still silenced.
            litellm.ModelResponse()
            _load_headers()
        _keep_quiet()
        # litellm prints an invitation to stdout at each error, and no argument of a call
        # stops it. This is the one setting of litellm that is touched.
        litellm.suppress_debug_info = True
        self._litellm = litellm
        self._internal = _internal_call()
        self._bridge: Any = getattr(litellm.main, "responses_api_bridge_check", None)
        self._bridged_by = set(signature(self._bridge).parameters if self._bridge else ())
        self._openai = openai.SDK()
        handlers: Any = import_module("litellm.llms.custom_httpx.http_handler")
        self._connection_class: Final[Any] = _connection_class(handlers.AsyncHTTPHandler)

    def connection(self, transport: Transport, config: Config, url: str) -> Any:
        """Return what litellm is given as its ``client``, whichever vendor it calls.

        Args:
            transport: the connections.
            config: the settings of the model.
            url: the endpoint.
        """
        client = self._openai.client(transport, Config(config, base_url=url))
        client._client = _handing_over(client._client)  # noqa: SLF001  # with_options() would read the environment
        http_client = transport.client("httpx", for_tenants=config.is_tenants)
        return self._connection_class(_handing_over(http_client), client)

    async def complete(self, *, kept: Iterable[str] = (), **arguments: Any) -> Any:
        """Ask by ``acompletion``, and return the vendor's answer as it came, as httpx has it.

        Args:
            kept: names of arguments that ``drop_params`` must not leave out.
            **arguments: as ``acompletion`` takes them.

        Raises:
            Exception: whatever litellm makes of what went wrong.
        """
        self._refuse_bridged(**arguments)
        return await self._answer(
            self._litellm.acompletion,
            # With tools it looks for MCP servers to call, and needs the package mcp to look.
            _skip_mcp_handler=True,
            allowed_openai_params=self._unknown(arguments["model"], kept),
            **arguments,
        )

    async def embed(self, **arguments: Any) -> Any:
        """Ask by ``aembedding``, and return the vendor's answer as it came, as httpx has it.

        Args:
            **arguments: as ``aembedding`` takes them.

        Raises:
            Exception: whatever litellm makes of what went wrong.
        """
        return await self._answer(self._litellm.aembedding, **arguments)

    async def _answer(self, ask: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
        """Ask without litellm's callbacks, cache, budget and background logging.

        They are global to the process, and what they are given holds the key.
        """
        marks = [(mark, mark.set(True)) for mark in (self._internal, _calling)]
        try:
            opened = await ask(
                caching=False, cache={"no-cache": True, "no-store": True}, **arguments
            )
            # Gemini is asked for a stream only when that is read, which litellm does with
            # logging and a client of its own.
            if asking := getattr(opened, "make_call", None):
                await asking(client=arguments["client"])
        except _Answered as answered:
            return answered.response
        finally:
            for mark, token in marks:
                mark.reset(token)
        raise SenselessAnswerError("litellm made it up, without asking the vendor")

    def _refuse_bridged(self, model: str, **arguments: Any) -> None:
        """Refuse what litellm would ask the Responses API: by a client of its own, past ours."""
        vendor, _, bare = model.partition("/")
        prices = self._litellm.model_cost
        known: Mapping[str, Any] = prices.get(model) or prices.get(bare) or {}
        if known.get("mode") == "responses" or self._bridges(vendor, bare, arguments):
            raise BadRequestError(
                f"'{bare}' is asked so by OpenAI's Responses API alone, and litellm's way there "
                "goes past the proxy, certificates and limits of KOR. Use the provider openai, "
                "with extra = { api = 'responses' }."
            )

    def _bridges(self, vendor: str, bare: str, arguments: Mapping[str, Any]) -> bool:
        """Say whether litellm itself would go that way, by its own rule."""
        if self._bridge is None:  # releases that do not have it look at the prices alone
            return False
        body: Mapping[str, Any] = arguments.get("extra_body") or {}
        summary = body.get("reasoning_summary") or body.get("reasoningSummary")
        facts = {**arguments, "model": bare, "custom_llm_provider": vendor}
        asked = {name: facts[name] for name in self._bridged_by & facts.keys()}
        if summary and "reasoning_summary" in self._bridged_by:
            asked["reasoning_summary"] = summary
        info, _ = self._bridge(**asked)
        return bool(info.get("mode") == "responses")

    def _unknown(self, model_name: str, names: Iterable[str]) -> list[str]:
        """Return the parameters that litellm does not know at a model.

        Those that it knows it translates; allowed besides, they would be sent untranslated too.
        """
        vendor, _, model = model_name.partition("/")
        known = self._litellm.get_supported_openai_params(model, custom_llm_provider=vendor)
        return sorted(set(names).difference(known or ()))


def _load_headers() -> None:
    """Load litellm's list of Anthropic's headers, which it would fetch at the first one used."""
    try:
        manager: Any = import_module("litellm.anthropic_beta_headers_manager")
    except ModuleNotFoundError:  # releases that do not have it fetch nothing
        return
    manager._load_beta_headers_config()  # noqa: SLF001  # nothing public does but by a call


def _keep_quiet() -> None:
    """Let litellm's own handler print nothing of the calls of KOR, which warn of much.

    What the application's handlers do with litellm's records is up to the application.
    """
    for handler in getLogger("LiteLLM").handlers:
        if _is_others not in handler.filters:
            handler.addFilter(_is_others)


def _is_others(_record: LogRecord) -> bool:
    return not _calling.get()


def _handing_over(client: Any) -> Any:
    """Return an HTTP client that hands each good answer to whoever called litellm.

    What litellm itself would make of it is slow and not to be trusted: see
    :mod:`kor_core.adapters.litellm_answers`.
    """
    handing = copy(client)  # the other is shared with the other providers
    handing.send = partial(_handed_over, client.send)
    return handing


async def _handed_over(send: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    response = await send(*args, **options)
    if response.is_success:
        raise _Answered(response)
    return response


def _internal_call() -> ContextVar[bool]:
    """Return litellm's own mark for calls that are not logged."""
    try:
        mark: ContextVar[bool] = import_module("litellm._internal_context").is_internal_call
    except ModuleNotFoundError:  # releases that do not have it log every call
        return ContextVar("unused", default=False)
    return mark


def _connection_class(handler_class: Any) -> Any:
    class Connection(handler_class):  # type: ignore[misc]  # a class of litellm, known when imported
        """Serves litellm's own HTTP calls, and has what the client of openai has.

        litellm wants one or the other, by vendor, and answers the wrong one with an internal
        error. With this one it makes no client of its own, which it would keep, with the key,
        in a cache of the process.
        """

        def __init__(self, http_client: Any, openai_client: Any) -> None:
            self._http_client = http_client
            self._openai_client = openai_client
            super().__init__()  # pyright: ignore[reportUnknownMemberType]  # of Any
            self.client = http_client  # which litellm then takes for not its own to close

        def create_client(self, *_args: Any, **_kwargs: Any) -> Any:
            return self._http_client

        def post(self, *args: Any, **kwargs: Any) -> Any:
            """Send as the client of openai does, where it is called as one; its name is shared."""
            sender: Any = self._openai_client if "cast_to" in kwargs else super()
            return sender.post(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(vars(self)["_openai_client"], name)

    return Connection
