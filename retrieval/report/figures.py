"""Plots for a page: SVG in the page's colors, so that it fits light and dark."""

import io
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, LINE = "#1d1f24", "#d8dbe1"  # replaced by the page's own colors
# Colors that the color-blind can tell apart (Okabe and Ito, 2008), with line styles for print.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLES = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.color": LINE,
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $100
    "xtick.color": INK,
    "ytick.color": INK,
}


def curves(
    lines: dict[str, tuple[np.ndarray, np.ndarray]], x: str, y: str, name: str, steps: bool = False
) -> str:
    """Plot one line for each run, from 0 to 1 upwards.

    Args:
        lines: Run -> its x and y values.
        x: Label of the x axis.
        y: Label of the y axis.
        name: Name of the figure; all ids in it begin with it.
        steps: The x values are whole numbers from 1, on a logarithmic axis.
    """
    with _style(STYLE):
        figure, axes = _figure(5.2, 3.6)
        for number, (run, (of_x, of_y)) in enumerate(lines.items()):
            color, style = COLORS[number % len(COLORS)], STYLES[number % len(STYLES)]
            axes.plot(of_x, of_y, style, color=color, label=run, linewidth=1.8)
        axes.set(xlabel=x, ylabel=y, ylim=(0, 1.02))
        if steps:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:.0f}")
        else:
            axes.set_xlim(0, 1)
        axes.legend(loc="best", fontsize=9)
        return _svg(figure, name, f"{y} against {x}")


def histogram(values: np.ndarray, x: str, name: str) -> str:
    """Plot the distribution of values in [0, 1], with their mean."""
    with _style(STYLE):
        figure, axes = _figure(5.6, 2.6)
        axes.hist(values, bins=20, range=(0, 1), color=COLORS[0], alpha=0.85)
        mean = float(values.mean())
        axes.axvline(mean, color=COLORS[1], linestyle="--", label=f"mean {mean:.3f}")
        axes.set(xlabel=x, ylabel="queries", xlim=(0, 1))
        axes.yaxis.set_major_locator(_ticks(integer=True))
        axes.legend(loc="best", fontsize=9)
        return _svg(figure, name, f"histogram of {x}, mean {mean:.3f}")


def intervals(
    values: dict[str, tuple[float, tuple[float, float] | None]], x: str, name: str
) -> str:
    """Plot one value with its interval for each run, the first run on top.

    Args:
        values: Run -> its value, and the ends of its interval, if there is one.
        x: Label of the values.
        name: Name of the figure.
    """
    with _style(STYLE):
        figure, axes = _figure(5.2, 0.9 + 0.3 * len(values))
        for row, (value, ends) in enumerate(values.values()):
            if ends:
                axes.plot(ends, (row, row), color=COLORS[0], linewidth=2)
            axes.plot(value, row, "o", color=COLORS[0], markersize=6)
        axes.set_yticks(range(len(values)), list(values))
        axes.set(xlabel=x, ylim=(len(values) - 0.4, -0.6))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(_ticks(6))
        return _svg(figure, name, f"{x} of each run")


def reliability(
    predicted: Sequence[float], observed: Sequence[float], counts: Sequence[int], name: str
) -> str:
    """Plot the observed against the predicted probability: a reliability diagram.

    Args:
        predicted: (n,) mean probability of each bin.
        observed: (n,) share of each bin that came true.
        counts: (n,) predictions in each bin; the areas of the points grow with them.
        name: Name of the figure.
    """
    with _style(STYLE):
        figure, axes = _figure(4.2, 3.8)
        axes.plot((0, 1), (0, 1), "--", color=COLORS[1], label="as predicted")
        sizes = 20 + 300 * np.array(counts) / max(counts)
        axes.plot(predicted, observed, color=COLORS[0], linewidth=1.2)
        axes.scatter(
            predicted, observed, sizes, color=COLORS[0], alpha=0.7, label="measured", clip_on=False
        )
        axes.set(xlabel="predicted", ylabel="really right", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left", fontsize=9)
        return _svg(figure, name, "reliability: the share that came true against the prediction")


def heat_map(shares: np.ndarray, names: Sequence[str], counts: Sequence[int], name: str) -> str:
    """Plot a square table of shares.

    Args:
        shares: (n, n) float64 in [0, 1]; each row sums to 1.
        names: (n,) of rows and columns.
        counts: (n,) queries of each row.
        name: Name of the figure.
    """
    side = max(3.0, 1.6 + 0.3 * len(names))
    with _style(STYLE):
        figure, axes = _figure(side + 0.8, side)
        axes.grid(visible=False)
        image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        labels = [_short(text) for text in names]
        axes.set_xticks(range(len(names)), labels, rotation=90)
        rows = [f"{text} ({count})" for text, count in zip(labels, counts, strict=True)]
        axes.set_yticks(range(len(names)), rows)
        axes.set(xlabel="retrieved first", ylabel="query")
        if len(names) <= 12:
            for row, column in np.ndindex(shares.shape):
                share = shares[row, column]
                ink = "#000000" if share > 0.5 else "#ffffff"
                axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=ink, size=8)
        bar = figure.colorbar(image, shrink=0.7, label="share of the row's queries")
        bar.outline.set_visible(False)
        return _svg(figure, name, "heat map: what is retrieved first for queries of each kind")


def _style(settings: dict[Any, Any]) -> AbstractContextManager[None]:
    import matplotlib as mpl

    return mpl.rc_context(settings)


def _ticks(*count: int, **settings: bool) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(*count, **settings)


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    """Return a figure outside of matplotlib's global state."""
    from matplotlib.figure import Figure

    figure = Figure((width, height))
    return figure, figure.add_subplot()


def _short(text: str, length: int = 24) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _svg(figure: "Figure", name: str, meaning: str) -> str:
    """Return the figure as an ``<svg>`` for a page, with the same bytes each time."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings(), _style({"svg.hashsalt": name}):
        # The page's font has the glyphs that matplotlib's has not.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    text = re.sub(r'\s(width|height)="[\d.]+pt"', "", text[text.index("<svg") :], count=2)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Several figures share a page, so each gets ids of its own.
    text = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").replace(LINE, "var(--line)")
    width = round(100 * figure.get_figwidth())
    start = f'<svg role="img" aria-label="{meaning}" style="max-width: {width}px"'
    return text.replace("<svg", start, 1)
