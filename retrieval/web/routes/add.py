"""Add an uploaded photo to the database."""

from typing import Annotated

from pydantic import BaseModel, Field

from retrieval.data.jpeg import thumbnail
from retrieval.data.spelling import composed
from retrieval.store.filters import Filter
from retrieval.store.name_lookup import class_and_make, classes_of_models
from retrieval.store.photo_ids import new_photo_ids
from retrieval.store.rows import ImageRow, sha256_of_bytes
from retrieval.web.image_database import store_failures
from retrieval.web.search_options import SearchOptions, parsed_options
from retrieval.web.search_service import SearchService

Name = Annotated[str, Field(max_length=200)]


class NewImage(BaseModel):
    """Metadata of a new image; empty: unknown. A model that is there keeps its class."""

    model: Name = ""
    make: Name = ""
    year: Name = ""
    viewpoint: Name = ""
    box: Annotated[Name, Field(description="the car: x1,y1,x2,y2 in pixels as displayed")] = ""


async def add_upload(service: SearchService, content: bytes, known: NewImage) -> tuple[int, bool]:
    """Encode a photo and add it; return its id and whether it was new.

    The store keeps a thumbnail and the embedding, not the file.

    Raises:
        InputError: The photo cannot be read, or the box is none.
    """
    box = parsed_options(box=known.box).box
    is_cropped = service.database.preprocessing.crop == "box"
    photo = await service.prepare(content, SearchOptions(box=box if is_cropped else None))
    sha256 = sha256_of_bytes(content)
    number = await service.in_thread(_new_id, service, sha256)
    if number is None:
        there = await service.in_thread(service.database.ids, Filter(sha256s=frozenset({sha256})))
        return int(there[0]), False
    embedding = await service.embed(photo.square)
    facets = await service.facets()
    label, make = class_and_make(known.model, classes_of_models(facets))
    row = ImageRow(
        id=number,
        embedding=embedding,
        sha256=sha256,
        label=label,
        make=composed(known.make) or make,
        model=composed(known.model),
        year=known.year,
        viewpoint=known.viewpoint,
        box=box,
        thumbnail=thumbnail(photo.square),
    )
    return number, await service.in_thread(service.database.add, row)


def _new_id(service: SearchService, sha256: str) -> int | None:
    with store_failures():
        return new_photo_ids(service.database.store, [sha256]).get(sha256)
