"""load_settings: which files and variables are read, and what is said of those that are wrong."""

import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kor_core.adapters.dynaconf import load_settings
from kor_core.errors import ConfigurationError, Problem
from kor_core.settings import Settings

SECRET = "sk-planted-1234"


class Place:
    """A home and a current directory, to write files into and to load from."""

    def __init__(self, folder: Path) -> None:
        self.home, self.cwd = folder / "home", folder / "cwd"
        self.home.mkdir()
        self.cwd.mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def load(self, path: str | Path | None = None, **environ: str) -> Settings:
        return load_settings(path, environ=environ, home=self.home, cwd=self.cwd)

    def problems(self, path: str | Path | None = None, **environ: str) -> list[Problem]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(path, **environ)
        return list(caught.value.problems)

    def problem(self, path: str | Path | None = None, **environ: str) -> Problem:
        (found,) = self.problems(path, **environ)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def model(name: str) -> str:
    return f'[llm.default]\nprovider = "echo"\nmodel = "{name}"\n'


# --- the layers ---------------------------------------------------------------------------


def test_with_no_file_and_no_variable_echo_serves(place: Place):
    found = place.load(KOR_ENV="prod", KOR_OTHER="x", KOR_LLM_SERVICE_HOST="10.0.0.1")

    assert found.unconfigured
    assert (found.llm.default.provider, found.llm.default.model) == ("echo", "echo")
    assert found.origin("llm", "default") == ""


@pytest.mark.parametrize("name", ["config.toml", ".secrets.toml"])
def test_any_file_even_an_empty_one_is_a_configuration(place: Place, name: str):
    place.write(name, "")
    found = place.load()

    assert not found.unconfigured
    assert found.llm.default is None


def test_a_variable_alone_is_a_configuration(place: Place):
    found = place.load(KOR_NETWORK__TRUST_ENV="false")

    assert not found.unconfigured
    assert found.llm.default is None
    assert found.origin("network", "trust_env") == "KOR_NETWORK__TRUST_ENV"


def test_later_layers_win_and_each_value_knows_its_own(place: Place):
    (place.home / ".kor").mkdir()
    home = place.home / ".kor" / "config.toml"
    keys = ["provider", "model", "seed", "max_tokens", "top_p"]
    values = ['"home"', '"home"', "1", "1", "0.1"]
    table = [f"{key} = {value}" for key, value in zip(keys, values, strict=True)]
    home.write_text("\n".join(["[llm.default]", *table]))
    place.write("config.toml", "[llm.default]\nmodel='main'\nseed=2\nmax_tokens=2\ntop_p=0.2")
    place.write("config.prod.toml", "[llm.default]\nseed=3\nmax_tokens=3\ntop_p=0.3")
    place.write("config.other.toml", "[llm.default]\nseed='not read'")
    place.write(".secrets.toml", "[llm.default]\nmax_tokens=4\ntop_p=0.4")
    found = place.load(KOR_ENV="prod", KOR_LLM__DEFAULT__TOP_P="0.5")
    default = found.llm.default
    expected = [
        ("home", f"{home}:2"),
        ("main", f"{place.cwd / 'config.toml'}:2"),
        (3, f"{place.cwd / 'config.prod.toml'}:2"),
        (4, f"{place.cwd / '.secrets.toml'}:2"),
        (0.5, "KOR_LLM__DEFAULT__TOP_P"),
    ]

    assert [(getattr(default, k), found.origin("llm", "default", k)) for k in keys] == expected


def test_a_path_takes_the_place_of_config_toml(place: Place):
    place.write("config.toml", model("not read"))
    place.write("deep/my.toml", model("mine"))
    place.write("deep/.secrets.toml", "[llm.default]\nseed = 1")
    place.write(".secrets.toml", "[llm.default]\nseed = 'not read'")
    found = place.load("deep/my.toml", KOR_CONFIG="nowhere.toml")

    assert (found.llm.default.model, found.llm.default.seed) == ("mine", 1)


