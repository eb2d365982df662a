"""The SDK of litellm, imported without its side effects and called past its globals."""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Final

from kor_core.adapters import openai
from kor_core.adapters.litellm_host import importing
from kor_core.adapters.network import Transport

__all__ = ["SDK"]


class SDK:
    """What is used of litellm. To be made beside the event loop: it takes seconds."""

    def __init__(self) -> None:
        with importing():
            litellm: Any = import_module("litellm")
            # Its first call would import these, and they write to the environment.
            import_module("litellm.litellm_core_utils.default_encoding")
            # Builds its pydantic schemas now, while the warnings of that are still silenced.
            litellm.ModelResponse()
        # litellm prints an invitation to stdout at each error, and no argument of a call
        # stops it. This is the one global of litellm that is touched.
        litellm.suppress_debug_info = True
        self._litellm = litellm
        self._internal = _internal_call()
        self._openai = openai.SDK()
        handlers: Any = import_module("litellm.llms.custom_httpx.http_handler")
        self._connection_class: Final[Any] = _connection_class(handlers.AsyncHTTPHandler)

    def connection(self, transport: Transport, config: Mapping[str, Any], url: str) -> Any:
        """Return what litellm is given as its ``client``, whichever vendor it calls.

        Args:
            transport: the connections.
            config: the settings of the model.
            url: the endpoint.
        """
        endpoint = {**config, "base_url": url}
        return self._connection_class(
            transport.client("httpx"), self._openai.client(transport, endpoint)
        )

    async def complete(self, *, kept: Iterable[str] = (), **arguments: Any) -> Any:
        """Call ``acompletion`` without its callbacks, cache, budget and background logging.

        They are global to the process, and what they are given holds the key.

        Args:
            kept: names of arguments that ``drop_params`` must not leave out.
            **arguments: as ``acompletion`` takes them.
        """
        token = self._internal.set(True)
        try:
            return await self._litellm.acompletion(
                caching=False,
                cache={"no-cache": True, "no-store": True},
                # With tools it looks for MCP servers to call, and needs the package mcp to look.
                _skip_mcp_handler=True,
                allowed_openai_params=self._unknown(arguments["model"], kept),
                **arguments,
            )
        finally:
            self._internal.reset(token)

    def _unknown(self, model_name: str, names: Iterable[str]) -> list[str]:
        """Return the parameters that litellm does not know at a model.

        Those that it knows it translates; allowed besides, they would be sent untranslated too.
        """
        vendor, _, model = model_name.partition("/")
        known = self._litellm.get_supported_openai_params(model, custom_llm_provider=vendor)
        return sorted(set(names).difference(known or ()))


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
