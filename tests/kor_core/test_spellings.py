"""A secret is known again in whatever spelling the other side repeats it."""

import json
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from kor_core.redaction import Config, redact
from kor_core.spellings import spellings_in_urls, spellings_of

ODD = 'pla"nted <key>\\&1'


@pytest.mark.parametrize(
    "spelled",
    [ODD, quote(ODD, safe=""), quote_plus(ODD), json.dumps(ODD), escape(ODD), repr(ODD)],
    ids=["as it is", "URL", "query", "JSON", "HTML", "repr"],
)
def test_an_escaped_secret_is_masked(spelled: str) -> None:
    told = redact(f"No: {spelled}!", spellings_of(Config(api_key=ODD)))

    assert "**********" in told
    assert "nted" not in told


GOOGLES = json.dumps({"type": "service_account", "private_key": "-----BEGIN\nplanted\n"})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"api_key": "planted"}, "planted"),
        ({"extra_headers": {"x": "Bearer planted"}}, "planted"),
        ({"extra_headers": {"x": "Basic a29yOnBsYW50ZWQ="}}, "planted"),
        ({"extra_headers": {"x": "basic a29yOnBsYW50ZWQ"}}, "kor:planted"),
        ({"extra_headers": {"cookie": "theme=dark; session=planted; x=1"}}, "planted"),
        ({"extra_headers": {"x": 'Digest user="kor", response="planted"'}}, "planted"),
        ({"vertex_credentials": GOOGLES}, "-----BEGIN planted"),
        ({"base_url": "http://kor:planted@host/v1"}, "planted"),
        ({"base_url": "http://planted@host/v1"}, "planted"),
        ({"base_url": "http://kor:plan%2Fted@host/v1"}, "plan/ted"),
        ({"base_url": "http://kor:planted@host/v1"}, "a29yOnBsYW50ZWQ="),
        ({"base_url": "http://host/v1?key=planted"}, "planted"),
        ({"nested": [{"webhook": "http://host/?code=planted-1"}]}, "planted-1"),
        ({"extra_query": {"code": "planted-1"}}, "planted-1"),
        ({"extra_query": {"sig": "planted"}}, "planted"),
        ({"extra_query": {"number": 1234567890}}, "1234567890"),
    ],
    ids=str,
)
def test_what_gives_a_secret_away_is_known_and_does_not_show(
    config: dict[str, Any], expected: str
) -> None:
    found = spellings_of(Config(config))

    assert expected in found
    assert expected not in repr(found)


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"base_url": "http://host/v1?api-version=2024-02-01"}, "2024-02-01"),
        ({"extra_query": {"region": "eu", "flag": True}}, "eu"),
        ({"base_url": "http://host:8000/v1"}, "host"),
        ({"model": "gpt-4"}, "gpt-4"),
    ],
    ids=str,
)
def test_what_is_no_secret_stays_readable(config: dict[str, Any], shown: str) -> None:
    assert shown not in spellings_of(Config(config))


@pytest.mark.parametrize(
    "broken",
    ["Basic é!", "Basic a", "{not JSON", "{" + "[" * 100_000, "http://[broken", "\ud800"],
    ids=["base64", "length", "JSON", "depth", "URL", "surrogate"],
)
def test_a_secret_of_any_shape_is_searched_for_as_it_is(broken: str) -> None:
    assert broken in spellings_of(Config(api_key=broken))


def test_urls_without_credentials_give_nothing_away() -> None:
    assert frozenset() == spellings_in_urls(["http://proxy:3128", "http://[broken"])