def test_kor_config_takes_the_place_of_config_toml(place: Place):
    place.write("config.toml", model("not read"))
    path = place.write("deep/my.toml", model("mine"))

    assert place.load(KOR_CONFIG="deep/my.toml").llm.default.model == "mine"
    assert place.load(KOR_CONFIG=str(path)).llm.default.model == "mine"
    assert place.load(KOR_CONFIG="").llm.default.model == "not read"


def test_files_that_dynaconf_would_add_are_not_read(place: Place):
    place.write("config.toml", model("m"))
    for name in ("config.local.toml", "settings.toml", ".secrets.local.toml", ".env"):
        place.write(name, "broken = [")

    assert place.load().llm.default.model == "m"


def test_the_process_is_read_by_default(clean_machine: Path, monkeypatch: pytest.MonkeyPatch):
    Path("config.toml").write_text(model("m"))
    (Path.home() / ".kor").mkdir()
    (Path.home() / ".kor" / "config.toml").write_text("[llm.default]\nseed = 1")
    monkeypatch.setenv("KOR_LLM__DEFAULT__TOP_P", "0.5")
    default = load_settings().llm.default

    assert (default.model, default.seed, default.top_p) == ("m", 1, 0.5)


def test_a_process_without_a_home_reads_none(place: Place, monkeypatch: pytest.MonkeyPatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)

    assert load_settings(environ={}, cwd=place.cwd).unconfigured


def test_lists_replace_and_tables_merge(place: Place):
    place.write("config.toml", model("m") + 'stop = ["a", "b"]\nextra = { a = 1, b = [1, 2] }')
    place.write(".secrets.toml", '[llm.default]\nstop = ["c"]\nextra = { b = [3] }')
    found = place.load(KOR_LLM__DEFAULT__EXTRA__C="1").llm.default

    assert found.stop == ("c",)
    assert found.extra == {"a": 1, "b": [3], "c": 1}


def test_names_survive_in_case_dots_dashes_and_digits(place: Place):
    names = ["Coding", "coding", "code-review", "gpt-4.1", "2024", "a__b"]
    place.write(
        "config.toml",
        "".join(f'[llm.purposes."{n}"]\nprovider="echo"\nmodel="{n}"\n' for n in names),
    )
    place.write(".secrets.toml", "[llm.purposes.CODING]\nprovider='echo'\nmodel='@str CODING'")
    purposes = place.load().llm.purposes

    assert {name: p.model for name, p in purposes.items()} == {n: n for n in [*names, "CODING"]}


def test_inherited_values_have_the_origin_of_the_default(place: Place):
    path = place.write("config.toml", model("m") + "[llm.purposes.fast]\nseed = 1\n")
    found = place.load()

    assert found.origin("llm", "purposes", "fast", "model") == f"{path}:3"
    assert found.origin("llm", "purposes", "fast", "seed") == f"{path}:5"
    assert found.origin("llm", "purposes", "fast") == f"{path}:4"
    assert found.origin("llm", "purposes", "fast", "top_p") == ""


def test_everything_effective_is_explained_with_its_source(place: Place):
    path = place.write("config.toml", f"[llm.providers.openai]\napi_key = '{SECRET}'\n")
    found = {e.key: (e.value, e.origin) for e in place.load(KOR_PLUGINS__DISABLED="a").explain()}

    assert found["llm.providers.openai.api_key"] == ("**********", f"{path}:2")
    assert found["plugins.disabled"] == (["a"], "KOR_PLUGINS__DISABLED")
    assert found["network.read_timeout"] == (600.0, "")


# --- each mistake -------------------------------------------------------------------------


def test_a_syntax_error_says_file_line_and_column(place: Place):
    path = place.write("config.toml", model("m") + "seed = = 1\n")
    found = place.problem()

    assert found.origin == f"{path}:4"
    assert "column 8" in found.message
    assert "line" not in found.message


def test_a_named_file_that_is_no_toml_says_only_what_is_wrong_in_it(place: Place):
    path = place.write("my.toml", "model = gpt-4o\n")

    assert str(place.problem("my.toml")) == (
        f'{path}:1: TOML syntax error in column 9: Invalid value. Text needs quotes: "…".'
    )


def test_a_mapping_is_no_path_and_is_told_where_it_belongs():
    with pytest.raises(TypeError, match=r"settings_from\(mapping\)") as caught:
        load_settings({"llm": {"providers": {"a": {"api_key": SECRET}}}})  # type: ignore[arg-type] # the mistake under test

    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert SECRET not in "".join(shown.format())


