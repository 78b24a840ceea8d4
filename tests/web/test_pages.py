"""The page without JavaScript: every step is a link or a plain form."""

import re
import shutil
import time
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

import build_image_db
from process_data import data_info, image_matrix, publish
from retrieval.web.upload_cache import CachedUpload, UploadCache
from tests.calibrations import save_some
from tests.conftest import train_small
from tests.pages import Page
from tests.web.conftest import PAGE, App, drawn_photo, first_photo


def show(client: TestClient, address: str, status: int = 200) -> tuple[Page, str]:
    response = client.get(address, headers=PAGE)
    assert response.status_code == status
    page = Page(response.text)
    assert page.count["h1"] == 1 and page.count["main"] == 1
    assert len(set(page.ids)) == len(page.ids)
    labels = re.findall(r'<label for="([^"]+)"', response.text)
    inputs = re.findall(r"<(?:input|select)(?![^>]*hidden)[^>]* id=\"([^\"]+)\"", response.text)
    assert sorted(labels) == sorted(inputs)  # every field has a label
    assert not re.findall(r"<img(?![^>]* alt=)", response.text)
    return page, response.text


def upload(client: TestClient, content: bytes, **fields: str) -> str:
    response = client.post(
        "/search", files={"photo": content}, data=fields, headers=PAGE, follow_redirects=False
    )
    assert response.status_code == 303, response.text
    return response.headers["location"]


def test_an_upload_leads_to_answers_that_can_be_loaded_again(
    client: TestClient, _served: Path
) -> None:
    address = upload(client, first_photo(_served, 3).read_bytes(), k="5")
    page, text = show(client, address)
    assert "Exact search of 48 images" in page.text and "not in the database: " in page.text
    answers = re.findall(r'<a href="/search\?id=(\d+)">', text)
    assert answers[0] == "3" and len(answers) <= 5
    again, _ = show(client, address)
    assert re.sub(r"in \d+ ms", "", again.text) == re.sub(r"in \d+ ms", "", page.text)


def test_a_click_searches_with_the_answer(client: TestClient) -> None:
    _, text = show(client, "/search?id=3&k=4")
    answer = re.findall(r'<a href="(/search\?id=\d+)">', text)[0]
    _, text = show(client, answer)
    link = unescape(re.findall(r'<a href="([^"]+)">link to this search', text)[0])
    assert link == answer
    show(client, link)


def test_filters_and_boxes_keep_the_photo(client: TestClient, _served: Path) -> None:
    address = upload(client, first_photo(_served, 3).read_bytes())
    _, text = show(client, address + "&k=48")
    year = re.findall(r'<option value="(\d{4})">', text)[0]
    page, text = show(client, f"{address}&k=48&year={year}&box=5,5,60,40")
    assert f'<option value="{year}" selected' in text and 'value="5,5,60,40"' in text
    n_found = int(re.findall(r"search of (\d+) of 48", page.text)[0])
    assert len(re.findall(r'<li class="tile">', text)) == n_found > 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("k=0", "k: Input should be"),
        ("box=1,2", "box"),
        ("make=none", "make"),
        ("at_least=x", "at_least"),
    ],
)
def test_a_wrong_value_keeps_the_form(client: TestClient, query: str, words: str) -> None:
    page, text = show(client, f"/search?id=3&{query}", 400)
    assert words in page.text and 'name="make"' in text and "--" not in page.text


def test_missing_things_are_pages(client: TestClient) -> None:
    for address in ("/search?photo=gone", "/search?id=12345", "/search", "/none", "/photos/x"):
        page, _ = show(client, address, 404)
        assert "new search" in page.text
    response = client.post("/search", files={"photo": b""}, headers=PAGE)
    assert response.status_code == 400 and "choose a photo" in response.text
    response = client.post("/search", files={"photo": b"no photo"}, headers=PAGE)
    assert response.status_code == 415 and "JPEG" in response.text


def test_browse_leads_to_every_image(client: TestClient) -> None:
    _, text = show(client, "/browse")
    models = re.findall(r'href="(/browse\?model=[^"]+)"', text)
    assert len(models) == 6
    found = set()
    for model in models:
        found |= set(re.findall(r'href="/search\?id=(\d+)"', show(client, unescape(model))[1]))
    assert found == {str(number) for number in range(48)}


