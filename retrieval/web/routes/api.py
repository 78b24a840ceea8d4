"""The HTTP API: search, get, add and remove images. /openapi.json describes it."""

import time
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    Depends,
    File,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    UploadFile,
)

from retrieval.store.rows import LARGEST_ID
from retrieval.web.api_models import (
    ApiAdded,
    ApiError,
    ApiImage,
    ApiOptions,
    ApiResult,
)
from retrieval.web.middleware.protection import check_token
from retrieval.web.parameters import Takes, check_photo_form
from retrieval.web.routes.add import NewImage, add_upload
from retrieval.web.search_service import SearchService

ImageId = Annotated[int, Path(ge=0, le=LARGEST_ID, description="id of an image of the database")]
Upload = Annotated[UploadFile, File(description="JPEG, PNG, WEBP, GIF or BMP")]

ERRORS = {
    400: "a value is wrong",
    404: "there is no such image",
    408: "the body took too long",
    413: "the body is too large",
    415: "the photo cannot be read",
    422: "a value is missing, of another type or out of range",
    503: "too many requests wait, or the store does not answer",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return errors as the schema describes them."""
    return {code: {"model": ApiError, "description": ERRORS[code]} for code in statuses}


router = APIRouter(
    prefix="/api",
    tags=["images"],
    responses=documented(*ERRORS),
)


async def service_of(request: Request) -> SearchService:
    """Return the service of the application."""
    found: SearchService = request.app.state.service
    return found


async def root_of(request: Request) -> str:
    """Return the path prefix of a proxy."""
    found: str = request.app.state.root_path
    return found


async def _may_change(
    request: Request, authorization: Annotated[str | None, Header()] = None
) -> None:
    check_token(authorization, request.app.state.token)


# Dependencies are coroutines: others would each go through a thread.
Service = Annotated[SearchService, Depends(service_of)]
Root = Annotated[str, Depends(root_of)]
Options = Annotated[ApiOptions, Query()]
OPTIONS = tuple(ApiOptions.model_fields)
CHANGES = [Depends(_may_change)]
REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ApiError, "description": "the token is missing or wrong"},
    403: {"model": ApiError, "description": "the server takes no changes"},
}


@router.post(
    "/search",
    summary="Search with a photo",
    dependencies=[Depends(Takes(*OPTIONS)), Depends(check_photo_form)],
)
async def search_with_photo(
    photo: Upload, options: Options, service: Service, root: Root
) -> ApiResult:
    asked = options.options()
    content = await photo.read()
    started = time.perf_counter()
    with service.slots.take():
        prepared = await service.prepare(content, asked)
        found = await service.search(prepared.square, asked, None, started)
    return ApiResult.of_result(found, root)


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
    asked = options.options()
    started = time.perf_counter()
    with service.slots.take():
        rows = await service.in_thread(service.database.rows, [id])
        if not rows:
            raise HTTPException(404, f"there is no image {id}")
        embedding, _ = await service.embed_row(rows[0], asked.box)
        found = await service.search(embedding, asked, id, started)
    return ApiResult.of_result(found, root)


@router.get("/images/{number}", summary="Get an image's metadata", dependencies=[Depends(Takes())])
async def get_image(number: ImageId, service: Service, root: Root) -> ApiImage:
    rows = await service.in_thread(service.database.rows, [number])
    if not rows:
        raise HTTPException(404, f"there is no image {number}")
    return ApiImage.of_row(rows[0], root)


@router.post(
    "/images",
    summary="Add a photo",
    dependencies=[*CHANGES, Depends(Takes(*NewImage.model_fields)), Depends(check_photo_form)],
    responses=REFUSED,
)
async def add_image(
    photo: Upload, known: Annotated[NewImage, Query()], service: Service
) -> ApiAdded:
    content = await photo.read()
    with service.slots.take():
        number, is_new = await add_upload(service, content, known)
    return ApiAdded(id=number, is_new=is_new)


@router.delete(
    "/images/{number}",
    summary="Remove an image",
    status_code=204,
    dependencies=[*CHANGES, Depends(Takes())],
    responses=REFUSED,
)
async def remove_image(number: ImageId, service: Service) -> None:
    if not await service.in_thread(service.database.remove, number):
        raise HTTPException(404, f"there is no image {number}")