@pytest.mark.parametrize(
    ("line", "key", "suggestion"),
    [
        ("[lmm]", "lmm", "llm"),
        ("[llm.default]\nmodel='a:b'\nmodl = 'x'", "llm.default.modl", "model"),
        ("[llm.provider.openai]\napi_key = 'x'", "llm.provider", "providers"),
        ("[llm.purposes.Coding]\nmodel = 'a:b'\ntemprature = 1",
         "llm.purposes.Coding.temprature", "temperature"),
    ],
)  # fmt: skip
def test_an_unknown_key_says_file_line_and_nearest_name(
    place: Place, line: str, key: str, suggestion: str
):
    path = place.write("config.toml", f"# first\n{line}")
    found = place.problem()

    assert found.key == key
    assert found.suggestion == suggestion
    assert found.origin == f"{path}:{2 if line.count(chr(10)) < 2 else 4}"


def test_a_wrong_type_says_file_line_and_what_was_expected(place: Place):
    path = place.write("config.toml", model("m") + "temperature = 'hot'")

    assert place.problem() == Problem(
        "Expected a number, found text.", f"{path}:4", "llm.default.temperature"
    )


def test_an_empty_model_says_where(place: Place):
    path = place.write("config.toml", model(""))

    assert place.problem() == Problem("Must not be empty.", f"{path}:3", "llm.default.model")


@pytest.mark.parametrize("table", ["default", "purposes.x"])
def test_an_unknown_provider_says_where_and_which_is_near(place: Place, table: str):
    path = place.write("config.toml", f"[llm.{table}]\nprovider = 'opnai'\nmodel = 'm'")
    (found,) = place.load().problems_with_providers(["openai"])

    assert found.origin == f"{path}:2"
    assert found.key == f"llm.{table}.provider"
    assert found.suggestion == "openai"


def test_a_purpose_named_default_points_to_the_default(place: Place):
    path = place.write("config.toml", "[llm.purposes.default]\nmodel = 'a:b'")
    found = place.problem()

    assert (found.origin, found.key) == (f"{path}:1", "llm.purposes.default")
    assert "[llm.default]" in found.message


@pytest.mark.parametrize("by_path", [True, False])
def test_a_missing_file_that_was_named_says_by_whom_and_which_is_near(place: Place, by_path: bool):  # noqa: FBT001 - a parameter
    place.write("config.toml", "")
    found = place.problem("confg.toml") if by_path else place.problem(KOR_CONFIG="confg.toml")

    assert found.origin == str(place.cwd / "confg.toml")
    assert ("KOR_CONFIG" in found.message) is not by_path
    assert found.suggestion == "config.toml"


def test_a_missing_folder_has_no_suggestion(place: Place):
    assert place.problem("nowhere/config.toml").suggestion is None


@pytest.mark.parametrize("name", ["config.toml", ".secrets.toml", "named"])
def test_a_directory_is_no_file(place: Place, name: str):
    (place.cwd / name).mkdir()
    found = place.problem(KOR_CONFIG=name if name == "named" else "")

    assert found.origin == str(place.cwd / name)
    assert "found a directory" in found.message


def test_an_unreadable_file_is_an_error_though_nobody_named_it(place: Place):
    path = place.cwd / "config.toml"
    path.symlink_to(path)
    found = place.problem()

    assert found.origin == str(path)
    assert "cannot be read" in found.message


def test_a_file_that_is_not_utf8_is_an_error(place: Place):
    path = place.cwd / "config.toml"
    path.write_bytes(b"[llm]\n# \xff")

    assert "not UTF-8: see line 2" in place.problem().message


def test_a_misspelt_environment_points_to_the_file_there_is(place: Place):
    place.write("config.production.toml", "")
    found = place.problem(KOR_ENV="prodution")

    assert found.origin == "KOR_ENV"
    assert found.suggestion == "production"


