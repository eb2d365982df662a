"""Sync twins work from scripts, threads and running loops, and leave nothing behind."""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading

import pytest

from kor_core.errors import KorError
from kor_core.llm import runner
from kor_core.llm.runner import run


async def answer(value=42):
    await asyncio.sleep(0)
    return value


def test_many_threads_share_one_loop():
    loops = []

    async def loop():
        loops.append(asyncio.get_running_loop())

    threads = [threading.Thread(target=lambda: run(loop())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 8 == len(loops)
    assert 1 == len(set(loops))


async def test_it_works_inside_a_running_loop():
    assert 42 == run(answer())


def test_the_callers_context_is_visible_inside():
    variable = contextvars.ContextVar("variable", default="outside")
    variable.set("caller's")

    async def read():
        return variable.get()

    assert "caller's" == run(read())


def test_an_error_reaches_the_caller():
    async def fail():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(fail())


def test_a_coroutine_that_cancels_itself_is_cancelled_for_the_caller():
    async def give_up():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(give_up())


def test_waiting_for_itself_is_an_error_not_a_hang():
    async def outer():
        return run(answer())

    with pytest.raises(KorError, match="Await the async twin"):
        run(outer())


def test_an_interrupted_wait_cancels_the_work(monkeypatch):
    cancelled = threading.Event()
    started = threading.Event()

    async def work():
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    class Interrupted(runner.Future):
        def result(self, timeout=None):
            assert started.wait(10)
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "Future", Interrupted)

    with pytest.raises(KeyboardInterrupt):
        run(work())

    assert cancelled.wait(10)


def test_a_stopped_runner_cancels_what_runs_and_a_new_one_starts_on_the_next_call():
    own = runner._Runner()
    seen = []

    async def background():
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("cancelled")

    async def start():
        own.task = asyncio.ensure_future(background())
        await asyncio.sleep(0)

    own.run(start())
    own.stop()
    own.stop()

    assert ["cancelled"] == seen
    assert 7 == own.run(answer(7))
    own.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_gets_a_loop_of_its_own():
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")  # 3.12 warns of any fork with threads
from kor_core.llm.echo import EchoModel
model = EchoModel("echo", {})
assert model.generate("parent") == "Echo: parent"
if (child := os.fork()) == 0:
    assert model.generate("child") == "Echo: child"
    os._exit(7)
_, status = os.waitpid(child, 0)
sys.exit(0 if os.waitstatus_to_exitcode(status) == 7 else 1)
"""

    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)

    assert 0 == done.returncode


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)"])
def test_the_interpreter_exits_cleanly_after_a_sync_call(end):
    code = (
        "from kor_core.llm.echo import EchoModel\n"
        "print(EchoModel('echo', {}).generate('x'))\n" + end
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "Echo: x\n", "") == (done.returncode, done.stdout, done.stderr)


def test_the_interpreter_exits_cleanly_after_work_in_the_loops_own_threads():
    code = "import asyncio\nfrom kor_core.llm.runner import run\nrun(asyncio.to_thread(int))\n"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_during_a_sync_call_ends_it():
    code = (
        "import asyncio, signal\n"
        # Under a runner in the background SIGINT is ignored, and children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from kor_core.llm.runner import run\n"
        "async def hang():\n"
        "    print('started', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "run(hang())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert "started\n" == process.stdout.readline()

        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)

    assert 0 != process.returncode
    assert "KeyboardInterrupt" in stderr


def test_what_a_fork_inherits_is_forgotten_and_begun_anew():
    own = runner._Runner()
    own.run(answer())
    loop, thread = own._loop, own._thread

    own.forget()

    assert 7 == own.run(answer(7))
    assert loop is not own._loop
    own.stop()
    own._loop, own._thread = loop, thread
    own.stop()
