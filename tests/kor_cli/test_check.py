"""``kor check``: what is wrong, found without calling anyone."""

import sys
from pathlib import Path

import pytest

from kor_cli.main import main
from kor_core.adapters.vendors import COMPATIBLE


def checked(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["check"])
    return code, *capsys.readouterr()


def test_a_right_configuration_ends_with_0_and_says_which_model_serves(
    stub: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, err = checked(capsys)

    assert (0, "") == (code, err)
    providers = ", ".join(sorted({"echo", "litellm", "openai", "stub", *COMPATIBLE}))
    assert f"ok     providers: {providers}" in out
    assert "ok     purpose default: stub:usual" in out
    assert "ok     purpose coding: stub:coder" in out


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('[llm.default]\nprovider = "opnai"\nmodel = "x"\n', "Did you mean 'openai'?"),
        ('[llm.providers.opnai]\nbase_url = "http://h"\n', "Did you mean 'openai'?"),
        ('[llm.purposes.coding]\nmodel = "opnai:x"\n', "Did you mean 'openai'?"),
        ('[llm.default]\nprovider = "openai"\nmodel = "gpt-4o"\n', "OPENAI_API_KEY"),
        ('[plugins]\nmodules = ["no_such_module:Plugin"]\n', "no_such_module"),
        ("[llm.defualt]\n", "Did you mean 'default'?"),
        ("[llm\n", "config.toml"),
    ],
)
def test_each_mistake_ends_with_2_and_its_cure(
    capsys: pytest.CaptureFixture[str], config: str, expected: str
):
    Path("config.toml").write_text(config)
    code, out, err = checked(capsys)

    assert 2 == code
    assert expected in out + err
    assert "Traceback" not in err


