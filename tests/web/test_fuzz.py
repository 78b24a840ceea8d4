"""Broken uploads and senseless calls: never a 500, never a crash, memory bounded.

The suite runs some; the figures in docs/serving.md are of the long run:

    FUZZ_CASES=1000 python -m pytest tests/web/test_fuzz.py
"""

import io
import os
from collections import Counter
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval.data.image_formats import UPLOAD_FORMATS
from tests.web.conftest import PAGE, drawn_photo
from tests.web.test_protection import png_of_size

CASES = int(os.environ.get("FUZZ_CASES", "60"))
GROWTH = 400e6  # bytes of memory that all cases together may add
STATUSES = {200, 303, 400, 404, 405, 411, 413, 415, 422}
SEEN: Counter[tuple[str, int]] = Counter()

FUZZ = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def _counted() -> Iterator[None]:
    before = psutil.Process().memory_info().rss
    yield
    assert psutil.Process().memory_info().rss - before < GROWTH
    for (what, status), n in sorted(SEEN.items()):
        print(f"fuzz: {what}: {n} answers {status}")


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "green", "blue")]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=50)
    return file.getvalue()


PHOTOS = [drawn_photo(kind) for kind in (*UPLOAD_FORMATS, "TIFF", "ICO", "TGA", "PDF")]
PHOTOS += [animated("GIF"), animated("WEBP"), animated("PNG")]
PHOTOS += [drawn_photo(size=(1, 1)), drawn_photo(size=(3000, 2)), drawn_photo("PNG", (2, 2500))]
PHOTOS += [drawn_photo(progressive=True), png_of_size(60_000, 60_000), png_of_size(0, 5)]


@st.composite
def uploads(draw: st.DrawFn) -> bytes:
    """A photo, cut, with bytes changed or repeated, or bytes that are none."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    content = bytearray(draw(st.sampled_from(PHOTOS)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content) - 1))
        content[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=6))
        if not content:
            return b""
    if draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "0", "-1", "1e9", "nan", "inf", "1,2,3,4", "0,0,1e308,1", "../x"]),
    st.sampled_from(["\x00", "' OR 1=1 --", "{{7*7}}", "<script>", "%s%n", "9" * 400, "٣", "𝟙"]),
    st.integers().map(str),
    st.floats().map(str),
)
NAMES = ("k", "at_least", "make", "model", "year", "viewpoint", "box")
NAMES += ("id", "photo", "answer", "side", "page", "size")
ODD = st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=5)
QUERIES = st.one_of(st.just({}), st.just({"k": "3"}), ODD)
FILE_NAMES = st.one_of(st.text(max_size=30), st.sampled_from(["../x.jpg", "a\x00b", "", "x" * 999]))


def seen(what: str, status: int) -> None:
    SEEN[what, status] += 1
    assert status in STATUSES, f"{what}: {status}"


@FUZZ
@given(content=uploads(), name=FILE_NAMES, query=QUERIES, kind=TEXTS)
def test_uploads(client: TestClient, content: bytes, name: str, query: dict, kind: str) -> None:
    kind = "".join(letter for letter in kind if letter.isascii() and letter.isprintable())
    response = client.post(
        "/api/search", files={"photo": (name, content, kind or "image/jpeg")}, params=query
    )
    seen("upload to the API", response.status_code)
    assert "error" in response.json() or response.status_code == 200
    if response.status_code == 200:
        similarities = [answer["similarity"] for answer in response.json()["answers"]]
        assert np.isfinite(similarities).all()
    fields = {key: value for key, value in query.items() if key != "photo"}
    files = {"photo": (name, content, kind or "image/jpeg")}
    page = client.post("/search", files=files, data=fields, headers=PAGE, follow_redirects=True)
    seen("upload to the page", page.status_code)
    assert page.text.startswith("<!doctype html>")


KINDS = ("multipart/form-data", "multipart/form-data; boundary=x", "application/json")
KINDS += ("text/plain", "application/x-www-form-urlencoded")
ADDRESSES = ("/", "/search", "/browse", "/why", "/explanation", "/api/search", "/healthz")
ADDRESSES += ("/images/1", "/api/images/1", "/photos/x", "/openapi.json", "/static/search.js")


@FUZZ
@given(
    method=st.sampled_from([*["GET"] * 8, "POST", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"]),
    address=st.one_of(
        st.sampled_from(ADDRESSES),
        st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=30).map(
            lambda text: "/images/" + text
        ),
        st.integers().map(lambda number: f"/api/images/{number}"),
    ),
    query=QUERIES,
    body=st.one_of(st.just(b""), st.binary(max_size=200)),
    kind=st.sampled_from(KINDS),
    accept=st.sampled_from(["text/html", "application/json", "*/*"]),
)
def test_calls(
    client: TestClient,
    method: str,
    address: str,
    query: dict,
    body: bytes,
    kind: str,
    accept: str,
) -> None:
    response = client.request(
        method,
        "http://testserver" + address.replace("?", "").replace("#", ""),
        params=query,
        content=body,
        headers={"content-type": kind, "accept": accept},
    )
    seen("call", response.status_code if response.status_code != 403 else 405)
