"""Cache of recent uploads in memory, so that filters and boxes need no second upload."""

import io
import secrets
import time
from dataclasses import dataclass, field

import numpy as np
from cachetools import TLRUCache

from retrieval.data.decode import Box
from retrieval.photo_search.preprocessing import Preprocessing, check_box

SHOWN_SIDE = 1600  # pixels of the longer side of what is kept
KEPT_S = 3600.0
MAX_BYTES = 128_000_000
MAX_PARTS = 16  # of one upload


@dataclass
class CachedUpload:
    """An upload.

    Attributes:
        jpeg: The photo made anew, without metadata, its longer side at most ``SHOWN_SIDE``.
        size: Width and height of the photo that was sent, as displayed: what boxes refer to.
        parts: Embedding (dim,) and prepared square of each part that was searched with.
        cached_at: When it was sent, in seconds of ``time.monotonic``.
    """

    jpeg: bytes
    size: tuple[int, int]
    parts: dict[Box | None, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    cached_at: float = field(default_factory=time.monotonic)

    @property
    def n_byte(self) -> int:
        """Memory that it takes: the picture, and what was made of its parts."""
        arrays = (array for part in self.parts.values() for array in part)
        return len(self.jpeg) + sum(array.nbytes for array in arrays)


class UploadCache:
    """Keeps uploads under random keys; the least recently used go first. For one thread."""

    def __init__(self, max_bytes: int = MAX_BYTES, kept_s: float = KEPT_S) -> None:
        """Set the bounds, in bytes and in seconds."""
        self._uploads: TLRUCache[str, CachedUpload] = TLRUCache(
            max_bytes,
            ttu=lambda key, upload, now: upload.cached_at + kept_s,
            getsizeof=lambda upload: upload.n_byte,
        )

    def put(self, upload: CachedUpload) -> str:
        """Keep an upload, and return its key, which nobody can guess."""
        key = secrets.token_urlsafe(16)
        self._uploads[key] = upload
        return key

    def get(self, key: str) -> CachedUpload | None:
        """Return an upload, None if it is not kept any more."""
        return self._uploads.get(key)

    def add_part(
        self, key: str, box: Box | None, embedding: np.ndarray, square: np.ndarray
    ) -> None:
        """Cache the result for a part of an upload; evict the oldest beyond the limit."""
        upload = self._uploads.get(key)
        if upload is not None:
            if len(upload.parts) >= MAX_PARTS:
                upload.parts.pop(next(iter(upload.parts)))
            upload.parts[box] = embedding, square
            self._uploads[key] = upload  # its size is another now


def square_of_cached(
    upload: CachedUpload, preprocessing: Preprocessing, box: Box | None
) -> np.ndarray:
    """Prepare a part of a cached upload, (3, side, side) uint8.

    It is cut from the kept JPEG, so that the similarity may differ in the third decimal from that
    of the part that was sent.

    Args:
        upload: The upload.
        preprocessing: How the database's images were prepared.
        box: x1, y1, x2, y2 in pixels of the photo that was sent; None: the whole.

    Raises:
        InputError: The box lies outside of the photo.
    """
    if box is None:
        return preprocessing.square(io.BytesIO(upload.jpeg))
    check_box(box, upload.size)
    shrink = min(1.0, SHOWN_SIDE / max(upload.size))
    x1, y1, x2, y2 = (corner * shrink for corner in box)
    return preprocessing.square(io.BytesIO(upload.jpeg), (x1, y1, x2, y2))
