"""Whatever users write as messages becomes the same few types, or is refused with the cure."""

import base64

import pytest

from kor_core.llm.messages import (
    Image,
    Message,
    Text,
    ToolCall,
    ToolResult,
    as_messages,
    assistant,
    system,
    tool_result,
    user,
)

CALL = ToolCall("c1", "add", {"a": 1})
CAT = "https://example.com/cat.jpg"


@pytest.mark.parametrize(
    "given",
    [
        "Hello!",
        user("Hello!"),
        {"role": "user", "content": "Hello!"},
        {"role": "user", "content": [{"type": "text", "text": "Hello!"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "Hello!"}]},
        {"role": "user", "content": ["Hello!"]},
        ["Hello!"],
        (user("Hello!"),),
    ],
)
def test_one_message_of_the_user_is_the_same_however_it_is_written(given):
    expected = (Message("user", (Text("Hello!"),)),)

    assert expected == as_messages(given)


def test_a_conversation_in_openais_shape_is_understood_whole():
    expected = (
        system("Be brief."),
        user("Look: ", Image(CAT, detail="low"), Image(CAT)),
        assistant("I add.", CALL),
        tool_result(CALL, "2"),
        assistant(ToolCall("c2", "now", {})),
    )

    found = as_messages(
        [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look: "},
                    {"type": "image_url", "image_url": {"url": CAT, "detail": "low"}},
                    {"type": "input_image", "image_url": CAT},
                ],
            },
            {
                "role": "assistant",
                "content": "I add.",
                "tool_calls": [
                    {"id": "c1", "function": {"name": "add", "arguments": '{"a": 1}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "2"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c2", "function": {"name": "now", "arguments": ""}}],
            },
        ]
    )

    assert expected == found


def test_calls_in_a_dict_may_be_objects_and_arguments_tables():
    call = {"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}

    (message,) = as_messages({"role": "assistant", "tool_calls": [CALL, call]})

    assert (CALL, CALL) == message.tool_calls


def test_a_message_tells_its_parts_by_kind():
    message = Message("user", (Text("a"), Image(CAT), CALL, Text("b"), ToolResult("c1", "2")))

    assert ("ab", (Image(CAT),), (CALL,), (ToolResult("c1", "2"),)) == (
        message.text,
        message.images,
        message.tool_calls,
        message.tool_results,
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [("3", "3"), (3, "3"), ({"a": [1]}, '{"a": [1]}'), (None, "null"), ({1}, '"{1}"')],
)
def test_what_a_tool_returned_is_told_as_text_or_json(content, expected):
    assert (ToolResult("c1", expected, "add"),) == tool_result(CALL, content).parts
    assert (ToolResult("c9", expected, "x", is_error=True),) == (
        tool_result("c9", content, name="x", is_error=True).parts
    )


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\x89PNG\r\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
def test_bytes_of_an_image_tell_what_they_are(data, media_type):
    image = Image(data=data)

    assert media_type == image.media_type
    assert f"data:{media_type};base64,{base64.b64encode(data).decode()}" == image.as_url()


def test_an_image_by_url_is_its_url():
    assert CAT == Image(CAT).as_url()


def test_other_bytes_need_a_word_and_do_not_show():
    image = Image(data=b"BM-a-bitmap", media_type="image/bmp")

    assert image.as_url().startswith("data:image/bmp;base64,")
    assert "bitmap" not in repr(image)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (Image, ValueError, "url or data, one of them"),
        (lambda: Image(CAT, data=b"GIF8"), ValueError, "url or data, one of them"),
        (lambda: Image(data=b"what?"), ValueError, "media_type='image/…'"),
        (lambda: Message("user", "Hello!"), TypeError, r"Write user\('…'\)"),
        (lambda: Message("bot", ()), TypeError, "not of 'bot'"),
        (lambda: user(3), TypeError, "is a text or an Image, not int"),
        (lambda: as_messages(3), TypeError, r"not int. Write user\('…'\)"),
        (lambda: as_messages([3]), TypeError, "not int"),
        (lambda: as_messages([]), ValueError, "There is no message"),
        (lambda: as_messages({"role": "uesr"}), ValueError, "No role 'uesr'.*Did you mean 'user'"),
        (lambda: as_messages({}), ValueError, "lacks 'role'.*Write {'role': 'user'"),
        (lambda: as_messages({"role": "user", "contents": "Hi"}), ValueError, "It has contents, "),
        (lambda: as_messages({"role": "user", "content": None}), ValueError, "lacks 'content'. W"),
        (lambda: as_messages({"role": "developer"}), ValueError, "Write {'role': 'developer', 'c"),
        (lambda: as_messages({"role": "assistant"}), ValueError, "lacks 'content'"),
        (lambda: as_messages({"role": "tool", "tool_call_id": "c1"}), ValueError, "has tool_call_"),
        (lambda: as_messages({"role": ""}), ValueError, "No role ''"),
        (lambda: as_messages({"role": "user", "content": 3}), TypeError, "text or a list, not 3"),
        (lambda: as_messages(of({"type": "x"})), ValueError, "Parts: text, image_url"),
        (lambda: as_messages(of(3)), ValueError, "No part of a message: 3"),
        (lambda: as_messages(of({"type": "text"})), ValueError, "lacks the text 'text'"),
        (lambda: as_messages(of({"type": "image_url"})), ValueError, "lacks the text 'url'"),
        (lambda: as_messages(calling({})), ValueError, "lacks the text 'name'"),
        (lambda: as_messages(calling({"function": 3})), ValueError, "lacks the text 'name'"),
        (lambda: as_messages(calling(asking("{"))), ValueError, "'add' are no JSON object"),
        (lambda: as_messages(calling(asking("[1]"))), ValueError, "'add' are no JSON object"),
        (lambda: as_messages(calling(asking([1]))), ValueError, "'add' are no JSON object"),
    ],
)
def test_what_is_no_message_is_refused_with_the_cure(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


def test_a_model_may_have_said_nothing():
    """What an SDK dumps of an answer that was declined is taken back as it is."""
    declined = {"role": "assistant", "content": None, "refusal": "No.", "tool_calls": None}

    assert (Message("assistant", ()),) == as_messages(declined)


def of(part):
    return {"role": "user", "content": [part]}


def calling(call):
    return {"role": "assistant", "tool_calls": [call]}


def asking(arguments):
    return {"id": "c1", "function": {"name": "add", "arguments": arguments}}
