"""The command: it publishes what is not there yet, listens, warns, and ends when it is told."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from process_data import serve
from tests.stages.test_stages import ROOT
from tests.web.conftest import checkpoint_of


def command_of(data_dir: Path, port: int, *more: str) -> list[str]:
    command = [sys.executable, "-m", "process_data.serve", f"--dpath={data_dir}", "--device=cpu"]
    return [*command, f"--save_path={checkpoint_of(data_dir)}", f"--port={port}", *more]


def test_the_command_publishes_serves_and_ends(served: Path) -> None:
    shutil.rmtree(served / "store")
    command = command_of(served, 0, "--root_path=cars")
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    try:
        while "open " not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        address = re.findall(r"open (http://127.0.0.1:\d+/cars)", said)[0]
        with urllib.request.urlopen(f"{address}/healthz") as answer:
            assert json.load(answer) == {"images": 48}
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    said += rest
    assert "store has no images yet: publishing database.npy" in said
    assert "Traceback" not in said and "WARNING" not in said


def test_a_port_that_is_taken_is_one_line(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        argv = command_of(served, taken.getsockname()[1])[3:]
        assert serve.main(argv) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r"error: cannot listen on 127.0.0.1:\d+: .*; choose another --port", last)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "x" * 80, ""])
def test_a_host_that_is_not_here_is_one_line(
    served: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve.main([*command_of(served, 0)[3:], f"--host={host}"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == f"error: --host={host} is not an address of this computer; name another"


@pytest.mark.parametrize(("host", "is_told"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_open_address_warns(
    served: Path,
    host: str,
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    with caplog.at_level(logging.INFO):
        serve.run(served, checkpoint_of(served), host=host, port=0, device="cpu")
    warnings = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert bool(warnings) == is_told
    if is_told:
        assert "everyone who reaches it" in warnings[0].getMessage()


WRONG = ["--port=-1", "--port=65536", "--token=short", "--token=\N{SNOWMAN}12345678"]
WRONG += ["--root_path=a b", "--root_path=../x", "--root_path=/api", "--root_path=http://x/y"]
WRONG += ["--allow_host=https://x.org", "--allow_host=a b", "--allow_host="]


@pytest.mark.parametrize("option", WRONG)
def test_wrong_options_are_one_line(
    served: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [f"--dpath={served}", f"--save_path={checkpoint_of(served)}", option]
    assert serve.main(argv) == 1
    assert capsys.readouterr().err.startswith("error: --")


def test_another_model_than_the_one_that_encoded_is_refused(
    served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = served / "para" / "other"
    shutil.copy(checkpoint_of(served), other)
    with other.open("ab") as file:
        file.write(os.urandom(4))
    assert serve.main([f"--dpath={served}", f"--save_path={other}", "--port=0"]) == 1
    assert "is not the model that encoded" in capsys.readouterr().err
