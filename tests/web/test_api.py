"""The HTTP API gives what the search command gives, and says what is wrong."""

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from retrieval.data import layout
from retrieval.photo_search.engine import PhotoSearch
from retrieval.photo_search.filters import Filters
from tests.calibrations import save_some
from tests.web.conftest import (
    AUTHORIZED,
    TOKEN,
    App,
    checkpoint_of,
    drawn_photo,
    first_photo,
)


def search(client: TestClient, content: bytes, **options: object) -> dict:
    response = client.post("/api/search", files={"photo": content}, params=options)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def engine(_served: Path) -> PhotoSearch:
    return PhotoSearch.open(_served, checkpoint_of(_served), device="cpu")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 3},
        {"box": "5,5,50,40"},
        {"year": "2010", "k": 50},
        {"at_least": 0.5},
    ],
)
def test_an_upload_finds_what_the_command_finds(
    client: TestClient, engine: PhotoSearch, _served: Path, options: dict
) -> None:
    photo = first_photo(_served, 3)
    years = {answer.metadata.year for answer in engine.search(photo, k=5).answers}
    if "year" in options:
        options = options | {"year": min(years - {""})}
    box = options.get("box")
    found = engine.search(
        photo,
        None if box is None else tuple(map(float, box.split(","))),
        options.get("k", 20),
        Filters(year=options.get("year")),
        options.get("at_least"),
    )
    result = search(client, photo.read_bytes(), **options)
    assert [answer["id"] for answer in result["answers"]] == [a.id for a in found.answers]
    ours = [answer["similarity"] for answer in result["answers"]]
    assert np.allclose(ours, [answer.similarity for answer in found.answers], atol=1e-5)
    assert [answer["model"] for answer in result["answers"]] == [
        a.metadata.model for a in found.answers
    ]
    assert result["n_hidden"] == found.n_hidden
    assert result["n_searched"] == found.n_searched
    assert result["is_exact"] and result["in_database"] == found.prediction.in_database
    for level, vote in (
        ("most_likely", found.prediction.model),
        ("make", found.prediction.make),
        ("year", found.prediction.year),
    ):
        assert vote is not None and result[level]["name"] == vote.name
        assert (vote.probability is None) == ("year" in options)  # filters
        for name in ("share", "probability", "known"):
            assert result[level][name] == pytest.approx(getattr(vote, name), abs=1e-3)


def test_an_image_of_the_database_is_not_its_own_answer(client: TestClient) -> None:
    result = client.get("/api/search", params={"id": 4, "k": 5}).json()
    ids = [answer["id"] for answer in result["answers"]]
    assert len(ids) == 5 and 4 not in ids
    assert [answer["rank"] for answer in result["answers"]] == [1, 2, 3, 4, 5]


def test_a_database_image_with_its_own_box_is_itself(client: TestClient, _served: Path) -> None:
    with Image.open(first_photo(_served, 4)) as image:
        width, height = image.size
    box = {"id": 4, "k": 5, "box": f"0,0,{width},{height}"}
    plain = client.get("/api/search", params={"id": 4, "k": 5}).json()
    boxed = client.get("/api/search", params=box).json()
    assert [a["id"] for a in boxed["answers"]] == [a["id"] for a in plain["answers"]]


def test_what_is_probably_missing_is_said_and_nothing_is_hidden(served: Path, app: App) -> None:
    save_some(served, known=-9.0, reject_below=0.5)
    result = search(app(served), drawn_photo())
    assert result["in_database"] is False and result["most_likely"]["is_rejected"]
    assert result["most_likely"]["probability"] < 0.5 and result["make"]["is_rejected"]
    assert len(result["answers"]) == 20 and result["n_hidden"] == 0


def test_get_names_the_image_and_no_path(client: TestClient, _served: Path) -> None:
    row = client.get("/api/images/2").json()
    assert row["id"] == 2 and row["photo"] == "/images/2" and len(row["sha256"]) == 64
    path = layout.IMAGE_INDEX.load(_served, "car_front.csv").sort_values("Index")["Path"].iloc[2]
    assert str(path) not in str(row)


@pytest.mark.parametrize("size", ["small", "large"])
def test_pictures_are_upright_jpegs(client: TestClient, size: str) -> None:
    response = client.get("/images/2", params={"size": size})
    assert response.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(response.content)).size == (72, 48)


