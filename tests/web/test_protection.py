"""Security headers, limits on uploads, and what errors must not reveal."""

import asyncio
import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from PIL import Image, PngImagePlugin

from retrieval.data import image_formats
from retrieval.photo_search.preprocessing import Preprocessing, UnreadablePhoto
from retrieval.web import uploads
from retrieval.web.middleware import protection
from retrieval.web.middleware.protection import HEADERS, BodyLimit
from tests.web.conftest import PAGE, TOKEN, App, drawn_photo

PREPROCESSING = Preprocessing(32, "Gaussian", "none")
ADDRESSES = ["/", "/browse", "/search?id=1", "/search", "/nothing", "/static/search.js"]
ADDRESSES += ["/images/1", "/api/images/1", "/api/images/x", "/healthz", "/metrics"]
GPS, CAMERA = "51 deg 30", "camera of the sender"


@pytest.mark.parametrize("address", ADDRESSES)
def test_headers_are_on_every_response(client: TestClient, address: str) -> None:
    for accept in ("text/html", "*/*"):
        response = client.get(address, headers={"accept": accept})
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
        assert response.status_code < 500


def test_no_page_asks_for_anything_outside(client: TestClient) -> None:
    for address in ("/", "/browse", "/search?id=1", "/why?id=1&answer=2", "/nothing"):
        text = client.get(address, headers=PAGE).text
        assert "//" not in text.replace("<!doctype", "") or "http" not in text
        assert "style=" not in text and "<script>" not in text  # the policy would block them


def test_another_name_of_the_server_is_refused(_served: Path, app: App) -> None:
    client = app(_served, allowed_hosts=["localhost", "testserver"])
    assert client.get("/healthz").status_code == 200
    rebound = client.get("/healthz", headers={"host": "evil.example"})
    assert rebound.status_code == 400


@pytest.mark.parametrize("address", ["/search", "/api/search"])
def test_a_page_of_another_site_sends_nothing(client: TestClient, address: str) -> None:
    files = {"photo": ("car.png", drawn_photo(), "image/png")}
    foreign = client.post(address, files=files, headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code == 403
    assert "another site" in foreign.json()["error"]
    for site in ("same-origin", "none"):
        own = client.post(address, files=files, headers={"sec-fetch-site": site})
        assert own.status_code == 200
    link = client.get("/search?id=1", headers={"sec-fetch-site": "cross-site"})
    assert link.status_code == 200


def chunks(n_byte: int) -> Iterator[bytes]:
    head = b'--b\r\nContent-Disposition: form-data; name="photo"; filename="x"\r\n\r\n'
    yield head
    for _ in range(0, n_byte, 1_000_000):
        yield bytes(1_000_000)
    yield b"\r\n--b--\r\n"


@pytest.mark.parametrize("address", ["/search", "/api/search"])
def test_bodies_are_bounded_declared_or_not(client: TestClient, address: str) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    declared = kind | {"content-length": str(protection.BODY_BYTES + 1)}
    assert client.post(address, content=b"--b", headers=declared).status_code == 413
    too_much = chunks(protection.BODY_BYTES + 1_000_000)
    assert client.post(address, content=too_much, headers=kind).status_code == 413
    fits = client.post(address, content=chunks(protection.BODY_BYTES - 1_000_000), headers=kind)
    assert fits.status_code == 415  # zeros are no photo


def test_a_body_that_never_ends_is_given_up() -> None:
    said: list[int] = []

    async def application(scope: dict, receive: Callable, send: Callable) -> None:
        try:
            while True:
                await receive()
        except HTTPException as error:
            said.append(error.status_code)

    async def slow() -> dict:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    limit = BodyLimit(application, seconds=0.1)  # type: ignore[arg-type]
    asyncio.run(limit({"type": "http", "headers": []}, slow, slow))  # type: ignore[arg-type]
    assert said == [408]


def png_of_size(width: int, height: int) -> bytes:
    """Return a small file that says it holds many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + sum_

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12_000, 9_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_they_are_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decoded)
    for work in (
        lambda: PREPROCESSING.square(io.BytesIO(png_of_size(*size))),
        lambda: uploads.clean_jpeg(png_of_size(*size), 100),
    ):
        with pytest.raises(UnreadablePhoto) as error:
            work()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["TIFF", "ICO", "PPM", "PDF", "TGA", "EPS"])
def test_other_formats_are_refused(client: TestClient, kind: str) -> None:
    options = {"resolution": 72} if kind == "PDF" else {}
    response = client.post("/api/search", files={"photo": drawn_photo(kind, **options)})
    assert response.status_code == 415 and "JPEG" in response.json()["error"]


@pytest.mark.parametrize("kind", image_formats.UPLOAD_FORMATS)
def test_allowed_formats_are_taken(client: TestClient, kind: str) -> None:
    response = client.post("/api/search", files={"photo": drawn_photo(kind)})
    assert response.status_code == 200


def with_metadata(turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = turn, CAMERA
    exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)
    return drawn_photo(exif=exif.tobytes(), comment=GPS.encode())


def test_photos_are_turned_and_what_is_kept_tells_nothing(client: TestClient) -> None:
    files = {"photo": ("my secret name.jpg", with_metadata(6), "image/jpeg")}
    leads_to = client.post("/search", files=files, follow_redirects=False)
    assert leads_to.status_code == 303
    page = client.get(leads_to.headers["location"], headers=PAGE).text
    assert "40 × 60 pixels" in page and "secret" not in page
    key = leads_to.headers["location"].split("photo=")[1].split("&")[0]
    kept = client.get(f"/photos/{key}").content
    assert CAMERA.encode() not in kept and GPS.encode() not in kept and b"Exif" not in kept
    with Image.open(io.BytesIO(kept)) as image:
        assert image.size == (40, 60) and not image.getexif()


OPENED: list[str] | None = None


def _audit(event: str, arguments: tuple) -> None:
    if OPENED is not None and event in ("open", "os.listdir", "os.scandir", "os.remove"):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_audit)


def test_no_path_of_a_client_reaches_the_disk(served: Path, app: App) -> None:
    """Every file that is opened while hostile names come in is one of ours."""
    global OPENED
    client = app(served, token=TOKEN)
    secret = served / "marker-secret.jpg"
    secret.write_bytes(drawn_photo())
    names = ["../marker-secret.jpg", str(secret), "marker-secret.jpg", "..%2fmarker-secret.jpg"]
    OPENED = []
    try:
        for name in names:
            for address in ("/images/", "/photos/", "/api/images/", "/static/", "/static/../"):
                assert client.get(address + name).status_code in (404, 405, 422)
            for field in ("id", "photo", "model", "make", "box", "answer", "size"):
                for path in ("/search", "/why", "/browse", "/explanation", "/api/search"):
                    client.get(path, params={"id": 1, field: name})
            known = {"model": name, "make": name, "year": name, "viewpoint": name}
            files = {"photo": (name, drawn_photo(), "image/jpeg")}
            headers = {"authorization": f"Bearer {TOKEN}"}
            added = client.post("/api/images", files=files, params=known, headers=headers).json()
            client.get(f"/images/{added['id']}")
            client.post("/search", files=files)
            client.delete(f"/api/images/{added['id']}", headers=headers)
        opened = OPENED
    finally:
        OPENED = None
    assert opened
    # Only the server of static files may look for a name, and only below its folder.
    assert not [path for path in opened if "marker-secret" in path and "static" not in path]
    assert not [path for path in opened if Path(path).resolve() == secret]
