"""``kor explain``: which model would serve, and why, without calling anyone."""

import json
import os
import pty
import subprocess
import sys
import termios
from decimal import Decimal
from pathlib import Path

import pytest

from kor_cli.explain import as_json, lines
from kor_cli.main import main
from kor_core.errors import NotEligibleError
from kor_core.llm.selection import Ranked, Rejected
from kor_core.llm.selector import Explanation

CONFIG = """
[llm.default]
model = "echo:any"

[llm.purposes.coding]
candidates = ["echo:large", "echo:small", "echo:blind", "openai:gpt-4o"]
strategy = "cheapest"
needs = ["vision"]

[llm.models.large]
input_price = 2.5
output_price = 10
context_window = 200000

[llm.models.small]
input_price = 0.150
output_price = 0.60
context_window = 8192

[llm.models.blind]
capabilities = { vision = false }
"""


LACKS_VISION = (
    "It lacks the capability 'vision', which is known without asking it. Ask another model, or "
    "correct what [llm.models] says of this one."
)


@pytest.fixture
def config(clean_machine: Path) -> Path:
    path = clean_machine / "config.toml"
    path.write_text(CONFIG)
    return path


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["explain", *arguments])
    return code, *capsys.readouterr()


def test_candidates_come_in_order_then_the_others_with_reasons_then_one_sentence(config, capsys):
    code, out, err = explained(capsys, "coding")
    shown = out.splitlines()

    assert (0, "") == (code, err)
    assert [
        "   model       in $/M  out $/M   window  latency  health",
        "1  echo:small    0.15      0.6    8,192        ?  healthy",
        "2  echo:large     2.5       10  200,000        ?  healthy",
        "",
        "left out",
        "   echo:blind",
        f"      {LACKS_VISION}",
        "   openai:gpt-4o",
    ] == shown[:8]
    assert "OPENAI_API_KEY" in shown[8]
    assert ["", "why: echo:small: strategy 'cheapest' puts it first of 2, 2 left out."] == shown[9:]


def test_without_a_purpose_it_is_the_default(config, capsys):
    code, out, _ = explained(capsys)

    assert 0 == code
    assert "1  echo:any" in out
    assert "left out" not in out
    assert "why: " in out


def test_what_is_unknown_is_a_question_mark(config, capsys):
    _, out, _ = explained(capsys)

    assert ["1", "echo:any", "?", "?", "?", "?", "healthy"] == out.splitlines()[1].split()


def test_tokens_leave_out_what_is_too_small(config, capsys):
    code, out, _ = explained(capsys, "coding", "--tokens", "9000")

    assert 0 == code
    assert "1  echo:large" in out
    assert "Its window of 8,192 tokens is too small: about 9,000 are needed." in out


def test_needs_are_added_to_those_of_the_configuration(config, capsys):
    Path("config.toml").write_text(CONFIG.replace("vision = false", "tools = false"))
    code, out, _ = explained(capsys, "coding", "--needs", "tools, streaming")

    assert 0 == code
    assert "It lacks the capability 'tools'" in out


def test_when_nothing_qualifies_it_ends_with_2_and_every_reason(config, capsys):
    code, out, err = explained(capsys, "coding", "--tokens", "900000", "--needs", "")

    assert (2, "") == (code, err)
    assert out.startswith("left out\n   echo:large\n")
    assert "   echo:small\n" in out
    assert "why: None of 4 qualifies" in out


def test_json_has_numbers_and_null_for_what_is_unknown(config, capsys):
    code, out, _ = explained(capsys, "coding", "--json")
    found = json.loads(out)

    assert 0 == code
    assert ["candidates", "rejected", "why"] == sorted(found)
    assert {
        "reference": "echo:small",
        "input_price": 0.15,
        "output_price": 0.6,
        "context_window": 8192,
        "latency": None,
        "health": "closed",
    } == found["candidates"][0]
    assert ["reason", "reference"] == sorted(found["rejected"][0])


def test_json_ends_with_2_where_nothing_qualifies(config, capsys):
    code, out, _ = explained(capsys, "coding", "--json", "--tokens", "900000")

    assert 2 == code
    assert [] == json.loads(out)["candidates"]


def test_another_file_may_be_named(config, capsys):
    Path("other.toml").write_text('[llm.default]\nmodel = "echo:other"\n')
    _, out, _ = explained(capsys, "--config", "other.toml")

    assert "echo:other" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--needs", "tolls"], "Did you mean 'tools'?"),
        (["--tokens", "-1"], "--tokens: expected a number at least 0, found '-1'"),
        (["--tokens", "many"], "expected a number at least 0"),
        (["--nedes", "tools"], "Did you mean '--needs'?"),
        (["coding", "drafts"], "too many arguments: drafts"),
    ],
)
def test_wrong_usage_ends_with_2_and_its_cure(config, capsys, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        main(["explain", *arguments])

    assert 2 == ended.value.code
    assert expected in capsys.readouterr().err


def test_an_unknown_purpose_ends_with_2_and_the_nearest(config, capsys):
    code, out, err = explained(capsys, "codign")

    assert (2, "") == (code, out)
    assert "Did you mean 'coding'?" in err


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--help"])
    out = capsys.readouterr().out

    assert 0 == ended.value.code
    assert "kor explain coding --needs tools,vision --tokens 50000" in out
    assert "2  no model qualifies" in out


FAILING = Ranked("p:m", None, None, None, 0.4159, "open for another 9.0 s: 5 failures")


def test_health_and_latency_are_told_as_they_stand():
    shown = list(lines(Explanation((FAILING,), (), "So it is.")))

    assert (
        "1  p:m         ?        ?       ?   0.42 s  open for another 9.0 s: 5 failures" == shown[1]
    )


def test_long_reasons_are_broken_for_a_terminal_and_indented():
    error = NotEligibleError("One two three four five six seven eight nine ten.")
    rejected = Rejected("p:m", str(error), error)
    found = Explanation((), (rejected,), "None of 1 qualifies, for so many words of reasons.")
    shown = list(lines(found, 30))

    assert max(map(len, shown)) <= 30
    assert "left out" == shown[0]
    assert ["      One two three four five", "      six seven eight nine"] == shown[2:4]
    assert "     so many words of reasons." == shown[-1]


def test_free_and_round_prices_have_no_exponent():
    found = Explanation((Ranked("p:m", Decimal(0), Decimal("1E+2"), 8, None, "closed"),), (), "So.")

    assert ["0", "100"] == list(lines(found))[1].split()[2:4]
    assert [0.0, 100.0] == [
        json.loads(as_json(found))["candidates"][0][name]
        for name in ("input_price", "output_price")
    ]


def test_in_a_terminal_no_line_is_wider_than_it(config):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    environment = {name: each for name, each in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-m", "kor_cli", "explain", "coding"],
        stdout=theirs,
        env=environment,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode().splitlines()
    os.close(ours)

    assert 0 == done.returncode
    assert "left out" in shown
    assert max(len(line) for line in shown) <= 60
