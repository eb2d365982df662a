"""Messages of a conversation, and the parts they are made of.

Wherever messages are asked for, a plain text (one user message), a message, a dict in OpenAI's
shape, or a list of these will do.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from kor_core.redaction import is_table
from kor_core.suggestions import did_you_mean, listed

__all__ = [
    "Image",
    "Message",
    "Messages",
    "Part",
    "Role",
    "Text",
    "ToolCall",
    "ToolResult",
    "as_messages",
    "assistant",
    "system",
    "tool_result",
    "user",
]

Role = Literal["system", "user", "assistant", "tool"]

# OpenAI's newer name for what all others call the system prompt.
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


_SPEAKERS: Final = frozenset(_ROLES.values())


@dataclass(frozen=True, slots=True)
class Text:
    """A text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    r"""An image by URL, or by its bytes.

    Args:
        url: where it is, ``https://…`` or ``data:…``; empty where ``data`` is given.
        data: the bytes of the file.
        media_type: what ``data`` is, such as ``image/png``; by default told from the bytes.
        detail: how closely to look, where the provider knows that: ``low``, ``high``, ``auto``.

    >>> Image(data=b"\x89PNG\r\n").media_type
    'image/png'
    >>> Image("https://example.com/cat.jpg").as_url()
    'https://example.com/cat.jpg'
    """

    url: str = ""
    data: bytes = field(default=b"", repr=False)
    media_type: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.data):
            raise ValueError("An image has a url or data, one of them: Image('https://…').")
        if self.data and not self.media_type:
            object.__setattr__(self, "media_type", _media_type(self.data))

    def as_url(self) -> str:
        """Return its URL, which holds the bytes themselves where there is no other."""
        if self.url:
            return self.url
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


# https://www.iana.org/assignments/media-types: how files of these types begin.
_MAGIC: Final = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


