"""Choose the faster of two ways to do the same, by recent times."""

FIRST_TURNS = 8  # calls after which the other way is tried
MOST_TURNS = 512  # ... at last, if it loses again and again
SUDDEN = 2.0  # times as slow as usual: the other way is tried within the first turns again
MEMORY = 0.8  # weight of the usual time in the next one


class FasterWay:
    """Says which way to take, and learns from how long each took. Calls from threads are fine.

    Attributes:
        best: The way to take, 0 or 1.
    """

    def __init__(self) -> None:
        self.best = 0
        self._usual = float("inf")  # seconds of the best way
        self._turns = self._left = FIRST_TURNS

    def next(self) -> int:
        """Return the way to take now: the best, or the other one to try it."""
        self._left -= 1
        return self.best if self._left >= 0 else 1 - self.best

    def took(self, way: int, seconds: float) -> None:
        """Learn how long a way took."""
        if way == self.best:
            if seconds > SUDDEN * self._usual:
                self._turns, self._left = FIRST_TURNS, min(self._left, FIRST_TURNS)
            is_first = self._usual == float("inf")
            self._usual = seconds if is_first else MEMORY * self._usual + (1 - MEMORY) * seconds
        elif seconds < self._usual:
            self.best, self._usual = way, seconds
            self._turns = self._left = FIRST_TURNS
        else:
            self._turns = self._left = min(2 * self._turns, MOST_TURNS)
