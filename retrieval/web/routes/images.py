"""Pictures by id or key: images of the database, cached uploads, explanations."""

import hashlib
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from starlette.responses import Response

from retrieval.data.jpeg import encode_jpeg, picture
from retrieval.photo_search.boxes import parse_box
from retrieval.photo_search.preprocessing import UnreadablePhoto
from retrieval.store.rows import LARGEST_ID, ImageRow
from retrieval.web.image_database import ImageDatabase
from retrieval.web.query import find_query
from retrieval.web.routes.parameters import ImageId, Service, Takes, documented
from retrieval.web.search_service import SearchService
from retrieval.web.uploads import QUALITY, clean_jpeg

SIDES = {"small": 320, "large": 1600}  # pixels of the longer side
KEEP = {"cache-control": "private, max-age=3600"}  # a key is never given to another upload
ASK_AGAIN = "private, no-cache"  # another database may have another image under the same id

router = APIRouter(tags=["pictures"])
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "the picture with the ETag of If-None-Match is still right"}
}


@router.get(
    "/images/{number}",
    summary="The picture of an image",
    dependencies=[Depends(Takes("size"))],
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, **NOT_MODIFIED, **documented(404, 422, 503)},
)
async def image(
    number: ImageId,
    request: Request,
    service: Service,
    size: Literal["small", "large"] = "small",
) -> Response:
    database, side = service.database, SIDES[size]
    row = await service.in_thread(database.row, number)
    if row is None:
        raise HTTPException(404, f"there is no image {number}")
    tag = await service.in_thread(_tag_of_row, database, row)
    headers = _headers(tag, side)
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    jpeg = await service.in_thread(_jpeg, database, row, side)
    return Response(jpeg, media_type="image/jpeg", headers=headers)


@router.get("/photos/{key}", include_in_schema=False, dependencies=[Depends(Takes())])
async def cached_photo(key: str, service: Service) -> Response:
    upload = service.upload_cache.get(key)
    if upload is None:
        raise HTTPException(404, "this photo is not kept any more; choose it again")
    return Response(upload.jpeg, media_type="image/jpeg", headers=KEEP)


@router.get(
    "/explanation",
    include_in_schema=False,
    dependencies=[Depends(Takes("photo", "id", "answer", "side", "box"))],
)
async def explanation(
    request: Request,
    service: Service,
    answer: Annotated[int, Query(ge=0, le=LARGEST_ID)],
    side: Literal["photo", "answer"],
    photo: str = "",
    id: str = "",
    box: str = "",
) -> Response:
    """A heat map of the regions that contribute to a similarity, on the photo or the answer."""
    with service.slots.take():
        source = await find_query(service, photo, id)
        database, part = service.database, parse_box(box) if box.strip() else None
        row = await service.in_thread(database.row, answer)
        if row is None:
            raise HTTPException(404, f"there is no image {answer}")
        tags = [
            photo if image is None else await service.in_thread(_tag_of_row, database, image)
            for image in (source.row, row)
        ]
        headers = _headers(*tags, database.store.collection.checkpoint_sha256, part, side)
        if _is_known(request, headers):
            return Response(status_code=304, headers=headers)
        of_photo = await source.square(service, part)
        of_answer = await service.in_thread(database.square, row)
        if of_photo is None or of_answer is None:
            raise HTTPException(404, "the image file is not here, so nothing can be explained")
        pictures = await service.in_thread(_overlays, service, of_photo, of_answer)
    return Response(pictures[side], media_type="image/jpeg", headers=headers)


def _headers(*made_from: object) -> dict[str, str]:
    """Return the headers of a picture: its tag names all that it is made from."""
    digest = hashlib.sha256(repr(made_from).encode()).hexdigest()
    return {"cache-control": ASK_AGAIN, "etag": f'"{digest[:32]}"'}


def _is_known(request: Request, headers: dict[str, str]) -> bool:
    """Return whether the client has the picture already."""
    given = request.headers.get("if-none-match", "").split(",")
    return any(tag.strip().removeprefix("W/") in ("*", headers["etag"]) for tag in given)


def _tag_of_row(database: ImageDatabase, row: ImageRow) -> str:
    """Return the ETag of a row's picture, from its file or its thumbnail."""
    if database.image_file(row) is not None:
        return row.sha256
    return hashlib.sha256(row.thumbnail).hexdigest()


def _jpeg(database: ImageDatabase, row: ImageRow, side: int) -> bytes:
    path = database.image_file(row)
    if path is not None:
        try:
            return clean_jpeg(path, side)[0]
        except UnreadablePhoto:  # damaged since
            pass
    return row.thumbnail


def _overlays(service: SearchService, photo: np.ndarray, answer: np.ndarray) -> dict[str, bytes]:
    from retrieval.photo_search.explanation import overlay, similarity_maps  # imports torch

    maps = similarity_maps(service.database.engine.encoder, photo, answer)
    return {
        "photo": encode_jpeg(picture(overlay(photo, maps.of_query)), QUALITY),
        "answer": encode_jpeg(picture(overlay(answer, maps.of_answer)), QUALITY),
    }