def test_an_environment_without_a_file_of_its_own_is_an_error_beside_a_main_file(place: Place):
    """A slip in KOR_ENV would otherwise run on the settings of no environment."""
    place.write("config.toml", model("m"))
    found = place.problem(KOR_ENV="prdo")

    assert (found.origin, found.suggestion) == ("KOR_ENV", None)
    assert "there is no config.prdo.toml" in found.message


@pytest.mark.parametrize("env", ["../x", "a/b", "a\\b", "a\0b"])
def test_an_environment_is_no_path(place: Place, env: str):
    assert place.problem(KOR_ENV=env).origin == "KOR_ENV"


def test_a_variable_with_a_wrong_value_is_named(place: Place):
    place.write("config.toml", model("m"))

    assert place.problem(KOR_LLM__DEFAULT__MAX_TOKENS="many") == Problem(
        "Expected a whole number, found text.",
        "KOR_LLM__DEFAULT__MAX_TOKENS",
        "llm.default.max_tokens",
    )


def test_a_variable_out_of_range_is_named(place: Place):
    found = place.problem(KOR_NETWORK__READ_TIMEOUT="-1")

    assert found.origin == "KOR_NETWORK__READ_TIMEOUT"
    assert found.message == "Expected a number greater than 0."


def test_a_variable_with_an_unknown_name_is_named(place: Place):
    found = place.problem(KOR_LLM__DEFALT__MODEL="x")

    assert (found.origin, found.key) == ("KOR_LLM__DEFALT__MODEL", "llm.defalt")
    assert found.suggestion == "default"


def test_problems_of_all_sources_are_reported_together(place: Place):
    main = place.write("config.toml", model("m") + "temperature = 'hot'\nmodl = 1")
    secrets = place.write(".secrets.toml", "[llm")
    found = place.problems(KOR_LLM__DEFAULT__SEED="x", KOR_CONFIG="", KOR_ENV="")

    assert {p.origin for p in found} == {
        f"{main}:4",
        f"{main}:5",
        f"{secrets}:1",
        "KOR_LLM__DEFAULT__SEED",
    }


def test_what_a_broken_file_may_hold_is_not_called_missing(place: Place):
    place.write("config.toml", "[llm.default")
    found = place.problems(KOR_LLM__DEFAULT__SEED="1")

    assert [p.key for p in found] == [""]


@pytest.mark.parametrize("key", ["dynaconf_merge", "DYNACONF_INCLUDE"])
def test_dynaconfs_own_keys_are_refused(place: Place, key: str):
    path = place.write("config.toml", model("m") + f"extra = {{ {key} = true }}")
    found = place.problem()

    assert (found.origin, found.key) == (f"{path}:4", f"llm.default.extra.{key}")


# --- files that the configuration names ---------------------------------------------------


def test_relative_paths_start_from_the_file_they_stand_in(place: Place):
    ca = place.write("deep/certs/ca.pem", "")
    place.write("deep/my.toml", "[network]\nca_bundle = 'certs/ca.pem'")

    assert place.load("deep/my.toml").network.ca_bundle == ca


def test_a_file_that_is_missing_is_a_problem_of_the_line_that_names_it(place: Place):
    path = place.write("config.toml", "[network]\nca_bundle = 'ca.pem'")
    found = place.problem()

    assert (found.origin, found.key) == (f"{path}:2", "network.ca_bundle")
    assert str(place.cwd / "ca.pem") in found.message


@pytest.mark.parametrize("text", ["network = 3", "[network]\nca_bundle = 3", "ca_bundle = ' '"])
def test_what_is_no_path_is_left_for_the_models_to_refuse(place: Place, text: str):
    place.write("config.toml", text)

    assert place.problems()


# --- nothing else is touched --------------------------------------------------------------

HOST = {
    "SETTINGS_FILE_FOR_DYNACONF": "other.toml",
    "MERGE_ENABLED_FOR_DYNACONF": "true",
    "ENVVAR_PREFIX_FOR_DYNACONF": "KOR",
    "AUTO_CAST_FOR_DYNACONF": "false",
    "NESTED_SEPARATOR_FOR_DYNACONF": "-",
    "LOADERS_FOR_DYNACONF": "['nowhere']",
    "SYSENV_FALLBACK_FOR_DYNACONF": "true",
    "DYNACONF_LLM__DEFAULT__MODEL": "other",
    "ROOT_PATH_FOR_DYNACONF": "/",
    "KOR_MODEL": "other",
    "KOR_LLM_PORT": "tcp://10.0.0.1:80",
}


