"""Plot recall against queries per second."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks import results

WAYS = ("queries/s, 1000 at once", "32 at once", "one at a time")


def draw(rows: Sequence[results.Row], path: Path) -> None:
    """Plot rows of lopq_recall_speed.csv, a line for each method, an axis for each batch size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(WAYS), figsize=(15, 4.5), layout="constrained")
    for axis, way in zip(axes, WAYS, strict=True):
        for name in dict.fromkeys(row["method"] for row in rows):
            line = [row for row in rows if row["method"] == name]
            recall, rate = [r["10-recall@10"] for r in line], [r[way] for r in line]
            axis.plot(recall, rate, "o-", ms=3, label=f"{name}, {line[0]['bytes']} bytes")
        axis.set(title=way, xlabel="10-recall@10", ylabel="queries per second", yscale="log")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    figure.savefig(path, dpi=100)
    plt.close(figure)
