"""The HTTP API: search, and metadata of an image. /openapi.json describes it."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query

from retrieval.store.rows import LARGEST_ID
from retrieval.web.api_models import ApiImage, ApiResult
from retrieval.web.routes.parameters import (
    OF_SEARCHES,
    ImageId,
    Root,
    Service,
    Takes,
    Upload,
    check_photo_form,
)
from retrieval.web.search_options import OPTIONS, SearchOptions

router = APIRouter(prefix="/api", tags=["images"], responses=OF_SEARCHES)
Options = Annotated[SearchOptions, Query()]


@router.post(
    "/search",
    summary="Search with a photo",
    dependencies=[Depends(Takes(*OPTIONS)), Depends(check_photo_form)],
)
async def search_with_photo(
    photo: Upload, options: Options, service: Service, root: Root
) -> ApiResult:
    part = options.part
    content = await photo.read()
    started = time.perf_counter()
    with service.slots.take():
        square = await service.prepare(content, part)
        result = await service.search(square, options)
    return ApiResult.of(result, time.perf_counter() - started, root)


@router.get(
    "/search",
    summary="Search with an image of the database",
    dependencies=[Depends(Takes("id", *OPTIONS))],
)
async def search_with_image(
    id: Annotated[int, Query(ge=0, le=LARGEST_ID, description="the image; it is left out")],
    options: Options,
    service: Service,
    root: Root,
) -> ApiResult:
    part = options.part
    started = time.perf_counter()
    with service.slots.take():
        row = await service.in_thread(service.database.row, id)
        if row is None:
            raise HTTPException(404, f"there is no image {id}")
        embedding, _ = await service.embed_row(row, part)
        result = await service.search(embedding, options, exclude_id=id)
    return ApiResult.of(result, time.perf_counter() - started, root)


@router.get("/images/{number}", summary="Get an image's metadata", dependencies=[Depends(Takes())])
async def get_image(number: ImageId, service: Service, root: Root) -> ApiImage:
    row = await service.in_thread(service.database.row, number)
    if row is None:
        raise HTTPException(404, f"there is no image {number}")
    return ApiImage.of(row, root)
