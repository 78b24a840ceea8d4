"""Plot the seconds of the stages against the number of images."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# M. Okabe, K. Ito: Color Universal Design, 2008: a palette for color-blind readers.
COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#8C7A00")
MARKERS = "osD^vPX*"
STAGES = (
    "data_info",
    "image_matrix",
    "make_train_valid",
    "train",
    "build_image_db",
    "mask_data",
    "mips",
    "nns",
)
LINE_HEIGHT = 0.055  # height of a label, as a share of the axis


def draw(rows: pd.DataFrame, path: Path) -> Path:
    """Plot seconds over images on logarithmic axes, one labeled line per stage.

    Args:
        rows: Table with the columns images, stage and seconds of ``pipeline.csv``.
        path: Image file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
    axis.set(xscale="log", yscale="log", xlabel="images in the sample", ylabel="seconds")
    ends = {}
    for name, color, marker in zip(STAGES, COLORS, MARKERS, strict=True):
        line = rows[rows["stage"] == name].sort_values("images")
        if line.empty:
            continue
        axis.plot(line["images"], line["seconds"], marker=marker, ms=5, color=color, lw=1.6)
        ends[name] = (line["images"].iloc[-1], line["seconds"].iloc[-1], color)
    images = sorted(rows["images"].unique())
    axis.set_xticks(images, [f"{n:,}" for n in images])
    axis.minorticks_off()
    low, high = axis.get_ylim()
    ticks = [t for t in (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000) if low <= t <= high]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    _label(axis, ends)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _label(axis: "Axes", ends: dict[str, tuple[float, float, str]]) -> None:
    """Write each name beside the end of its line, shifted up to avoid overlaps."""
    to_axis = axis.transData + axis.transAxes.inverted()
    lowest = -1.0
    for name, (x, y, color) in sorted(ends.items(), key=lambda item: item[1][1]):
        height = max(to_axis.transform((x, y))[1], lowest + LINE_HEIGHT)
        lowest = height
        axis.annotate(
            name,
            (x, y),
            (1.03, height),
            textcoords="axes fraction",
            va="center",
            color=color,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.6, "shrinkB": 3},
        )
