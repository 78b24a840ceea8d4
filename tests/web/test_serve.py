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
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from process_data import serve
from retrieval.web import protection
from retrieval.web.app import create_app
from retrieval.web.gallery import Gallery
from tests.stages.test_stages import ROOT
from tests.web.conftest import checkpoint_of


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command_of(data_dir: Path, port: int, *more: str) -> list[str]:
    command = [sys.executable, "-m", "process_data.serve", f"--dpath={data_dir}", "--device=cpu"]
    return [*command, f"--save_path={checkpoint_of(data_dir)}", f"--port={port}", *more]


def test_the_command_publishes_serves_and_ends(served: Path) -> None:
    shutil.rmtree(served / "store")
    port = free_port()
    process = subprocess.Popen(
        command_of(served, port), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
                    assert json.load(answer) == {"images": 48}
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert "store has no images yet: publishing database.npy" in said
    assert f"open http://127.0.0.1:{port}" in said
    assert "Traceback" not in said and "WARNING" not in said


def test_slow_clients_are_given_up_while_others_are_served(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    monkeypatch.setattr(protection.BodyLimit.__init__, "__defaults__", (20_000_000, 1.0))
    app = create_app(Gallery.open(served, checkpoint_of(served), "store", "cpu"))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        head = "POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        for connection in slow:
            connection.sendall(
                f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b".encode()
            )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/search?id=1") as answer:
            assert len(json.load(answer)["answers"]) > 0
        for connection in slow:
            connection.settimeout(20)
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
            connection.close()
    finally:
        server.should_exit = True
        thread.join()


def test_a_port_that_is_taken_is_one_line(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        argv = command_of(served, taken.getsockname()[1])[3:]
        assert serve.main(argv) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r"error: cannot listen on 127.0.0.1:\d+; choose another --port", last)


@pytest.mark.parametrize(("host", "is_told"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_open_address_warns(
    served: Path,
    host: str,
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self: None)
    with caplog.at_level(logging.INFO):
        serve.run(served, checkpoint_of(served), host=host, device="cpu")
    warnings = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert bool(warnings) == is_told
    if is_told:
        assert "everyone who reaches it" in warnings[0].getMessage()


@pytest.mark.parametrize("option", ["--port=0", "--token=short", "--token=\N{SNOWMAN}12345678"])
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
    assert serve.main([f"--dpath={served}", f"--save_path={other}"]) == 1
    assert "is not the model that encoded" in capsys.readouterr().err
