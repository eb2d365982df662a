"""The table of profiles: litellm's own file, read without litellm, and never a cause of failure."""

import json
import subprocess
import sys
import threading
import time
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kor_core.adapters.litellm_vendors import qualified
from kor_core.adapters.model_map import ModelMap, bundled_map, bundled_profiles
from kor_core.adapters.vendors import COMPATIBLE
from kor_core.llm.profile import UNKNOWN, ModelProfile, PriceTier
from kor_core.llm.response import Usage

needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)


@pytest.fixture
def table(tmp_path: Path):
    """Return a function that makes a table of entries."""

    def make(entries: Any) -> ModelMap:
        file = tmp_path / "map.json"
        file.write_text(json.dumps(entries), encoding="utf-8")
        return ModelMap(file)

    return make


def entry(**values: Any) -> dict[str, Any]:
    return {"litellm_provider": "openai", "mode": "chat", **values}


# --- the real file ---


@needs_litellm
def test_openais_models_are_known_as_openai_prints_them() -> None:
    profile = bundled_profiles()("openai", "gpt-4.1")

    prices = (profile.input_price, profile.output_price, profile.cached_input_price)
    assert (Decimal(2), Decimal(8), Decimal("0.5")) == prices
    assert (1047576, 32768) == (profile.context_window, profile.max_output)
    assert profile.capabilities >= {"chat", "tools", "vision", "json_schema", "streaming"}
    assert profile.supports("embeddings") is False
    assert profile.supports("video") is None
    assert Decimal("0.0028") == profile.cost(Usage(1000, 100))


@needs_litellm
@pytest.mark.parametrize(
    ("provider", "model", "same"),
    [
        ("openai", "gpt-4.1-2025-04-14", ("openai", "gpt-4.1")),
        ("litellm", "gpt-4.1", ("openai", "gpt-4.1")),
        ("litellm", "openai/gpt-4.1", ("openai", "gpt-4.1")),
        ("litellm", "claude-opus-4-5", ("litellm", "anthropic/claude-opus-4-5")),
        ("litellm", "gemini-2.5-pro", ("gemini", "gemini-2.5-pro")),
        ("litellm", "ollama/llama3:8b", ("ollama", "llama3:8b")),
        ("litellm", "ollama_chat/llama3:8b", ("ollama", "llama3:8b")),
    ],
)
def test_a_model_is_the_same_by_each_of_its_names(
    provider: str, model: str, same: tuple[str, str]
) -> None:
    profile = bundled_profiles()(provider, model)

    assert profile != UNKNOWN
    assert bundled_profiles()(*same) == profile


@needs_litellm
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("openai", "claude-opus-4-5"),
        ("openai", "sample_spec"),
        ("openai", ""),
        ("litellm", ""),
        ("litellm", "anthropic/gpt-4.1"),
        ("vllm", "gpt-4.1"),
        ("my-own", "gpt-4.1"),
    ],
)
def test_of_other_models_nothing_is_known(provider: str, model: str) -> None:
    assert UNKNOWN == bundled_profiles()(provider, model)


@needs_litellm
def test_a_model_for_embeddings_embeds_and_does_not_chat() -> None:
    profile = bundled_profiles()("openai", "text-embedding-3-small")

    answers = [profile.supports(name) for name in ("embeddings", "chat", "tools", "streaming")]
    assert [True, False, False, False] == answers
    assert Decimal("0.00002") == profile.cost(Usage(1000, 0))


@needs_litellm
def test_no_price_in_the_whole_map_is_zero_but_that_of_embeddings_answers() -> None:
    path = bundled_map()
    assert path is not None
    names = json.loads(path.read_bytes())
    found = {name: bundled_profiles()("litellm", name) for name in names}

    known = [profile for profile in found.values() if profile.supports("chat")]
    prices = [price for each in known for price in (each.input_price, each.output_price)]

    assert len(known) > 1000
    assert min(price for price in prices if price is not None) > 0


@needs_litellm
@pytest.mark.parametrize("row", COMPATIBLE.values(), ids=lambda row: row.id)
def test_a_vendors_name_in_the_table_is_litellms(row) -> None:
    """A misspelt one would leave all its models unknown without a word."""
    path = bundled_map()
    assert path is not None
    owners = {each.get("litellm_provider") for each in json.loads(path.read_bytes()).values()}

    # Of these litellm lists no model at present; the names are those of its documentation.
    assert row.table in {*owners, "", "openrouter"}


