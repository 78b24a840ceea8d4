"""The figures of a training run: loss, and similarity within and between classes."""

import logging
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from retrieval.compute import distributed
from retrieval.data.formats import InputError
from retrieval.data.image_loader import AsyncCopy

log = logging.getLogger(__name__)

WINDOW = 200  # steps that a collapse must last before it is reported
NO_GAP = 0.002  # smallest gap between the mean similarities of positives and negatives
ALL_ALIKE = 0.98  # largest mean similarity of negatives

REMEDY = "try a smaller --lr, a larger --temperature, or --precision=float32"

StepFigures = tuple[float, float, float]  # loss, positive and negative similarity


@dataclass
class Monitor:
    """The figures of one epoch.

    Attributes:
        epoch: Its number, for messages.
        rows: Loss, positive and negative similarity of each step so far.
        before: The same for the last steps of the epochs before, since epochs may be short.
    """

    epoch: int
    rows: list[StepFigures] = field(default_factory=list)
    before: list[StepFigures] = field(default_factory=list)
    has_warned: bool = False

    def note(self, loss: float, positive: float, negative: float, norm: float = 0.0) -> None:
        """Add a step: its loss, its mean similarities, and the norm of its gradients.

        Raises:
            InputError: The loss or the norm is not finite.
        """
        for name, value in (("loss", loss), ("norm of the gradients", norm)):
            if not np.isfinite(value):
                where = f"step {len(self.rows) + 1} of epoch {self.epoch}"
                raise InputError(f"the {name} is {value} at {where}; {REMEDY}")
        self.rows.append((loss, positive, negative))
        if not self.has_warned and len(self.before) + len(self.rows) >= WINDOW:
            self._warn_of_collapse()

    @property
    def window(self) -> list[StepFigures]:
        """The last steps, across epochs if this one has fewer."""
        return [*self.before, *self.rows[-WINDOW:]][-WINDOW:]

    def means(self, last: int = 0) -> dict[str, float]:
        """Return the mean loss, positive and negative similarity of the last steps (0: all).

        Steps without a pair of one class do not count for the positives; nan if no step has one.
        """
        return _means(self.rows[-last:])

    def _warn_of_collapse(self) -> None:
        means = _means(self.window)
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


def _means(rows: list[StepFigures]) -> dict[str, float]:
    table = np.array(rows, np.float64)
    is_there = ~np.isnan(table)
    totals = np.where(is_there, table, 0).sum(axis=0)
    counts = is_there.sum(axis=0)
    means = [float(t / n) if n else float("nan") for t, n in zip(totals, counts, strict=True)]
    return dict(zip(("loss", "positive", "negative"), means, strict=True))


class Progress:
    """Shows the figures of an epoch, in a progress bar or in lines of the log.

    The figures of a step are read while the next one runs, so that a GPU never waits.
    """

    def __init__(self, monitor: Monitor, count: int, show_batch: int) -> None:
        self.monitor, self.show_batch, self.count = monitor, show_batch, count
        self.waiting: AsyncCopy | None = None
        title, is_quiet = f"epoch {monitor.epoch}", None if distributed.is_main() else True
        self.bar = tqdm(total=count, desc=title, unit="step", disable=is_quiet)
        self.bar.update(len(monitor.rows))

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.bar:  # closes it
            if kind is None:
                self.catch_up()

    def take(self, figures: AsyncCopy) -> None:
        """Add the figures of a step, and show those of the step before."""
        self.catch_up()
        self.waiting = figures

    def catch_up(self) -> None:
        """Show the figures of the last step too."""
        if self.waiting is None:
            return
        figures = self.waiting.wait().tolist()
        self.waiting = None
        self.monitor.note(*figures)
        self.bar.update()
        if len(self.monitor.rows) % self.show_batch == 0:
            self._show(self.monitor.means(self.show_batch))

    def _show(self, means: dict[str, float]) -> None:
        """Show means beside the bar or, without a terminal, in a log line."""
        if not self.bar.disable:
            self.bar.set_postfix({name: f"{value:.4f}" for name, value in means.items()})
            return
        text = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
        step = len(self.monitor.rows)
        log.info("epoch %d, step %d of %d: %s", self.monitor.epoch, step, self.count, text)


def mean_similarities(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cosines within and between classes, (2,) float32; nan without such pairs.

    >>> features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> mean_similarities(features, torch.tensor([5, 5, 6]))
    tensor([1., 0.])
    """
    embeddings = F.normalize(features.detach().float())
    similarities = embeddings @ embeddings.T
    is_same = labels[:, None] == labels
    is_other = ~is_same
    is_same = is_same.fill_diagonal_(False)
    pairs = torch.stack([is_same, is_other])
    return (similarities * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))
