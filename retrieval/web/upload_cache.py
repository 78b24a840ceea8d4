"""Cache of recent uploads in memory, so that filters and boxes need no second upload."""

import io
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from retrieval.data.decode import Box
from retrieval.photo_search.preprocessing import Preprocessing, check_box

SHOWN_SIDE = 1600  # pixels of the longer side of what is kept
KEPT_S = 3600.0
KEPT_BYTES = 128_000_000


@dataclass
class CachedUpload:
    """An upload.

    Attributes:
        jpeg: The photo made anew, without metadata, its longer side at most ``SHOWN_SIDE``.
        size: Width and height of the photo that was sent, as displayed: what boxes refer to.
        embeddings: Embedding (dim,) and prepared square of each part that was searched with.
        kept_at: When it was put here, in seconds of a clock that only runs forward.
    """

    jpeg: bytes
    size: tuple[int, int]
    embeddings: dict[Box | None, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    kept_at: float = field(default_factory=time.monotonic)

    @property
    def n_byte(self) -> int:
        """Memory that it takes: the picture, and what was made of its parts."""
        parts = self.embeddings.values()
        return len(self.jpeg) + sum(array.nbytes for part in parts for array in part)


class UploadCache:
    """Keeps uploads under random keys; the least recently used go first."""

    def __init__(self, kept_bytes: int = KEPT_BYTES, kept_s: float = KEPT_S) -> None:
        """Set the bounds, in bytes and in seconds."""
        self._kept_bytes, self._kept_s = kept_bytes, kept_s
        self._photos: OrderedDict[str, CachedUpload] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._photos)

    def put(self, photo: CachedUpload) -> str:
        """Keep a photo, and return its key, which nobody can guess."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._photos[key] = photo
        self.trim()
        return key

    def trim(self) -> None:
        """Drop the oldest photos while all together take too much memory."""
        with self._lock:
            total = sum(kept.n_byte for kept in self._photos.values())
            while total > self._kept_bytes and len(self._photos) > 1:
                _, oldest = self._photos.popitem(last=False)
                total -= oldest.n_byte

    def get(self, key: str) -> CachedUpload | None:
        """Return a photo, None if it is not kept any more."""
        with self._lock:
            photo = self._photos.get(key)
            if photo is None:
                return None
            if time.monotonic() - photo.kept_at > self._kept_s:
                del self._photos[key]
                return None
            self._photos.move_to_end(key)
            return photo


def square_of_cached(
    photo: CachedUpload, preprocessing: Preprocessing, box: Box | None
) -> np.ndarray:
    """Prepare a part of a kept photo, (3, side, side) uint8.

    It is cut from the kept JPEG, so that the similarity may differ in the third decimal from that
    of the part that was sent.

    Args:
        photo: The photo.
        preprocessing: How the database's images were prepared.
        box: x1, y1, x2, y2 in pixels of the photo that was sent; None: the whole.

    Raises:
        InputError: The box lies outside of the photo.
    """
    if box is None:
        return preprocessing.square(io.BytesIO(photo.jpeg))
    check_box(box, photo.size)
    shrink = min(1.0, SHOWN_SIDE / max(photo.size))
    x1, y1, x2, y2 = (corner * shrink for corner in box)
    return preprocessing.square(io.BytesIO(photo.jpeg), (x1, y1, x2, y2))