@needs_litellm
def test_neither_litellm_nor_the_file_is_touched_before_a_question() -> None:
    code = (
        "import json, sys\n"
        "def refuse(*a, **k): raise AssertionError('read')\n"
        "read, json.loads = json.loads, refuse\n"
        "import kor_core, kor_containers\n"
        "from kor_containers import create_kernel\n"
        "kernel = create_kernel({'llm': {'default': {'model': 'echo:any'}}})\n"
        "kernel.model_selector.get_model()\n"
        "json.loads = read\n"
        "assert kernel.llm_registry.profile('openai:gpt-4.1').context_window\n"
        "print([name for name in ('litellm', 'openai', 'httpx') if name in sys.modules])\n"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (0, "[]\n", "") == (ran.returncode, ran.stdout, ran.stderr)


def test_the_table_is_one_for_the_whole_process() -> None:
    assert bundled_profiles() is bundled_profiles()


# --- what is made of an entry ---


def test_flags_say_yes_and_no_and_their_absence_says_nothing(table) -> None:
    told = table({"m": entry(supports_vision=False, supports_function_calling=True)})

    profile = told("openai", "m")

    expected = [True, False, None]
    assert expected == [profile.supports(name) for name in ("tools", "vision", "reasoning")]


@pytest.mark.parametrize(
    ("mode", "chats", "embeds"),
    [
        ("chat", True, False),
        ("responses", True, False),
        ("embedding", False, True),
        ("image_generation", False, False),
        ("completion", None, None),
        (None, None, None),
    ],
)
def test_the_mode_says_whether_a_model_chats_or_embeds(table, mode, chats, embeds) -> None:
    profile = table({"m": entry(mode=mode, supports_function_calling=True)})("openai", "m")

    assert (chats, embeds) == (profile.supports("chat"), profile.supports("embeddings"))
    assert (chats is not False) is profile.supports("tools")


@pytest.mark.parametrize("price", [0, 0.0, -1, None, "0.1", True, [], float("nan"), float("inf")])
def test_a_price_that_is_none_is_unknown(table, price) -> None:
    told = table({"m": entry(input_cost_per_token=price, max_input_tokens=price)})

    profile = told("openai", "m")

    assert (None, None) == (profile.input_price, profile.context_window)


def test_prices_are_exact_per_million_tokens(table) -> None:
    told = table({"m": entry(input_cost_per_token=1.5e-07, output_cost_per_token=1e-05)})

    profile = told("openai", "m")

    assert ("0.15", "10") == (str(profile.input_price), str(profile.output_price))


def test_prices_of_long_requests_are_tiers_in_order(table) -> None:
    told = table(
        {
            "m": entry(
                input_cost_per_token=1e-06,
                input_cost_per_token_above_272k_tokens=3e-06,
                input_cost_per_token_above_128k_tokens=2e-06,
                output_cost_per_token_above_128k_tokens=4e-06,
                input_cost_per_token_above_128k_tokens_priority=9e-06,
            )
        }
    )

    expected = (
        PriceTier(128_000, Decimal(2), Decimal(4)),
        PriceTier(272_000, Decimal(3)),
    )
    assert expected == told("openai", "m").tiers


def test_an_embeddings_price_is_unknown_where_the_map_has_none(table) -> None:
    profile = table({"m": entry(mode="embedding", output_cost_per_token=0)})("openai", "m")

    assert (None, None) == (profile.input_price, profile.output_price)


def test_an_entry_without_vendor_counts_where_the_name_says_whose_it_is(table) -> None:
    told = table(
        {
            "plain": entry(litellm_provider="vertex_ai-anthropic_models", max_input_tokens=1),
            "vertex_ai/full": entry(litellm_provider="whatever", max_input_tokens=2),
        }
    )

    names = ("vertex_ai/plain", "vertex_ai/full", "plain", "anthropic/plain", "vertex/plain")
    found = [told("litellm", name).context_window for name in names]
    assert [1, 2, 1, None, None] == found


def test_a_fine_tuned_model_is_known_by_its_base(table) -> None:
    told = table(
        {
            "ft:gpt-x": entry(input_cost_per_token=3e-06),
            "gpt-y": entry(
                input_cost_per_token=2e-06, max_input_tokens=7, supports_function_calling=True
            ),
        }
    )

    assert Decimal(3) == told("openai", "ft:gpt-x:acme::1").input_price
    assert Decimal(3) == told("litellm", "ft:gpt-x:acme:name:1").input_price
    tuned = told("openai", "ft:gpt-y:acme::1")
    assert (7, True, None) == (tuned.context_window, tuned.supports("tools"), tuned.input_price)
    assert UNKNOWN == told("openai", "ft:gpt-z:acme::1") == told("groq", "ft:gpt-y:acme::1")


# --- a file that is none ---


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"gpt-4.1": []}', b"[" * 100_000],
    ids=["empty", "cut", "list", "null", "binary", "entry", "deep"],
)
def test_a_broken_file_leaves_everything_unknown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "map.json"
    file.write_bytes(content)

    assert UNKNOWN == ModelMap(file)("openai", "gpt-4.1")


def test_a_missing_file_leaves_everything_unknown(tmp_path: Path) -> None:
    assert UNKNOWN == ModelMap(None)("openai", "gpt-4.1")
    assert UNKNOWN == ModelMap(tmp_path / "none.json")("openai", "gpt-4.1")


def test_without_litellm_there_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kor_core.adapters.model_map.find_spec", lambda _: None)

    assert bundled_map() is None


def test_a_stub_of_litellm_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of users put modules there that no import system made."""
    monkeypatch.setitem(sys.modules, "litellm", ModuleType("litellm"))

    assert bundled_map() is None


def test_many_threads_read_the_file_once() -> None:
    content = json.dumps({"m": entry(max_input_tokens=5)}).encode()
    reads: list[bytes] = []

    class Slow(type(Path())):
        def read_bytes(self) -> bytes:
            reads.append(content)
            time.sleep(0.05)
            return content

    told, start = ModelMap(Slow("map.json")), threading.Barrier(8)
    found: list[ModelProfile] = []

    def ask() -> None:
        start.wait()
        found.append(told("openai", "m"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [5] * 8 == [profile.context_window for profile in found]
    assert 1 == len(reads)


def test_a_bare_name_is_looked_up_as_litellm_is_asked(table) -> None:
    told = table({"anthropic/claude-9": entry(max_input_tokens=9)})

    assert "anthropic/claude-9" == qualified("claude-9")
    assert 9 == told("litellm", "claude-9").context_window
