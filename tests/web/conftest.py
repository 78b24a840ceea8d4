"""A data directory with a store and a calibration, and the application on it."""

import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from process_data import publish
from retrieval.data import layout, provenance
from retrieval.web import server
from retrieval.web.app import create_app
from retrieval.web.connections import TIMEOUTS, ClientTimeouts
from retrieval.web.image_database import ImageDatabase
from tests.calibrations import save_some
from tests.conftest import made_once

TOKEN = "a token of tests"
PAGE = {"accept": "text/html"}
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}

App = Callable[..., TestClient]


@pytest.fixture(scope="session")
def _served(_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(data_dir: Path) -> None:
        shutil.copytree(_pipeline, data_dir)
        publish.run(data_dir)
        save_some(data_dir)

    return made_once(tmp_path_factory, "served", make)


@pytest.fixture
def served(_served: Path, tmp_path: Path) -> Path:
    """A data directory with a store, to be changed at will."""
    return Path(shutil.copytree(_served, tmp_path / "served"))


@pytest.fixture(scope="session")
def database(_served: Path) -> ImageDatabase:
    """An open database that no test changes."""
    return ImageDatabase.open(_served, checkpoint_of(_served), "store", "cpu")


@pytest.fixture(scope="session")
def _client(database: ImageDatabase) -> Iterator[TestClient]:
    with TestClient(create_app(database), raise_server_exceptions=True) as client:
        yield client


@pytest.fixture
def client(_client: TestClient) -> TestClient:
    """A client of a server that takes no changes."""
    return _client


@pytest.fixture
def app() -> Iterator[App]:
    """A function that starts the application on a data directory."""
    clients: list[TestClient] = []

    def start(
        data_dir: Path, checkpoint: str = "model.ep0", store: str = "store", **options: object
    ) -> TestClient:
        database = ImageDatabase.open(data_dir, data_dir / "para" / checkpoint, store, "cpu")
        app = create_app(database, **options)  # type: ignore[arg-type]
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@contextmanager
def running(app: FastAPI, timeouts: ClientTimeouts = TIMEOUTS) -> Iterator[int]:
    """Run an application on the real server, in a thread, and return its port."""
    sockets = server.bind("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    serving = server.make_server(app, timeouts)
    thread = threading.Thread(target=serving.run, args=(sockets,))
    thread.start()
    try:
        while not serving.started:
            time.sleep(0.01)
        yield port
    finally:
        serving.should_exit = True
        thread.join()


def checkpoint_of(data_dir: Path) -> Path:
    return data_dir / "para" / "model.ep0"


def first_photo(data_dir: Path, number: int = 0) -> Path:
    """Return the file of an image of the database."""
    table = layout.IMAGE_INDEX.load(data_dir, "car_front.csv").sort_values("Index")
    record = provenance.load_record(data_dir, "database.npy") or {}
    root = data_dir / record["preparation"]["image_root_path"]
    return Path(root / table["Path"].iloc[number])


def drawn_photo(kind: str = "JPEG", size: tuple[int, int] = (60, 40), **options: object) -> bytes:
    """Return an image file with colors that tell its corners apart."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, size[0])[None]
    pixels[..., 1] = np.linspace(0, 255, size[1])[:, None]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()
