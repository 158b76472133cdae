"""The live page: made anew when the run has written, whole while the run writes, gone when nobody wants it any more."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import made_up_run
import pytest

from azr_jax.monitor.report import NothingToReport, build
from azr_jax.monitor.serve import CannotServe, LiveReport

ROOT = Path(__file__).parents[2]


@contextmanager
def served(workdir):
    live = LiveReport(workdir, port=0)
    thread = threading.Thread(target=live.serve)
    thread.start()
    try:
        yield live
    finally:
        live.stop()
        thread.join()
        live.close()


def get(live, path="", host=None):
    asked = urllib.request.Request(live.url + path, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_the_page_follows_the_run_and_a_torn_line_is_not_in_it(tmp_path):
    run = made_up_run.write(tmp_path / "run", 3)
    with served(run) as live:
        status, page = get(live)
        assert (status, data_of(page)["runs"][0]["iterations"]) == (200, [1, 2, 3])
        before = get(live, "version")
        assert get(live, "version") == before
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"iteration": 4, "propose/valid_rate": 0.')
        assert get(live, "version") != before
        assert data_of(get(live)[1])["runs"][0]["iterations"] == [1, 2, 3]
        with (run / "metrics.jsonl").open("a") as file:
            file.write("5}\n")
        found = data_of(get(live)[1])["runs"][0]
        assert found["iterations"] == [1, 2, 3, 4] and found["series"]["propose/valid_rate"][3] == 0.5
    assert sorted(path.name for path in run.iterdir() if "report" in path.name) == []  # nothing is written


def test_a_page_is_made_once_for_each_version(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("azr_jax.monitor.report.page", lambda workdirs, live: made.append(live) or f"page {len(made)}")
    (tmp_path / "config.json").write_text("{}")
    with served(tmp_path) as live:
        assert [get(live)[1] for _ in range(3)] == ["page 1"] * 3
        (tmp_path / "metrics.jsonl").write_text('{"iteration": 1}\n')
        assert get(live)[1] == "page 2"
    assert made == [True, True]


def test_while_a_run_is_being_written_every_page_is_whole(tmp_path):
    run = made_up_run.write(tmp_path / "run", 2)
    lines = (run / "metrics.jsonl").read_text().splitlines()[-1].replace('"iteration": 2', '"iteration": %d')

    def write():
        for iteration in range(3, 60):
            text = lines.replace("%d", str(iteration)) + "\n"
            for part in (text[: len(text) // 2], text[len(text) // 2 :]):
                with (run / "metrics.jsonl").open("a") as file:
                    file.write(part)

    writer = threading.Thread(target=write)
    with served(run) as live:
        writer.start()
        seen = []
        while writer.is_alive() or not seen:
            status, page = get(live)
            assert status == 200
            seen.append(len(data_of(page)["runs"][0]["iterations"]))
        writer.join()
        assert seen == sorted(seen)
        assert len(data_of(get(live)[1])["runs"][0]["iterations"]) == 59


def test_only_this_page_is_there_and_only_under_its_own_name(tmp_path):
    run = made_up_run.write(tmp_path / "run", 1)
    with served(run) as live:
        assert get(live, "records.jsonl")[0] == 404
        assert get(live, host="evil.example:6007")[0] == 403
        assert get(live, host="localhost:9")[0] == 200
        assert "connect-src 'self'" in get(live)[1]
    assert "connect-src" not in build([run], tmp_path / "report.html").read_text()


def test_a_workdir_that_goes_away_is_said_and_may_come_back(tmp_path):
    run = made_up_run.write(tmp_path / "run", 1)
    with served(run) as live:
        run.rename(tmp_path / "away")
        status, said = get(live)
        assert status == 503 and "holds no run" in said
        (tmp_path / "away").rename(run)
        assert get(live)[0] == 200


def test_what_cannot_be_served_is_an_error(tmp_path):
    with pytest.raises(NothingToReport, match=r"--live=.*nothing: holds no run"):
        LiveReport(tmp_path / "nothing", 0)
    (tmp_path / "config.json").write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=rf"--port={port}: .*in use; give another, or 0"):
            LiveReport(tmp_path, port)


def test_the_command_says_where_it_is_and_ends_with_ctrl_c(tmp_path):
    run = made_up_run.write(tmp_path / "run", 1)
    command = [sys.executable, "-m", "azr_jax.report", "--live", str(run), "--port=0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    port = int(re.search(r" at http://127\.0\.0\.1:(\d+)/ ", first)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "\nended; the run goes on\n", "")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "error: --workdir: missing; should be the folder of a run"),
        (["--workdir=s3://b/run"], "error: --workdir=s3://b/run: should be a folder, or gs://<bucket>/<folder>"),
        (["--live=s3://b/run"], "error: --live=s3://b/run: should be a folder, or gs://<bucket>/<folder>"),
        (["--live=nowhere"], "error: --live=nowhere: holds no run: neither metrics.jsonl nor config.json is there"),
        (["--live=a", "--workdir=b"], "error: --live=a: follows this one run and writes no file"),
        (["runs/a"], "error: runs/a: not understood"),
    ],
)
def test_what_is_wrong_is_one_line(flags, said, tmp_path):
    command = [sys.executable, "-m", "azr_jax.report", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1, done.stderr
