"""Secrets do not show in any repr, at any depth, and do not pickle; values stay plain."""

import copy
import json
import pickle
import traceback

import pytest

from kor_core.redaction import (
    MASK,
    Config,
    Secret,
    guarded_url,
    is_secret_name,
    masked_url,
    redact,
    secrets_in,
)

PLANTED = "sk-planted-0123456789"


def test_a_secret_is_its_text_everywhere_but_in_its_repr():
    secret = Secret(PLANTED)

    assert secret == PLANTED
    assert f"Bearer {secret}" == f"Bearer {PLANTED}"
    assert json.dumps(secret) == json.dumps(PLANTED)
    assert repr(secret) == repr(MASK)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_secret_is_still_masked(copier):
    assert PLANTED not in repr(copier(Secret(PLANTED)))


def test_a_secret_refuses_to_be_pickled():
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Config(api_key=PLANTED))


@pytest.mark.parametrize(
    "config",
    [
        Config(api_key=PLANTED),
        Config({"extra_headers": {"X-Anything": PLANTED}}),
        Config({"nested": {"deep": [{"aws_secret_access_key": PLANTED}]}}),
        Config({"tokens": [PLANTED, {"a": PLANTED}]}),
        Config({"x": ({"password": PLANTED},)}),
        *(
            Config({name: PLANTED})
            for name in ("accessToken", "APIKey", "x-sig", "jwt", "api_key2", "myapikey")
        ),
        Config(extra_query={"code": PLANTED}),
        Config(hook=f"https://user:{PLANTED}@host/path"),
        Config(hooks=[{"to": f"https://host/path?region=eu&token={PLANTED}"}]),
    ],
)
def test_a_config_masks_secrets_by_name_at_any_depth(config):
    assert PLANTED not in repr(config)
    assert PLANTED not in repr(dict(config))
    assert PLANTED in json.dumps(config)


@pytest.mark.parametrize(
    "name",
    [
        *("myapikey", "MYAPIKEY", "accesskey", "awssecretkey2", "azureclientsecret"),
        *("dbpassword", "hfaccesstoken", "sshprivatekey", "extra_query"),
    ],
)
def test_names_of_keys_need_no_separator(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["monkey", "turkey", "max_tokens", "keyboard", "query", "tokenizer", "passwordless"],
)
def test_names_that_only_resemble_those_of_keys_are_plain(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "text", ["https://host/path?region=eu", "http://[::1", "HTTP://Host", "see x://", "a@b"]
)
def test_a_url_without_credentials_stays_as_it_is(text):
    assert repr(text) == repr(guarded_url(text))


def test_a_url_with_credentials_is_its_text_and_shows_the_rest():
    url = f"https://{PLANTED}@host/path?region=eu"

    assert url == guarded_url(url)
    assert repr(masked_url(url)) == repr(guarded_url(url))
    assert "@host/path?region=eu" in masked_url(url)


def test_a_key_put_in_later_is_masked_too():
    config = Config()

    config["api_key"] = PLANTED

    assert PLANTED not in repr(config)
    assert PLANTED == config["api_key"]


def test_what_is_no_secret_shows_and_keeps_its_type():
    config = Config(max_tokens=3, temperature=0.5, auth=True)

    assert {"max_tokens": 3, "temperature": 0.5, "auth": True} == config
    assert "0.5" in repr(config)


def test_a_traceback_with_locals_of_code_that_took_the_key_shows_no_secret():
    def custom_model(config):
        key = config["api_key"]
        raise ValueError(len(key))

    try:
        custom_model(Config(api_key=PLANTED))
    except ValueError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)

    assert MASK in "".join(shown.format())
    assert PLANTED not in "".join(shown.format())


def test_redact_replaces_every_occurrence_and_longer_secrets_first():
    text = f"key {PLANTED} and {PLANTED}-tail"

    assert f"key {MASK} and {MASK}" == redact(text, [PLANTED, f"{PLANTED}-tail"])


def test_redact_leaves_text_alone_where_a_secret_is_too_short_to_search_for():
    assert "banana" == redact("banana", ["a", ""])


def test_every_secret_of_a_config_can_be_listed_at_any_depth():
    config = Config({"api_key": "one", "deep": [{"token": "two"}, ("x", {"password": "three"})]})

    assert ["one", "two", "three"] == [str(secret) for secret in secrets_in(config)]