def test_every_purpose_is_checked_though_another_is_wrong(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text(
        '[llm.default]\nmodel = "echo:any"\n'
        '[llm.purposes.bad]\nmodel = "openai:gpt-4"\n'
        '[llm.purposes.good]\nmodel = "echo:good"\n'
    )
    code, out, _ = checked(capsys)

    assert 2 == code
    assert "ok     purpose default: echo:any" in out
    assert "wrong  purpose bad: " in out
    assert "ok     purpose good: echo:good" in out


def test_a_configuration_without_default_is_right(capsys: pytest.CaptureFixture[str]):
    """The default is an error when it is asked for, not before."""
    Path("config.toml").write_text('[llm.purposes.good]\nmodel = "echo:good"\n')
    code, out, err = checked(capsys)

    assert (0, "") == (code, err)
    assert "note   purpose default: none is configured" in out


def test_the_name_that_litellm_is_given_is_said_without_loading_litellm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-planted")
    monkeypatch.setitem(sys.modules, "litellm", None)
    Path("config.toml").write_text('[llm.default]\nprovider = "litellm"\nmodel = "claude-3-opus"\n')
    code, out, err = checked(capsys)

    assert (0, "") == (code, err)
    assert "purpose default: litellm:claude-3-opus, asked for as anthropic/claude-3-opus" in out
    assert "sk-planted" not in out


def test_the_files_and_variables_that_were_read_are_said(
    stub: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KOR_LLM__DEFAULT__SEED", "1")
    (Path.home() / ".kor").mkdir()
    home = Path.home() / ".kor" / "config.toml"
    home.write_text("[network]\ntrust_env = false\n")
    code, out, _ = checked(capsys)

    assert 0 == code
    assert f"ok     files: {home}, ./config.toml\n" in out
    assert "ok     variables: KOR_LLM__DEFAULT__SEED\n" in out


def test_an_empty_file_is_noted(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text("")
    _, out, _ = checked(capsys)

    assert "note   files: found, and nothing is set in them\n" in out


def test_in_a_terminal_lines_are_broken_between_words(
    stub: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    whole = checked(capsys)[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    shown = checked(capsys)[1]

    assert max(map(len, shown.splitlines())) <= 40 < max(map(len, whole.splitlines()))
    assert whole.split() == shown.split()
    assert "\n       " in shown


def test_without_any_the_offline_echo_is_noted(capsys: pytest.CaptureFixture[str]):
    code, out, _ = checked(capsys)

    assert 0 == code
    assert "note   files: none, so the offline echo serves" in out


@pytest.mark.parametrize("field", ["disabled", "enabled"])
def test_a_plugin_that_is_not_found_is_wrong(
    stub: Path, capsys: pytest.CaptureFixture[str], field: str
):
    text = (stub / "config.toml").read_text()
    (stub / "config.toml").write_text(f'{text}{field} = ["stub", "stbu"]\n')
    code, out, _ = checked(capsys)

    assert 2 == code
    assert f"plugins.{field}: No plugin 'stbu' is found. " in out
    assert "Did you mean 'stub'?" in out
    assert "No plugin 'stub'" not in out


def test_a_reference_that_is_taken_verbatim_is_noted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    Path("config.toml").write_text(
        '[llm.default]\nprovider = "openai"\nmodel = "gpt-4o"\n'
        '[llm.purposes.plain]\nmodel = "ft:gpt-4o"\n'
        '[llm.purposes.slip]\nmodel = "litellm/claude-3-opus"\n'
    )
    code, out, _ = checked(capsys)
    notes = [line for line in out.splitlines() if line.startswith("note")]

    assert 0 == code
    assert 1 == len(notes)
    assert "purpose slip: 'litellm/claude-3-opus' is taken verbatim as a model of 'openai'" in out
    assert 'write provider = "litellm" and model = "claude-3-opus"' in out


def test_a_reference_that_repeats_its_provider_is_noted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    Path("config.toml").write_text(
        '[llm.default]\nprovider = "openai"\nmodel = "openai:gpt-4o"\n'
        '[llm.purposes.slip]\nprovider = "openai"\nmodel = "openai/gpt-4o"\n'
        '[llm.purposes.meant]\nprovider = "openai"\nmodel = "litellm/gpt-4o"\n'
    )
    code, out, _ = checked(capsys)
    notes = [line for line in out.splitlines() if line.startswith("note")]

    assert 0 == code
    assert ["purpose default", "purpose slip"] == [note[7:].partition(":")[0] for note in notes]
    assert 'if that repeats the provider, write model = "gpt-4o"' in notes[0]


def test_what_only_litellm_reaches_is_pointed_out(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text('[llm.default]\nmodel = "anthropic:claude-3-opus"\n')
    code, out, _ = checked(capsys)

    assert 2 == code
    assert "What litellm reaches is written 'litellm:anthropic/claude-3-opus'." in out


def test_an_unknown_provider_is_said_once(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text('[llm.default]\nprovider = "opnai"\nmodel = "x"\n')
    code, out, _ = checked(capsys)

    assert 2 == code
    assert 1 == out.count("No provider 'opnai'")


def test_a_model_of_litellm_that_names_no_vendor_is_noted(capsys: pytest.CaptureFixture[str]):
    Path("config.toml").write_text(
        '[llm.default]\nmodel = "litellm:foo"\n[llm.providers.litellm]\napi_key = "sk-planted"\n'
    )
    code, out, _ = checked(capsys)

    assert 0 == code
    assert "note   purpose default: 'foo' does not say whose it is" in out


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HTTPS_PROXY", "socks5://user:sk-planted@h", "HTTPS_PROXY: SOCKS proxies cannot be used."),
        ("NO_PROXY", "[", "NO_PROXY: Expected hosts"),
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE: The CA bundle /nowhere.pem"),
    ],
)
def test_variables_that_every_call_would_fail_by_are_wrong(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    expected: str,
):
    monkeypatch.setenv(variable, value)
    Path("config.toml").write_text('[llm.default]\nmodel = "echo:any"\n')
    code, out, _ = checked(capsys)

    assert 2 == code
    assert f"wrong  network: {expected}" in out
    assert "sk-planted" not in out
    assert "ok     purpose default: echo:any" in out


@pytest.mark.parametrize("name", ["ca_bundle", "client_certificate"])
def test_a_file_that_holds_no_certificate_is_wrong_with_its_line(
    capsys: pytest.CaptureFixture[str], name: str
):
    Path("empty.pem").write_text("")
    Path("config.toml").write_text(f'[llm]\n[network]\n{name} = "empty.pem"\n')
    code, out, _ = checked(capsys)

    assert 2 == code
    assert f"config.toml:3: network.{name}: The " in out


def test_a_missing_key_points_to_the_line_that_asked_for_the_model(
    capsys: pytest.CaptureFixture[str],
):
    Path("config.toml").write_text(
        '# first\n[llm.purposes.coding]\nprovider = "openai"\nmodel = "gpt-4o"\n'
    )
    code, out, _ = checked(capsys)

    assert 2 == code
    assert "OPENAI_API_KEY" in out
    assert f"It was asked for by [llm.purposes.coding] in {Path.cwd() / 'config.toml'}:2" in out


def test_a_missing_key_points_to_the_variable_that_asked_for_the_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KOR_LLM__PURPOSES__CODING__MODEL", "openai:gpt-4o")
    code, out, _ = checked(capsys)

    assert 2 == code
    assert "asked for by [llm.purposes.coding] in KOR_LLM__PURPOSES__CODING__MODEL" in out


def test_a_fallback_without_a_key_is_wrong_though_the_purpose_is_served(
    capsys: pytest.CaptureFixture[str],
):
    Path("config.toml").write_text(
        '[llm.default]\nmodel = "openai:gpt-4o"\nfallbacks = ["echo:x"]\n'
    )
    code, out, _ = checked(capsys)

    assert 2 == code
    assert "ok     purpose default: echo:x" in out
    assert (
        "wrong  purpose default: llm.providers.openai.api_key: 'openai:gpt-4o' needs a key" in out
    )


def test_a_candidate_that_never_qualifies_is_noted_with_the_reason(
    capsys: pytest.CaptureFixture[str],
):
    Path("config.toml").write_text(
        '[llm.default]\ncandidates = ["echo:a", "echo:b"]\ntags = ["eu"]\n'
        '[llm.models."echo:b"]\ntags = ["eu"]\n'
    )
    code, out, _ = checked(capsys)

    assert 0 == code
    assert "note   purpose default: echo:a: It lacks the tags eu." in out


def test_a_fallback_that_a_budget_cannot_count_is_noted_before_it_is_needed(
    capsys: pytest.CaptureFixture[str],
):
    Path("config.toml").write_text(
        '[llm.default]\nmodel = "echo:priced"\nfallbacks = ["echo:dear"]\n'
        "[llm.models.priced]\ninput_price = 1\noutput_price = 1\n"
        '[llm.budgets.all]\namount = 5\nper = "day"\n'
    )
    code, out, _ = checked(capsys)

    assert 0 == code
    assert "ok     purpose default: echo:priced" in out
    assert "note   purpose default: echo:dear: No price of 'echo:dear' is known" in out
    assert "echo:priced:" not in out
