"""The example plugin package works once it is installed: built, found, configured, switched off."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "examples" / "kor-plugin-reverse"

ASK = """
import sys
from kor_containers import create_kernel

with create_kernel(sys.argv[1]) as kernel:
    print(kernel.model_selector.get_model().generate("one two"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the package into a folder of its own, as pip does for a user."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", folder, PACKAGE],
        check=True,
        timeout=100,
    )
    return folder


def ask(installed, path, configuration):
    path.write_text(configuration)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r}){ASK}", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


DEFAULT = '[llm.default]\nprovider = "reverse"\nmodel = "any"\n'


@pytest.mark.parametrize(
    ("extra", "answer"), [("", "owt eno\n"), ('extra = { separator = " " }\n', "two one\n")]
)
def test_an_installed_plugin_serves_without_further_configuration(
    installed, tmp_path, extra, answer
):
    done = ask(installed, tmp_path / "config.toml", DEFAULT + extra)

    assert (answer, "") == (done.stdout, done.stderr)


def test_a_disabled_plugin_does_not(installed, tmp_path):
    done = ask(installed, tmp_path / "config.toml", f'{DEFAULT}[plugins]\ndisabled = ["reverse"]\n')

    assert 0 != done.returncode
    assert "reverse" in done.stderr
