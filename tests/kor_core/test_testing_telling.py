"""A slip in what is told to an upstream is refused at once, with the nearest thing that works."""

import re
from http import HTTPStatus

import httpx
import pytest

from kor_core.testing import ALWAYS, Reply, Upstream, faults
from kor_core.testing.faults import Status


async def late(_):
    """An async function, which the upstream's thread cannot run."""


@pytest.fixture
def upstream():
    # Not open: what is told is checked before anything is served.
    return Upstream()


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        ("429", TypeError, "A status is a number, not '429'. Did you mean 429?"),
        ("rate limit", TypeError, "not 'rate limit'. Give a number from 300 to 599"),
        (True, TypeError, "A status is a number, not True."),
        (200, ValueError, "200 is the status of a success. Tell a success with reply()"),
        (42, ValueError, "No failure has the status 42. Give a number from 300 to 599"),
        (600, ValueError, "No failure has the status 600."),
    ],
)
def test_what_is_no_status_of_a_failure_is_refused(upstream, status, kind, message) -> None:
    for tell in (upstream.fail, Status):
        with pytest.raises(kind, match=re.escape(message)):
            tell(status)

    assert upstream.unplayed == 0


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (3, "not an object of int. Did you mean '3'?"),
        (429, "not an object of int. Did you mean fail(429)?"),
        (None, "not an object of NoneType."),
        ({"text": "Hi!"}, "texts, Reply objects, functions of the request and faults, not an"),
        (TimeoutError("late"), "not an object of TimeoutError."),
        (Status, "not the class Status. Did you mean an object of it, Status()?"),
        (Reply, "not the class Reply. Did you mean an object of it, Reply()?"),
        (TimeoutError, "not the class TimeoutError."),
        (late, "not an object of function. The function cannot be async"),
    ],
)
def test_what_can_be_neither_answered_nor_played_is_refused(upstream, act, message) -> None:
    for tell in (upstream.reply, upstream.play):
        with pytest.raises(TypeError, match=re.escape(message)):
            tell("told before it", act)

    assert upstream.unplayed == 0


@pytest.mark.parametrize("text", ["Hang", "hang", "Hang()"])
def test_the_name_of_a_fault_is_not_played_as_a_text(upstream, text) -> None:
    with pytest.raises(ValueError, match=r"Did you mean the fault Hang\(\) from kor_core"):
        upstream.play(text)

    assert upstream.unplayed == 0
    assert upstream.reply(text).unplayed == 1


@pytest.mark.parametrize(
    ("when", "kind", "message"),
    [
        ({"times": 0}, ValueError, "With times=0 it would never be played. Give 1 or more, or ALW"),
        ({"times": -1}, ValueError, "With times=-1 it would never be played."),
        ({"times": "always"}, TypeError, "times is a number, 1 or more, or ALWAYS"),
        ({"times": True}, TypeError, "not True."),
        ({"at": 0}, ValueError, "With at=0 it would never be played. Give 1 or more."),
        ({"api": "openia"}, ValueError, "Did you mean 'openai'?"),
        ({"api": "openai.chats"}, ValueError, "Did you mean 'openai.chat'?"),
        ({"api": 1}, TypeError, "api is a text, not an object of int."),
        ({"model": Reply}, TypeError, "model is a text, not the class Reply."),
        ({"path": "v1"}, ValueError, "No path begins with 'v1'. Did you mean '/v1'?"),
        ({"where": "gpt-4"}, TypeError, "where is a function of the request, not an object of"),
        ({"tims": 2}, TypeError, "takes no 'tims'. It takes: "),
        ({"tims": 2}, TypeError, "Did you mean 'times'?"),
    ],
)
def test_a_condition_that_is_unknown_or_never_holds_is_refused(
    upstream, when, kind, message
) -> None:
    tellings = (
        lambda: upstream.reply("Hi!", **when),
        lambda: upstream.play(faults.Hang(), **when),
        lambda: upstream.fail(429, **when),
        lambda: upstream.embed([1.0], **when),
        lambda: upstream.call_tool("weather", {}, **when),
    )
    for tell in tellings:
        with pytest.raises(kind, match=re.escape(message)):
            tell()

    assert upstream.unplayed == 0


def test_an_argument_of_fail_is_the_nearest_name_to_its_misspelling(upstream) -> None:
    with pytest.raises(TypeError, match=r"fail\(\) takes no 'retry_afer'.* 'retry_after'\?"):
        upstream.fail(429, retry_afer=1)


def test_models_are_a_list_and_not_the_letters_of_one_name() -> None:
    with pytest.raises(TypeError, match=re.escape("models=['gpt-4']")):
        Upstream(models="gpt-4")


def test_whatever_can_hold_is_taken() -> None:
    with Upstream() as upstream:
        upstream.fail(HTTPStatus.TOO_MANY_REQUESTS, api="none", path="/", at=1)
        upstream.reply(
            lambda _: "Hi!", times=ALWAYS, at=None, model="m", api="openai", where=lambda _: True
        )

        missing = httpx.get(f"{upstream.url}/nowhere")

    assert missing.status_code == 429
