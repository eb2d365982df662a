"""Writes requests as arguments of litellm, so that it asks the vendor and nobody else."""

from collections.abc import Mapping
from typing import Any, Final

from kor_core.adapters import chat_format
from kor_core.adapters.litellm_settings import GENERATION, RESERVED
from kor_core.adapters.parameters import given
from kor_core.errors import BadRequestError
from kor_core.llm.request import ChatRequest
from kor_core.llm.tools import Tool
from kor_core.suggestions import did_you_mean, listed

__all__ = ["embedding_settings", "question", "settings_of"]

_Json = dict[str, Any]


def question(form: str, request: ChatRequest) -> _Json:
    """Return what a request asks, apart from its settings.

    Args:
        form: whose wire format it will be in.
        request: what is asked.

    Raises:
        BadRequestError: litellm would download one of the images, past the proxy, the
            certificates and the block on real calls of KOR.
    """
    _refuse_downloads(form, request)
    asked = chat_format.question(request)
    return {**_tools_that_were_called(request), **asked} if form == "anthropic" else asked


# How links to images must begin that litellm passes on; in OpenAI's format it passes on all.
_PASSED_ON: Final = {"anthropic": ("data:", "https:"), "gemini": ("data:",)}


def _refuse_downloads(form: str, request: ChatRequest) -> None:
    schemes = _PASSED_ON.get(form, ("",))
    for image in (image for message in request.messages for image in message.images):
        if image.url and not image.url.lower().startswith(schemes):
            raise BadRequestError(
                f"The image '{image.url:.80}' cannot be sent by its link: the API fetches none, "
                "and KOR downloads nothing. Give its bytes: Image(data=…)."
            )


def _tools_that_were_called(request: ChatRequest) -> _Json:
    """Name the tools again that were called before; Anthropic wants them with their calls."""
    names = {call.name for message in request.messages for call in message.tool_calls}
    if not names or request.tools:
        return {}
    tools = [Tool(name) for name in sorted(names)]
    return {"tools": chat_format.tool_list(tools), "tool_choice": "none"}


def settings_of(form: str, settings: Mapping[str, Any], extra: Mapping[str, Any]) -> _Json:
    """Return the settings of one call over those configured.

    Args:
        form: whose wire format they will be in.
        settings: those that are configured.
        extra: of the call. What litellm does not know goes into the body of the request.

    Raises:
        BadRequestError: one is not for a call, or cannot be sent.

    >>> settings_of("openai", {"seed": 1}, {"top_k": 4, "mirostat": 2})
    {'seed': 1, 'top_k': 4, 'extra_body': {'mirostat': 2}}
    """
    written = _layered(settings, extra, GENERATION)
    if form == "anthropic":
        written |= _anthropics(written.pop("extra_body", {}))
    return written


# litellm sends Anthropic no other fields as they are: an extra_body would be a field itself.
_ANTHROPICS: Final = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "output_config",
    }
)


def _anthropics(body: _Json) -> _Json:
    for name in body.keys() - _ANTHROPICS:
        raise BadRequestError(
            f"litellm does not send Anthropic a field '{name}'.{did_you_mean(name, _ANTHROPICS)} "
            f"Fields: {listed(_ANTHROPICS)}."
        )
    return body


def embedding_settings(settings: Mapping[str, Any], extra: Mapping[str, Any]) -> _Json:
    """Return the settings of one call for embeddings, over those configured.

    Args:
        settings: those that are configured; those for answers are left out.
        extra: of the call.

    Raises:
        BadRequestError: one is not for a call.

    >>> embedding_settings({"temperature": 1, "user": "a"}, {"dimensions": 8})
    {'user': 'a', 'dimensions': 8}
    """
    chosen = {n: v for n, v in settings.items() if n not in GENERATION - _OF_EMBEDDINGS}
    return _layered(chosen, extra, _OF_EMBEDDINGS)


_OF_EMBEDDINGS: Final = frozenset({"dimensions", "encoding_format", "user"})


def _layered(settings: Mapping[str, Any], extra: Mapping[str, Any], known: frozenset[str]) -> _Json:
    for name in sorted(RESERVED & extra.keys()):
        raise BadRequestError(f"'{name}' is not for a call to decide. Take it out of extra.")
    extra = given(extra)
    body = {name: value for name, value in extra.items() if name not in known}
    written = {**settings, **{name: value for name, value in extra.items() if name in known}}
    if body:
        written["extra_body"] = {**settings.get("extra_body", {}), **body}
    return written
