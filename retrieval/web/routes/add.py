"""Add and remove images, for clients with the token."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, Field

from retrieval.data.jpeg import thumbnail
from retrieval.data.spelling import composed
from retrieval.photo_search.boxes import parse_box
from retrieval.store.filters import Filter
from retrieval.store.name_lookup import class_and_make, classes_of_models
from retrieval.store.photo_ids import new_photo_ids
from retrieval.store.rows import ImageRow, sha256_of_bytes
from retrieval.web.api_models import ApiAdded
from retrieval.web.routes.parameters import (
    OF_CHANGES,
    ImageId,
    Service,
    Takes,
    Upload,
    check_photo_form,
    check_token,
)
from retrieval.web.search_service import SearchService

router = APIRouter(
    prefix="/api", tags=["images"], responses=OF_CHANGES, dependencies=[Depends(check_token)]
)
Text = Annotated[str, Field(max_length=200)]


class NewImage(BaseModel):
    """Metadata of a new image; empty: unknown. A model that is there keeps its class."""

    model: Text = ""
    make: Text = ""
    year: Text = ""
    viewpoint: Text = ""
    box: Annotated[Text, Field(description="the car: x1,y1,x2,y2 in pixels as displayed")] = ""


@router.post(
    "/images",
    summary="Add a photo",
    dependencies=[Depends(Takes(*NewImage.model_fields)), Depends(check_photo_form)],
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
    dependencies=[Depends(Takes())],
)
async def remove_image(number: ImageId, service: Service) -> None:
    if not await service.in_thread(service.database.remove, number):
        raise HTTPException(404, f"there is no image {number}")


async def add_upload(service: SearchService, content: bytes, known: NewImage) -> tuple[int, bool]:
    """Encode a photo and add it; return its id and whether it was new.

    The store keeps a thumbnail and the embedding, not the file.

    Raises:
        InputError: The photo cannot be read, or the box is none.
    """
    box = parse_box(known.box) if known.box.strip() else None
    is_cropped = service.database.engine.preprocessing.crop == "box"
    square = await service.prepare(content, box if is_cropped else None)
    sha256, store = sha256_of_bytes(content), service.database.store
    new_ids = await service.in_thread(new_photo_ids, store, [sha256])
    if sha256 not in new_ids:
        there = await service.in_thread(store.ids, Filter(sha256s=frozenset({sha256})))
        return int(there[0]), False
    embedding = await service.embed(square)
    label, make = class_and_make(known.model, classes_of_models(await service.facets()))
    row = ImageRow(
        id=new_ids[sha256],
        embedding=embedding,
        sha256=sha256,
        label=label,
        make=composed(known.make) or make,
        model=composed(known.model),
        year=known.year,
        viewpoint=known.viewpoint,
        box=box,
        thumbnail=thumbnail(square),
    )
    return row.id, await service.in_thread(service.database.add, row)
