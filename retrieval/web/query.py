"""The query of a page: a cached upload, or an image of the database."""

from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np
from fastapi import HTTPException

from retrieval.data.decode import Box
from retrieval.store.rows import LARGEST_ID, ImageRow
from retrieval.web.search_service import SearchService
from retrieval.web.upload_cache import CachedUpload


@dataclass(frozen=True)
class QueryPhoto:
    """A photo to search with; either ``upload`` or ``row`` is given.

    Attributes:
        name: Its parameter in addresses: ``photo`` or ``id``.
        key: The value of that.
        picture: Address of the picture to show.
        size: Width and height that boxes refer to; None: there is no file to cut from.
        upload: The upload.
        row: The image of the database.
    """

    name: str
    key: str
    picture: str
    size: tuple[int, int] | None
    upload: CachedUpload | None = None
    row: ImageRow | None = None

    @property
    def address(self) -> str:
        """Its part of an address, such as ``id=17``."""
        return urlencode({self.name: self.key})

    async def embed(
        self, service: SearchService, box: Box | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the embedding of a part, and its square where it was prepared."""
        if self.upload is not None:
            return await service.embed_cached(self.key, self.upload, box)
        assert self.row is not None
        return await service.embed_row(self.row, box)

    async def square(self, service: SearchService, box: Box | None) -> np.ndarray | None:
        """Return the part as the model sees it; None without a file."""
        _, square = await self.embed(service, box)
        if square is None and self.row is not None:
            return await service.in_thread(service.database.square, self.row)
        return square


async def find_query(service: SearchService, photo: str, number: str) -> QueryPhoto:
    """Return the query that the parameters ``photo`` and ``id`` of an address name.

    Raises:
        HTTPException: 404, with what to do.
    """
    if photo:
        upload = service.upload_cache.get(photo)
        if upload is None:
            raise HTTPException(
                404, "this photo is not kept any more: photos stay for an hour; choose it again"
            )
        return QueryPhoto("photo", photo, f"/photos/{photo}", upload.size, upload=upload)
    if not (number.isascii() and number.isdecimal() and int(number) <= LARGEST_ID):
        raise HTTPException(404, "choose a photo, or an image of the database")
    row = await service.in_thread(service.database.row, int(number))
    if row is None:
        raise HTTPException(404, f"there is no image {number} in the database")
    size = await service.in_thread(service.database.image_size, row)
    return QueryPhoto("id", number, f"/images/{number}?size=large", size, row=row)