def test_changes_need_the_token(served: Path, app: App, client: TestClient) -> None:
    with_token = app(served, token=TOKEN)
    for method, address in (("POST", "/api/images"), ("DELETE", "/api/images/1")):
        files = {"photo": drawn_photo()} if method == "POST" else None
        assert client.request(method, address, files=files).status_code == 403
        for wrong in ({}, {"authorization": TOKEN}, {"authorization": "Bearer other"}):
            answer = with_token.request(method, address, files=files, headers=wrong)
            assert answer.status_code == 401
    assert client.get("/healthz").json() == with_token.get("/healthz").json()


def test_what_is_added_is_found_and_what_is_removed_is_not(served: Path, app: App) -> None:
    client = app(served, token=TOKEN)
    n_image = client.get("/healthz").json()["images"]
    photo = drawn_photo()
    known = {"model": "Quux Foo", "make": "Quux", "year": "1999", "viewpoint": "side"}
    arguments = {"files": {"photo": photo}, "params": known, "headers": AUTHORIZED}
    added = client.post("/api/images", **arguments).json()
    assert added["is_new"] and client.get("/healthz").json()["images"] == n_image + 1
    assert client.post("/api/images", **arguments).json() == added | {"is_new": False}
    best = search(client, photo, make="quux")["answers"][0]
    assert best["id"] == added["id"] and best["similarity"] > 0.999
    assert client.get(f"/api/images/{added['id']}").json()["model"] == "Quux Foo"
    assert client.get(f"/images/{added['id']}").content[:2] == b"\xff\xd8"
    address = f"/api/images/{added['id']}"
    assert client.delete(address, headers=AUTHORIZED).status_code == 204
    assert client.delete(address, headers=AUTHORIZED).status_code == 404
    assert client.get(address).status_code == 404
    assert client.get("/healthz").json()["images"] == n_image


@pytest.mark.parametrize(
    ("params", "status", "words"),
    [
        ({"k": 0}, 422, "k:"),
        ({"k": "many"}, 422, "k:"),
        ({"k": 201}, 422, "k:"),
        ({"at_least": "nan"}, 422, "at_least:"),
        ({"make": "no such make"}, 400, "make"),
        ({"make": "x" * 300}, 422, "make:"),
        ({"box": "1,2,3"}, 400, "box"),
        ({"box": "nan,1,2,3"}, 400, "box"),
        ({"box": "0,0,inf,1"}, 400, "box"),
        ({"box": "30,30,10,10"}, 400, "box"),
        ({"box": "900,900,901,901"}, 400, "60 x 40"),
    ],
)
def test_wrong_values_are_named(client: TestClient, params: dict, status: int, words: str) -> None:
    response = client.post("/api/search", files={"photo": drawn_photo()}, params=params)
    assert response.status_code == status
    text = response.json()["error"]
    assert words in text and "--" not in text and "\n" not in text


@pytest.mark.parametrize("number", ["999999", "-1", "two", str(2**70), "1%00"])
def test_ids_that_are_none(client: TestClient, number: str) -> None:
    for address in (f"/api/images/{number}", f"/images/{number}", f"/api/search?id={number}"):
        response = client.get(address)
        assert response.status_code in (404, 422) and response.json()["error"]


def test_openapi_and_metrics(client: TestClient) -> None:
    search(client, drawn_photo())
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/search", "/api/images", "/api/images/{number}", "/healthz"} <= set(paths)
    text = client.get("/metrics").text
    assert 'requests_total{route="/api/search",status="200"}' in text
    assert 'step_seconds_count{step="encode"}' in text


def test_a_store_that_goes_is_named_and_comes_back(served: Path, app: App) -> None:
    client = app(served)
    search(client, drawn_photo())
    (served / "store").rename(served / "elsewhere")
    response = client.post("/api/search", files={"photo": drawn_photo()})
    assert response.status_code == 503 and "store" in response.json()["error"]
    assert int(response.headers["retry-after"]) >= 1
    page = client.get("/search?id=1", headers={"accept": "text/html"})
    assert page.status_code == 503 and "store" in page.text
    (served / "elsewhere").rename(served / "store")
    search(client, drawn_photo())