def _media_type(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for beginning, name in _MAGIC:
        if data.startswith(beginning):
            return name
    raise ValueError("The bytes are no PNG, JPEG, GIF or WebP image. Say so: media_type='image/…'.")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants to be called.

    Args:
        id: which call it is, for the result to name.
        name: the name of the tool.
        arguments: by name.
    """

    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def arguments_text(self) -> str:
        """The arguments as JSON, which is how providers send and take them."""
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned.

    Args:
        id: of the call it answers.
        content: what it returned, as text.
        name: the name of the tool, which some providers want.
        is_error: whether the tool failed, and ``content`` says how.
    """

    id: str
    content: str
    name: str = ""
    is_error: bool = False


Part = Text | Image | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        role: who speaks.
        parts: what is said, in order.

    >>> user("What is this?", Image("https://example.com/cat.jpg")).text
    'What is this?'
    """

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        # Users pass anything: a text in place of the parts would be as many parts as letters.
        if type(self.parts) is not tuple or self.role not in _SPEAKERS:
            raise TypeError(
                f"A message is made of a role and a tuple of parts, not of {self.role!r:.40} and "
                f"{self.parts!r:.40}. Write user('…'), system('…') or assistant('…')."
            )

    @property
    def text(self) -> str:
        """Its texts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def images(self) -> tuple[Image, ...]:
        """Its images."""
        return tuple(part for part in self.parts if isinstance(part, Image))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Its tool calls."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """Its results of tools."""
        return tuple(part for part in self.parts if isinstance(part, ToolResult))


Messages = str | Message | Mapping[str, Any] | Sequence[str | Message | Mapping[str, Any]]


def system(text: str) -> Message:
    """Return the message that tells a model how to behave.

    >>> system("Answer in French.").role
    'system'
    """
    return Message("system", (Text(text),))


def user(*parts: str | Text | Image) -> Message:
    """Return a message of the user: texts and images."""
    return Message("user", tuple(_part(part) for part in parts))


def assistant(*parts: str | Text | ToolCall) -> Message:
    """Return a message of the model: texts and tool calls."""
    return Message("assistant", tuple(_part(part) for part in parts))


def tool_result(
    call: ToolCall | str, content: object, *, name: str = "", is_error: bool = False
) -> Message:
    """Return the message that tells a model what a tool returned.

    Args:
        call: the call that it answers, or the id of it.
        content: what the tool returned; what is no text is sent as JSON.
        name: the name of the tool, where ``call`` is an id.
        is_error: whether the tool failed, and ``content`` says how.

    >>> tool_result(ToolCall("c1", "add", {"a": 1, "b": 2}), 3).parts
    (ToolResult(id='c1', content='3', name='add', is_error=False),)
    """
    if isinstance(call, ToolCall):
        return tool_result(call.id, content, name=call.name, is_error=is_error)
    return Message("tool", (ToolResult(call, _worded(content), name, is_error),))


def _worded(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content, default=str)


def _part(part: str | Part) -> Part:
    if isinstance(part, str):
        return Text(part)
    if isinstance(part, Text | Image | ToolCall | ToolResult):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass anything
        return part
    raise TypeError(f"A part of a message is a text or an Image, not {type(part).__name__}.")


# --- what is accepted in place of messages --------------------------------------------------


def as_messages(given: Messages) -> tuple[Message, ...]:
    """Return messages for whatever was given as such.

    Args:
        given: a text, a message, a dict in OpenAI's shape, or a list of these.

    Raises:
        TypeError: it is something else.
        ValueError: there is no message, or a dict is not in that shape.

    >>> as_messages("Hello!")
    (Message(role='user', parts=(Text(text='Hello!'),)),)
    >>> as_messages([{"role": "system", "content": "Be brief."}, "Hello!"])[0].role
    'system'
    """
    if isinstance(given, str | Message | Mapping):
        return (_as_message(given),)
    if not isinstance(given, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass anything
        raise _strange(given)
    if not given:
        raise ValueError("There is no message. Give at least one: 'Hello!'.")
    return tuple(_as_message(each) for each in given)


def _as_message(given: object) -> Message:
    if isinstance(given, Message):
        return given
    if isinstance(given, str):
        return user(given)
    if isinstance(given, Mapping):
        return _from_dict(cast("Mapping[str, Any]", given))
    raise _strange(given)


def _strange(given: object) -> TypeError:
    return TypeError(
        f"A message is a text, a Message or a dict, not {type(given).__name__}. "
        "Write user('…'), system('…') or {'role': 'user', 'content': '…'}."
    )


def _from_dict(given: Mapping[str, Any]) -> Message:
    if "role" not in given:
        raise ValueError(
            f"A message's dict lacks 'role'. Roles: {listed(_ROLES)}. Write "
            "{'role': 'user', 'content': '…'}."
        )
    role = _ROLES.get(name := str(given.get("role", "")))
    if role is None:
        known = listed(_ROLES)
        raise ValueError(f"No role '{name}'. Roles: {known}.{did_you_mean(name, _ROLES)}")
    _refuse_empty(given, role)
    content = given.get("content")
    if role == "tool":
        return tool_result(
            str(given.get("tool_call_id", "")), _joined(content), name=str(given.get("name", ""))
        )
    calls = tuple(_call_from(call) for call in given.get("tool_calls") or ())
    return Message(role, (*_parts_from(content), *calls))


def _refuse_empty(given: Mapping[str, Any], role: str) -> None:
    """Refuse a dict that says nothing, as a misspelt key leaves it: it would be paid for."""
    if role in {"system", "user"}:
        lacking = given.get("content") is None
    else:
        lacking = "content" not in given and (role == "tool" or "tool_calls" not in given)
    if lacking:
        others = [str(name) for name in given if name not in {"role", "content"}]
        beside = f" It has {listed(others)}, which says nothing." if others else ""
        raise ValueError(
            f"The message of role '{given['role']}' lacks 'content'.{beside} "
            f"Write {{'role': '{given['role']}', 'content': '…'}}."
        )


def _joined(content: object) -> str:
    return "".join(part.text for part in _parts_from(content) if isinstance(part, Text))


def _parts_from(content: object) -> Iterator[Part]:
    if content is None:
        return
    if isinstance(content, str):
        yield Text(content)
        return
    if not isinstance(content, Sequence):
        raise TypeError(f"The content of a message is a text or a list, not {content!r:.40}.")
    for part in content:  # pyright: ignore[reportUnknownVariableType]  # users pass anything
        yield _part_from(part)


def _part_from(part: Any) -> Part:
    if isinstance(part, str | Text | Image | ToolCall | ToolResult):
        return _part(part)
    kind: Any = part.get("type") if is_table(part) else None
    if kind in {"text", "input_text", "output_text"}:
        return Text(_text_at(part, "text"))
    if kind in {"image_url", "input_image"}:
        image: Any = part.get("image_url")
        if isinstance(image, str):
            return Image(image)
        return Image(_text_at(image, "url"), detail=image.get("detail", ""))
    raise ValueError(f"No part of a message: {part!r:.60}. Parts: text, image_url.")


def _call_from(call: Mapping[str, Any] | ToolCall) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    function = call.get("function")
    name = _text_at(function, "name")
    arguments = cast("Mapping[str, Any]", function).get("arguments") or "{}"
    table = _loaded(arguments) if isinstance(arguments, str) else arguments
    if not is_table(table):
        raise ValueError(f"The arguments of the call of '{name}' are no JSON object.")
    return ToolCall(str(call.get("id", "")), name, dict(table))


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text_at(table: Any, name: str) -> str:
    found: Any = table.get(name) if is_table(table) else None
    if not isinstance(found, str):
        what = f"{table!r:.60}"
        raise ValueError(f"A part of a message lacks the text '{name}': {what}.")  # noqa: TRY004  # of the dict's shape, not a Python type
    return found