def test_names_are_escaped(served: Path, app: App) -> None:
    client = app(served, token="a token of tests")
    name = '<script>alert("1")</script>&"'
    client.post(
        "/api/images",
        files={"photo": drawn_photo()},
        params={"model": name, "make": name, "year": name},
        headers={"authorization": "Bearer a token of tests"},
    )
    for address in ("/browse", upload(client, drawn_photo())):
        _, text = show(client, address)
        assert "<script>alert" not in text and "&lt;script&gt;" in text


def test_explanations_are_shown_in_two_pictures(client: TestClient) -> None:
    _, text = show(client, "/why?id=3&answer=5")
    for address in re.findall(r'<img src="(/explanation[^"]+)"', text):
        picture = client.get(unescape(address))
        assert picture.status_code == 200 and picture.content[:2] == b"\xff\xd8"
    assert text.count("/explanation") == 2
    assert client.get("/why?id=3&answer=x", headers=PAGE).status_code == 404


def test_what_is_probably_missing_is_said_and_nothing_is_hidden(served: Path, app: App) -> None:
    save_some(served, known=-9.0, reject_below=0.5)
    client = app(served)
    page, text = show(client, "/search?id=3")
    assert "Probably not in the database" in page.text and "Nearest model" in page.text
    assert text.count('class="tile"') == 20 and "hidden" not in page.text
    viewpoint = client.get("/api/images/3").json()["viewpoint"].replace(" ", "+")
    page, text = show(client, f"/search?id=3&viewpoint={viewpoint}")  # the rest may have it
    assert "Most likely among these images" in page.text and "of the vote" in page.text
    assert "Probably not" not in page.text and "Without filters" in page.text


def test_the_model_comes_with_its_probability_make_and_year(client: TestClient) -> None:
    found = client.get("/api/search", params={"id": 3}).json()
    page, text = show(client, "/search?id=3")
    assert found["most_likely"]["name"] in page.text and 'class="levels"' in text
    for level in ("most_likely", "make", "year"):
        assert f"{100 * found[level]['probability']:.0f} %" in page.text
    page, _ = show(client, "/search?id=3&at_least=1")
    assert "20 answers are hidden: below the similarity 1" in page.text
    assert found["most_likely"]["name"] in page.text


def test_without_calibration_there_are_shares_of_the_vote(served: Path, app: App) -> None:
    (served / "calibration.json").unlink()
    page, text = show(app(served), "/search?id=3")
    assert text.count('class="tile"') == 20 and "process_data.calibrate gives" in page.text
    assert "% of the vote" in page.text


def test_photos_without_classes_have_no_names_and_no_vote(
    tmp_path: Path, _served: Path, app: App
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(6):
        shutil.copy(first_photo(_served, 8 * number), tmp_path / "photos" / f"{number}.jpg")
    data_info.run(tmp_path)
    image_matrix.run(tmp_path, "indexinfo.csv", "photos/", image_resolution=32)
    checkpoint = train_small(tmp_path, epoch=0, dim=None)
    build_image_db.run(tmp_path, checkpoint)
    publish.run(tmp_path)
    client = app(tmp_path, checkpoint.name)
    address = upload(client, first_photo(_served, 16).read_bytes())
    page, text = show(client, address)
    assert "6 most similar images" in page.text and "vote" not in page.text
    assert 'name="make"' not in text and 'name="model"' not in text and "class" not in page.text
    assert re.findall(r'<a href="/search\?id=(\d+)">', text)[0] == "2"
    for address in ("/", "/browse"):
        page, _ = show(client, address)
        assert "car" not in page.text and "model" not in page.text
    assert client.get("/api/images/2").json()["label"] == -1


def test_uploads_leave_the_cache() -> None:
    cache = UploadCache(max_bytes=25, kept_s=0.05)
    keys = [cache.put(CachedUpload(bytes(10), (1, 1))) for _ in range(3)]
    assert [cache.get(key) is None for key in keys] == [True, False, False]
    cache.add_part(keys[2], None, np.zeros(1, np.uint8), np.zeros(1, np.uint8))
    time.sleep(0.06)  # a search does not make it stay
    assert cache.get(keys[1]) is None and cache.get(keys[2]) is None


def test_what_was_made_of_an_upload_counts_in_the_cache() -> None:
    cache = UploadCache(max_bytes=1000)
    first, second = (cache.put(CachedUpload(bytes(10), (1, 1))) for _ in range(2))
    upload = cache.get(second)
    assert upload is not None and upload.n_byte == 10
    cache.add_part(second, None, np.zeros(4, np.float32), np.zeros((3, 18, 18), np.uint8))
    assert upload.n_byte == 10 + 16 + 972
    assert cache.get(first) is None and cache.get(second) is upload