def test_variables_of_dynaconf_and_of_others_change_nothing(place: Place):
    place.write("config.toml", model("m") + "stop = ['a']\nseed = '@int 5'")
    place.write("other.toml", "broken = [")
    place.write(".secrets.toml", "[llm.default]\nstop = ['@format {this.llm.default.top-x}b']\n"
                "extra = { a__b = 1 }\ntop-x = 1".replace("top-x", "top_p"))  # fmt: skip
    plain = place.load()

    assert place.load(**HOST) == plain
    assert plain.llm.default.stop == ("1b",)
    assert plain.llm.default.extra == {"a__b": 1}


def in_a_process(place: Place, code: str, **environ: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(place.home), **environ},
        cwd=place.cwd,
        check=True,
        capture_output=True,
        text=True,
    )
    return run.stdout


def test_a_process_with_variables_of_dynaconf_loads_the_same(place: Place):
    place.write("config.toml", model("m") + "seed = '@int 5'\nstop = ['@format {env[HOME]}']")
    code = "from kor_core.adapters.dynaconf import load_settings as l; print(l().explain())"

    assert in_a_process(place, code) == in_a_process(place, code, **HOST)


def test_a_variable_that_breaks_dynaconf_itself_is_named(place: Place):
    path = place.write("config.toml", model("m") + "stop = ['a', '@upper b']")
    code = (
        "from kor_core.adapters.dynaconf import load_settings\n"
        "try: load_settings()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    shown = in_a_process(place, code, REDIS_PORT_FOR_DYNACONF="many")

    assert shown.startswith(f"ConfigurationError {path}:4: llm.default.stop: dynaconf, ")
    assert "REDIS_PORT_FOR_DYNACONF" in shown


def test_neither_the_environment_nor_the_disk_is_written(place: Place):
    path = place.write("config.toml", model("m") + "seed = '@int 5'")
    before = dict(os.environ), sorted(place.cwd.parent.rglob("*")), path.read_bytes()
    place.load(KOR_LLM__DEFAULT__TOP_P="1")
    place.problems(KOR_LLM__DEFAULT__TOP_P="x")

    assert (dict(os.environ), sorted(place.cwd.parent.rglob("*")), path.read_bytes()) == before


def test_dynaconf_is_imported_only_for_a_token(place: Place):
    place.write("config.toml", model("m"))
    code = (
        "import sys; from kor_core.adapters.dynaconf import load_settings; load_settings();"
        "print([name for name in ('dynaconf', 'jinja2') if name in sys.modules])"
    )

    assert in_a_process(place, code).strip() == "[]"


# --- secrets ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"[llm.providers.a]\napi_key = '{SECRET}'\nzzz = 1",
        f"[llm.providers.a]\napi_kee = '{SECRET}'",
        f"[llm.providers.a]\napi_key = ['{SECRET}']",
        f"[llm.default]\ntemperature = '{SECRET}'",
        f"[llm.default]\nmodel = 'a:b'\nstrategy = '{SECRET}'",
        f"[llm.providers.a]\nbase_url = 'x://u:{SECRET}@h'",
        f"[llm.providers.a]\napi_key = '{SECRET}'\n[broken",
        f"[llm.providers.a]\napi_key = '@int {SECRET}'",
        f"[llm.providers.a]\napi_key = '@json {SECRET}'",
        f"[llm.providers.a]\napi_key = '@int @format {SECRET}'",
        f"[llm.providers.a]\napi_key = '@format {SECRET} {{x'",
        f"[llm.providers.a]\napi_key = '@jinja {{{{ \"{SECRET}\" + }}}}'",
        f"[llm.providers.a]\napi_key = '@jinja {{{{ \"{SECRET}\".nothing }}}}'",
        f"[llm.providers.a]\napi_key = '@read_file {SECRET[:0]}'\nzz = '{SECRET}'",
        f"[llm.default]\nmodel = '{SECRET}",
    ],
)
def test_no_error_and_no_traceback_with_locals_shows_a_secret(place: Place, text: str):
    place.write("config.toml", text)
    environ = {"OPENAI_API_KEY": SECRET, "KOR_LLM__DEFAULT__MAX_TOKENS": SECRET}
    caught: list[ConfigurationError] = []
    try:
        load_settings(environ=environ, home=place.home, cwd=place.cwd)
    except ConfigurationError as error:
        caught.append(error)
    # This test's own frame holds the environment, as a caller's may: ours begin behind it.
    (error,) = caught
    assert error.__traceback__ is not None
    ours = error.with_traceback(error.__traceback__.tb_next)
    shown = "".join(traceback.TracebackException.from_exception(ours, capture_locals=True).format())

    assert SECRET not in str(error)
    assert SECRET not in repr(error.problems)
    assert SECRET not in shown
    assert "load_settings" in shown


