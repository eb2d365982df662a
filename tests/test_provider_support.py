"""The table of what each provider supports is what the suite of conformance finds."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINT = "import runpy, sys; sys.stderr.write(runpy.run_path(sys.argv[1])['table']())"


@pytest.mark.timeout(300)
@pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)
def test_the_table_is_up_to_date():
    """If this fails: python docs/generate_provider_support.py."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT, ROOT / "docs" / "generate_provider_support.py"],
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
        cwd=ROOT,
    )

    assert (ROOT / "docs" / "provider-support.md").read_text(encoding="utf-8") == done.stderr
