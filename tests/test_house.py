"""What holds for the whole: README and CI agree, imports stay light, packages are typed."""

import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("kor_core", "kor_containers", "kor_cli")
HEAVY = {
    *("openai", "litellm", "httpx", "httpx2", "aiohttp"),
    *("rich", "jinja2", "tiktoken", "dynaconf", "structlog", "requests"),
}


def bash_blocks() -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```bash\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)


def tracked() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("only a clone knows which files are tracked")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


# --- README and CI --------------------------------------------------------------------------


def test_the_readme_asks_first_and_tests_second():
    ask, test = bash_blocks()

    assert '.venv/bin/kor ask "Hello!"' in ask
    assert ".venv/bin/tox" == test.splitlines()[-1]


def test_the_readme_sets_up_where_pip_refuses_global_installs():
    """Also where venv cannot bring pip along, as on Debian without python3-venv."""
    for block in bash_blocks():
        assert "python3 -m venv --without-pip .venv" == block.splitlines()[0]
        assert "python3 -m pip --python .venv install" in block.splitlines()[1]


def test_ci_runs_the_blocks_of_the_readme(tmp_path: Path):
    """CI repeats no command of the README: it reads them there, whatever they are."""
    (tmp_path / ".ci").mkdir()
    script = shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "README.md").write_text(
        "```toml\necho not bash\n```\n```bash\necho set up\necho ask > first\n```\n"
        "text\n```bash\necho test > second\n```\n```bash\necho never > third\n```\n"
    )

    subprocess.run([script], check=True, capture_output=True)

    assert "ask\n" == (tmp_path / "first").read_text()
    assert "test\n" == (tmp_path / "second").read_text()
    assert not (tmp_path / "third").exists()


def test_ci_fails_when_a_command_of_the_readme_fails(tmp_path: Path):
    (tmp_path / ".ci").mkdir()
    script = shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "README.md").write_text("```bash\nfalse\ntrue\n```\n")

    assert 0 != subprocess.run([script], check=False, capture_output=True).returncode


def test_code_of_the_pages_runs_where_it_is_pasted_into_a_file():
    """No ``await`` outside a function; only the page that was asked for word by word has one."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    pages.remove(ROOT / "docs" / "custom-llm-integration.md")
    pasted = {
        page.name: re.findall(
            r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        for page in pages
    }

    assert pasted["README.md"]
    for name, blocks in pasted.items():
        compile("\n".join(blocks), name, "exec")


@pytest.mark.parametrize("root", ["kor", "containers"])
def test_every_example_in_a_docstring_is_run(root: str, pytestconfig: pytest.Config):
    """At any depth: in the patterns that choose them ``**`` matches one folder only."""
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    with_examples = [
        path
        for path in (ROOT / root).rglob("*.py")
        if re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]

    missed = [
        str(path.relative_to(ROOT))
        for path in with_examples
        if not any(sybil.should_parse(path) for sybil in conftest.DOCSTRINGS)
    ]

    assert with_examples
    assert [] == missed


# --- packages -------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str):
    assert files(package).joinpath("py.typed").is_file()


@pytest.mark.parametrize("statement", ["import kor_core", "import kor_containers"])
def test_importing_loads_nothing_heavy(statement: str):
    """No SDK, no network library, and nothing that brings a template engine or a terminal kit."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}

    assert set() == HEAVY & loaded


def test_help_loads_no_package_beside_the_standard_library():
    """So that ``kor --help`` takes as long as Python does."""
    code = (
        "import sys\n"
        "from kor_cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    # What site loads (editable installs, coverage) is there before any of our code.
    own = set(done.stderr.split()) - set(bare.stdout.split())
    outside = {name.partition(".")[0] for name in own} - sys.stdlib_module_names

    assert {"kor_cli"} == outside


# --- files ----------------------------------------------------------------------------------


def test_no_tracked_file_names_a_place_of_one_machine():
    places = re.compile(rb"/(?:tmp|root|work|home)/[A-Za-z0-9_.-]+|index-url")
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in tracked()
        if path.is_file() and path != Path(__file__)
        for match in places.finditer(path.read_bytes())
    ]

    assert [] == found


def test_no_source_root_is_a_package():
    """``kor`` and ``containers`` are names that other people's packages own."""
    assert not (ROOT / "kor" / "__init__.py").exists()
    assert not (ROOT / "containers" / "__init__.py").exists()
