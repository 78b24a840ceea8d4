"""What images are read from: an array, several arrays as one, or photos."""

from collections.abc import Sequence

import numpy as np

from retrieval.data.decoded_photos import DecodedPhotos


class ConcatenatedArrays:
    """Arrays of one form, one after the other, without a copy.

    >>> joined = ConcatenatedArrays([np.array([[1], [2]]), np.array([[3]])])
    >>> joined.shape, joined[np.array([2, 0])].tolist()
    ((3, 1), [[3], [1]])
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        """Join arrays of one dtype whose shapes differ in the first axis only."""
        forms = {(part.dtype, part.shape[1:]) for part in parts}
        if len(forms) != 1:
            raise ValueError(f"arrays of different forms cannot be joined: {forms}")
        self.parts = list(parts)
        self.dtype = parts[0].dtype
        self.starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows by their numbers, (n,) int64, none negative."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for number, places, own in self.places(rows):
            out[places] = self.parts[number][own]
        return out

    def places(self, rows: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Return where rows are: number of a part, positions in ``rows``, rows of the part."""
        of_row = np.searchsorted(self.starts, rows, side="right") - 1
        found = []
        for number in range(len(self.parts)):
            places = np.flatnonzero(of_row == number)
            if len(places):
                found.append((number, places, rows[places] - self.starts[number]))
        return found


Images = np.ndarray | ConcatenatedArrays | DecodedPhotos