# --- arbitrary input ----------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        "llm", "default", "providers", "purposes", "model", "provider", "extra", "stop", "seed",
        "timeout", "candidates", "network", "ca_bundle", "plugins", "modules", "api_key",
        "base_url", "max_tokens", "state", "url", "x", "", "a.b", "Coding", "dynaconf_merge",
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["echo", "a:b", "@int 1", "@int x", "@format {x}", "@format {this.llm}",
                     "@jinja {{ x.y }}", "@jinja {%", "@merge x", "@note", "~x", "@get llm",
                     "@format {this.llm.default.model}", "@read_file /", "@json {", "@fromat x",
                     "http://[", "@str @int"]),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        TEXTS,
        st.integers(),
        st.floats(),
        st.booleans(),
        st.datetimes().map(lambda moment: moment.isoformat()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def as_toml(value: Any) -> str:
    if isinstance(value, str):
        escaped = "".join(f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{as_toml(k)} = {as_toml(v)}' for k, v in value.items())}}}"
    return repr(value)


def gives_settings_or_problems_with_origins(folder: Path, **environ: str) -> bool:
    found = outcome(folder, **environ)
    if isinstance(found, Settings):
        return True
    return bool(str(found)) and all(problem.origin for problem in found.problems)


def outcome(folder: Path, **environ: str) -> Settings | ConfigurationError:
    try:
        return load_settings(environ=environ, home=folder, cwd=folder)
    except ConfigurationError as error:
        return error


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arbitrary")


surroundings = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@surroundings
@given(tables=st.dictionaries(KEYS, VALUES, max_size=5))
@example(tables={"llm": {"default": {"model": "@format {this.llm.default.model}"}}})
@example(tables={"llm": {"default": {"temperature": 10**400}}})
def test_arbitrary_tables_give_settings_or_a_configuration_error(
    folder: Path, tables: dict[str, Any]
):
    text = "\n".join(f"{as_toml(name)} = {as_toml(value)}" for name, value in tables.items())
    (folder / "config.toml").write_text(text, encoding="utf-8")

    assert gives_settings_or_problems_with_origins(folder)


@surroundings
@given(raw=st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "ignore"))))
@example(raw=b"a = [" * 3000)
@example(raw=b".".join([b"a"] * 3000) + b" = 1")
def test_arbitrary_bytes_give_settings_or_a_configuration_error(folder: Path, raw: bytes):
    (folder / "config.toml").write_bytes(raw)

    assert gives_settings_or_problems_with_origins(folder)


@surroundings
@given(
    environ=st.dictionaries(
        st.lists(st.one_of(KEYS.map(str.upper), st.text(max_size=3)), min_size=1, max_size=5).map(
            lambda parts: "__".join(["KOR_LLM", *parts])
        ),
        st.one_of(TEXTS, VALUES.map(as_toml), st.just("\udce9")),
        max_size=4,
    )
)
@example(environ={"KOR_LLM__" + "__".join(["A"] * 3000): "1"})
@example(environ={"KOR_LLM__PURPOSES__\udce9__MODEL": "\udce9"})
def test_arbitrary_variables_give_settings_or_a_configuration_error(
    folder: Path, environ: dict[str, str]
):
    (folder / "config.toml").unlink(missing_ok=True)

    assert gives_settings_or_problems_with_origins(folder, **environ)
