"""Pictures are kept by a browser only as long as they show what they showed."""

import io
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from retrieval.store.backends import open_store
from tests.web.conftest import PAGE, App, drawn_photo, first_photo

EXPLANATION = "/explanation?id=3&answer=5&side=answer"


@pytest.mark.parametrize("address", ["/images/2", "/images/2?size=large", EXPLANATION])
def test_a_picture_that_the_client_has_is_not_sent_again(client: TestClient, address: str) -> None:
    first = client.get(address)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for given in (tag, f'"other", W/{tag}', "*"):
        again = client.get(address, headers={"if-none-match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(address, headers={"if-none-match": '"other"'}).content == first.content


def test_another_image_under_the_same_id_is_another_picture(served: Path, app: App) -> None:
    client = app(served)
    addresses = ("/images/5", "/images/5?size=large", EXPLANATION)
    before = {address: client.get(address).headers["etag"] for address in addresses}
    assert len(set(before.values())) == len(addresses)
    with open_store(served) as store:
        other, row = store.get([6, 5])
        store.remove([5])
        store.add([replace(other, id=row.id)])
    for address, tag in before.items():
        answer = client.get(address, headers={"if-none-match": tag})
        assert answer.status_code == 200 and answer.headers["etag"] != tag
    assert client.get("/images/5").content == client.get("/images/6").content


def test_a_photo_that_was_replaced_is_shown_as_it_was_published(
    served: Path, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    client = app(served)
    tag = client.get("/images/0").headers["etag"]
    first_photo(served).write_bytes(drawn_photo(size=(90, 90)))
    answer = client.get("/images/0", headers={"if-none-match": tag})
    with open_store(served) as store:
        (row,) = store.get([0])
    assert answer.status_code == 200 and answer.content == row.thumbnail
    assert Image.open(io.BytesIO(answer.content)).size == (32, 32)
    # Neither a part of it nor an explanation can be had of another photo.
    assert client.get("/explanation?id=0&answer=5&side=photo").status_code == 404
    assert client.get("/search?id=0&box=0,0,9,9", headers=PAGE).status_code == 400
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1 and "is another photo than when it was published" in said[0].message
