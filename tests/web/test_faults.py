"""What breaks while the page serves: said in one line, nothing half, and well again by itself."""

import errno
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pymilvus.exceptions import MilvusException

from process_data import publish
from retrieval.store.base import StoreFailure
from retrieval.store.milvus.store import MilvusStore
from tests.milvus_server import Server, drop
from tests.web.conftest import AUTHORIZED, PAGE, TOKEN, App, drawn_photo

AGAIN_S = 120  # a server that comes back loads its rows first


def ask(client: TestClient) -> dict:
    """Search, and return the answers without the time it took."""
    response = client.post("/api/search", files={"photo": drawn_photo()})
    assert response.status_code == 200, response.text
    return response.json() | {"seconds": 0}


def check_refused(client: TestClient, *words: str) -> None:
    """Check that API, page and health say 503, in one line with these words."""
    calls = [("POST", "/api/search"), ("GET", "/api/search?id=1"), ("GET", "/api/images/1")]
    for method, address in [*calls, ("GET", "/images/1"), ("GET", "/healthz")]:
        files = {"photo": drawn_photo()} if method == "POST" else None
        response = client.request(method, address, files=files)
        assert response.status_code == 503, (address, response.text)
        assert int(response.headers["retry-after"]) >= 1
        check_line(response.json()["error"], *words)
    for address in ("/", "/search?id=1", "/browse", "/why?id=1&answer=2"):
        page = client.get(address, headers=PAGE)
        assert page.status_code == 503 and all(word in page.text for word in words)
        assert "Traceback" not in page.text
    assert client.get("/metrics").status_code == 200


def check_line(text: str, *words: str) -> None:
    assert "\n" not in text and "--" not in text
    assert all(word in text for word in words), text


def wait_until(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + AGAIN_S
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def is_answered(client: TestClient) -> bool:
    """Return whether a search is answered; while it is not, nothing but 503 may be said."""
    response = client.post("/api/search", files={"photo": drawn_photo()})
    assert response.status_code in (200, 503), response.text
    return response.status_code == 200


def check_outage(client: TestClient, name: str, stop: Callable, start: Callable) -> None:
    """Let a store go and come back under a client that may change it."""
    before = ask(client)
    assert len(before["answers"]) == 20
    stop()
    client.app.state.service.database._facets = None  # what was known for some seconds
    check_refused(client, name, "try again")
    photo = {"photo": drawn_photo("PNG")}
    refused = client.post("/api/images", files=photo, headers=AUTHORIZED)
    assert refused.status_code == 503
    check_line(refused.json()["error"], name)
    assert client.delete("/api/images/3", headers=AUTHORIZED).status_code == 503
    start()
    wait_until(lambda: is_answered(client))
    assert ask(client) == before
    added = client.post("/api/images", files=photo, headers=AUTHORIZED).json()
    assert added["is_new"] and client.get(f"/images/{added['id']}").status_code == 200


class Away:
    """A client of Milvus whose server does not answer."""

    def __getattr__(self, name: str) -> Callable:
        def call(*_: object, **__: object) -> None:
            raise MilvusException(message="server unavailable:\nconnection refused")

        return call


def test_a_milvus_that_does_not_answer_is_named(served: Path, app: App) -> None:
    publish.run(served, store="store.db")
    client = app(served, store="store.db", token=TOKEN)
    store = client.app.state.service.database.store
    assert isinstance(store, MilvusStore)
    real = store._client
    check_outage(
        client,
        "store.db",
        lambda: setattr(store, "_client", Away()),
        lambda: setattr(store, "_client", real),
    )


def test_a_milvus_server_that_stops_and_returns(
    served: Path, app: App, milvus_server: Server
) -> None:
    drop(milvus_server.address)
    publish.run(served, store=milvus_server.address)
    client = app(served, store=milvus_server.address, token=TOKEN)
    check_outage(client, milvus_server.address, milvus_server.end, milvus_server.start)


def test_a_store_that_takes_long_to_fail_is_asked_once(
    served: Path, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app(served)
    service, asked = client.app.state.service, []
    ask(client)

    def facets() -> None:
        asked.append(1)
        time.sleep(0.3)
        raise StoreFailure("the store is away")

    monkeypatch.setattr(service.database.store, "facets", facets)
    service.database._facets = None
    started = time.monotonic()
    said: list[int] = []
    threads = [
        threading.Thread(target=lambda: said.append(client.get("/api/search?id=1").status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [503] * 8 and len(asked) == 1
    assert time.monotonic() - started < 2
    monkeypatch.undo()
    wait_until(lambda: is_answered(client))


def test_a_full_disk_while_serving(served: Path, app: App, small_disk: Path) -> None:
    shutil.copytree(served / "store", small_disk / "store")
    client = app(served, store=str(small_disk / "store"), token=TOKEN)
    before, n_image = ask(client), client.get("/healthz").json()
    with (small_disk / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(512))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    arguments = {"files": {"photo": drawn_photo("PNG")}, "headers": AUTHORIZED}
    for _ in range(2):
        refused = client.post("/api/images", **arguments)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
        check_line(refused.json()["error"], str(small_disk), "is full", "make room")
        assert ask(client) == before
    assert client.get("/search?id=1", headers=PAGE).status_code == 200
    client.app.state.service.database._facets = None
    assert client.get("/healthz").json() == n_image
    (small_disk / "ballast").unlink()
    added = client.post("/api/images", **arguments).json()
    assert added["is_new"] and client.get(f"/api/images/{added['id']}").status_code == 200
    assert client.get("/healthz").json()["images"] == n_image["images"] + 1
    assert client.delete(f"/api/images/{added['id']}", headers=AUTHORIZED).status_code == 204
    assert ask(client) == before


def test_no_room_for_a_large_upload(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads above 1 MB are in a temporary file while they arrive."""
    photo = drawn_photo("BMP", (1000, 500))
    assert len(photo) > 1_000_000

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
    for address, headers in (("/api/search", {}), ("/search", PAGE)):
        refused = client.post(address, files={"photo": photo}, headers=headers)
        assert refused.status_code == 503 and "temporary files" in refused.text
        assert "is full" in refused.text and int(refused.headers["retry-after"]) >= 1
        assert client.post(address, files={"photo": drawn_photo()}).status_code == 200
    monkeypatch.undo()
    assert client.post("/api/search", files={"photo": photo}).status_code == 200
