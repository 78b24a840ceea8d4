"""A limit on the pixels that all threads decode at once.

A file of a few kilobytes can hold a picture of gigabytes, and each thread decodes one.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MEGAPIXELS = 100  # at most 16 bytes a pixel: 1.6 GB


class PixelBudget:
    """Lets threads decode pictures while all of them together stay below a number of pixels."""

    def __init__(self, megapixels: int = MEGAPIXELS) -> None:
        """Set the budget, in millions of pixels."""
        self.megapixels = megapixels
        self._free = megapixels * 1_000_000
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, n_pixel: int) -> Iterator[None]:
        """Wait until a picture of ``n_pixel`` fits, and hold its share within the block.

        Raises:
            ValueError: It never fits.
        """
        if n_pixel > self.megapixels * 1_000_000:
            raise ValueError(
                f"it has {math.ceil(n_pixel / 1e5) / 10:g} megapixels to decode; at most "
                f"{self.megapixels} are read: scale it down"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._free >= n_pixel)
            self._free -= n_pixel
        try:
            yield
        finally:
            with self._changed:
                self._free += n_pixel
                self._changed.notify_all()
