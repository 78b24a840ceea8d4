"""What a training run says of itself: its loss, and how similar images of one class are."""

import logging
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from retrieval.formats import InputError

log = logging.getLogger(__name__)

WINDOW = 200  # steps in a row before a collapse is called one
NO_GAP = 0.002  # between the mean similarities of positives and negatives
ALL_ALIKE = 0.98  # mean similarity of negatives


@dataclass
class Monitor:
    """The figures of one epoch.

    Attributes:
        epoch: Its number, for messages.
        first_step: The step it is taken up at.
    """

    epoch: int
    first_step: int = 0
    rows: list[tuple[float, float, float]] = field(default_factory=list)
    has_warned: bool = False

    def note(self, loss: float, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in a step: its loss, (n, dim) features and (n,) classes.

        Raises:
            InputError: The loss is not finite.
        """
        if not np.isfinite(loss):
            raise InputError(
                f"the loss is {loss} at step {self.first_step + len(self.rows) + 1} of epoch "
                f"{self.epoch}; try a smaller --lr, a larger --temperature, or --precision=float32"
            )
        self.rows.append((loss, *mean_similarities(features, labels)))
        if not self.has_warned and len(self.rows) >= WINDOW:
            self._warn_of_collapse()

    def means(self, last: int = 0) -> dict[str, float]:
        """Return the mean loss, positive and negative similarity of the last steps (0: all).

        Steps without a pair of one class do not count for the positives; nan where none has one.
        """
        table = np.array(self.rows[-last:], np.float64)
        is_there = ~np.isnan(table)
        totals = np.where(is_there, table, 0).sum(axis=0)
        counts = is_there.sum(axis=0)
        means = [float(t / n) if n else float("nan") for t, n in zip(totals, counts, strict=True)]
        return dict(zip(("loss", "positive", "negative"), means, strict=True))

    def _warn_of_collapse(self) -> None:
        means = self.means(WINDOW)
        gap = means["positive"] - means["negative"]
        if means["negative"] > ALL_ALIKE or gap < NO_GAP:
            self.has_warned = True
            log.warning(
                "The embeddings have collapsed: in the last %d steps the mean similarity was %.4f "
                "within and %.4f between classes. Try a smaller --lr, --warmup, another --loss, or "
                "larger steps.",
                WINDOW,
                means["positive"],
                means["negative"],
            )


def mean_similarities(features: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Return the mean cosine of pairs of one class and of different classes; nan without any.

    >>> features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> mean_similarities(features, torch.tensor([5, 5, 6]))
    (1.0, 0.0)
    """
    embeddings = F.normalize(features.detach().float())
    similarities = embeddings @ embeddings.T
    is_same = labels[:, None] == labels
    is_other = ~is_same
    is_same = is_same.fill_diagonal_(False)
    pairs = torch.stack([is_same, is_other])
    sums = (similarities * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))
    positive, negative = sums.tolist()
    return positive, negative
