"""What starting costs: time and memory of imports and of ``kor --help``, beside the peers.

    tox -e bench -- benchmarks/imports.py [ROUNDS]

Every round starts each case once in a process of its own, in a shuffled order, so that whatever
else the machine does falls on all alike. The figures are medians; read the ratios, the rest is
this machine's.
"""

import os
import random
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

YARDSTICK: Final = "import dependency_injector.containers, pydantic"

STATEMENTS: Final = (
    YARDSTICK,
    "import kor_core",
    "import kor_core.kernel",
    "import kor_containers",
    "import openai",
    "import litellm",
    "import pydantic_ai",
)


@dataclass
class Case:
    """One process to start, and what it took each time: seconds of wall time, MB resident."""

    name: str
    command: Sequence[str]
    seconds: list[float] = field(default_factory=list[float])
    megabytes: list[float] = field(default_factory=list[float])

    def play(self) -> bool:
        """Start it once and say whether it succeeded."""
        start = time.perf_counter()
        process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
        # wait4 tells the peak memory of this one child; Popen.wait tells none.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds.append(time.perf_counter() - start)
        self.megabytes.append(usage.ru_maxrss / 1024)
        return process.returncode == 0


# litellm would fetch its price map from the network, which is not what is measured.
ENVIRONMENT: Final = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def cases() -> list[Case]:
    kor = str(Path(sysconfig.get_path("scripts"), "kor"))
    return [
        Case("python, nothing", [sys.executable, "-c", ""]),
        *(Case(text, [sys.executable, "-c", text]) for text in STATEMENTS),
        Case("kor --help", [sys.executable, kor, "--help"]),
    ]


def measured(rounds: int) -> list[Case]:
    """Play all cases in shuffled rounds; those that cannot be imported here are left out."""
    # The first start compiles to bytecode and warms the disk cache.
    playable = [case for case in cases() if case.play()]
    for case in playable:
        case.seconds.clear()
        case.megabytes.clear()
    for _ in range(rounds):
        for case in random.sample(playable, len(playable)):
            case.play()
    return playable


def table(found: Sequence[Case]) -> str:
    unit = next(case for case in found if case.name == YARDSTICK)
    time_unit, memory_unit = _medians(unit)
    rows = ["| start | ms | × | MB | × |", "|---|---|---|---|---|"]
    for case in found:
        seconds, megabytes = _medians(case)
        rows.append(
            f"| `{case.name}` | {seconds * 1000:.0f} | {seconds / time_unit:.2f} "
            f"| {megabytes:.0f} | {megabytes / memory_unit:.2f} |"
        )
    return "\n".join(rows)


def _medians(case: Case) -> tuple[float, float]:
    return statistics.median(case.seconds), statistics.median(case.megabytes)


if __name__ == "__main__":
    print(table(measured(int(sys.argv[1]) if len(sys.argv) > 1 else 15)))
