"""What hangs or dies is named within its deadline: an executor, a callback, a process; and on demand."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from azr_jax.monitor import processes
from azr_jax.monitor.watchdog import EXIT_CODE, Watchdog

ROOT = Path(__file__).parents[2]


@pytest.fixture
def watchdog(tmp_path):
    dog = Watchdog(tmp_path, poll_s=0.05)
    yield dog
    dog.close()


def wait_for(path, text, seconds=5.0):
    """The file once `text` is in it; what a report says after that may not be written yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and text in path.read_text():
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(
        f"{text!r} did not come within {seconds} s: {path.read_text() if path.exists() else 'no file'}"
    )


def test_a_hung_executor_is_named_with_the_program_it_runs(watchdog):
    watchdog.waiting_for("executor", lambda: ["validate deduction/7: def f(x): \x1b[2J while True: pass", "queued: 12"])
    with watchdog.stage("play", deadline_s=0.2):
        # The main thread's stack shows where it waits.
        text = wait_for(watchdog.path, "wait_for(watchdog.path")
    assert "stage play has taken 0." in text
    assert "deadline is 0.2 s" in text
    assert "waiting for executor: 2" in text
    assert "validate deduction/7: def f(x):  [2J while True: pass" in text


def test_a_hung_callback_is_found_in_its_threads_stack(watchdog):
    release = threading.Event()

    def callback_of_the_engine():
        release.wait()

    thread = threading.Thread(target=callback_of_the_engine, name="engine callbacks")
    thread.start()
    watchdog.waiting_for("engine", lambda: ["request 42, sample 3: 17 tokens so far"])
    try:
        with watchdog.stage("sample", deadline_s=0.2):
            text = wait_for(watchdog.path, "callback_of_the_engine")
    finally:
        release.set()
        thread.join()
    assert "thread engine callbacks:" in text
    assert "request 42, sample 3" in text


def test_a_dead_process_is_named_even_as_a_zombie(watchdog):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    watchdog.expect_alive(f"sandbox worker {child.pid}", lambda: processes.alive(child.pid))
    time.sleep(0.2)
    assert not watchdog.path.read_text()
    child.kill()
    wait_for(watchdog.path, f"process sandbox worker {child.pid} is dead")
    child.wait()
    time.sleep(0.2)
    assert watchdog.path.read_text().count("==== watchdog") == 1


def test_a_dead_child_that_nobody_waits_for_is_named_once_and_a_live_one_never(watchdog):
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    child, other = subprocess.Popen(sleeper), subprocess.Popen(sleeper)
    try:
        watchdog.watch_children(0.3)
        time.sleep(0.8)
        assert not watchdog.path.read_text()
        child.kill()
        text = wait_for(watchdog.path, f"process {other.pid} ({sys.executable} -c import time; time.sleep(60)): alive")
        assert f"process {child.pid} (" in text.splitlines()[0]
        assert "nobody has noticed" in text.splitlines()[0]
        time.sleep(0.8)
        assert watchdog.path.read_text().count("==== watchdog") == 1
    finally:
        for process in (child, other):
            process.kill()
            process.wait()


def test_a_stage_in_time_leaves_nothing_and_an_expired_one_is_told_once(watchdog):
    with watchdog.stage("update", deadline_s=5):
        time.sleep(0.2)
    assert not watchdog.path.read_text()
    with watchdog.stage("update", deadline_s=0.1):
        time.sleep(0.5)
    assert watchdog.path.read_text().count("==== watchdog") == 1


def test_what_cannot_be_asked_does_not_silence_the_rest(watchdog):
    def broken():
        raise RuntimeError("pool is gone")

    watchdog.waiting_for("executor", broken)
    watchdog.waiting_for("engine", list)
    text = watchdog.tell("test")
    assert "waiting for executor: cannot be asked: RuntimeError('pool is gone')" in text
    assert "waiting for engine: nothing" in text


def run_script(tmp_path, body):
    script = (
        f"import sys, time, ctypes\nfrom pathlib import Path\nfrom azr_jax.monitor.watchdog import Watchdog\n{body}"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
    )


def test_usr1_is_answered_while_the_main_thread_hangs_in_c(tmp_path):
    # Locked twice, a mutex never comes back, not even for a signal: the main thread runs no Python any more.
    process = run_script(
        tmp_path,
        "dog = Watchdog(Path(sys.argv[1])); dog.listen()\n"
        "dog.waiting_for('learner', lambda: ['step 9'])\n"
        "print('up', file=sys.stderr, flush=True)\n"
        "libc = ctypes.CDLL(None)\n"
        "mutex = ctypes.create_string_buffer(64)  # all zeros: a mutex, not locked\n"
        "libc.pthread_mutex_lock(mutex)\n"
        "libc.pthread_mutex_lock(mutex)\n",
    )
    try:
        assert process.stderr.readline() == "up\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGUSR1)
        text = wait_for(tmp_path / "watchdog.txt", "step 9")
        assert "asked for by SIGUSR1" in text
        wait_for(tmp_path / "watchdog.txt", 'thread MainThread:\n    File "<string>", line 10')
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_end_ends_the_process_with_its_own_exit_code_after_telling(tmp_path):
    process = run_script(
        tmp_path,
        "dog = Watchdog(Path(sys.argv[1]), on_expiry='end', poll_s=0.05)\n"
        "with dog.stage('play', 0.2): time.sleep(60)\n",
    )
    _, told = process.communicate(timeout=20)
    assert process.returncode == EXIT_CODE
    assert "stage play has taken" in told
    assert "stage play has taken" in (tmp_path / "watchdog.txt").read_text()


def test_on_expiry_must_be_one_of_two(tmp_path):
    with pytest.raises(ValueError, match=r"watchdog.on_expiry='stop': should be one of continue \| end"):
        Watchdog(tmp_path, on_expiry="stop")
