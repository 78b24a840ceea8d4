"""The plot of bench_lopq: recall against speed."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Measurement


def plot(rows: Sequence[Measurement], path: Path) -> None:
    """Plot recall against queries per second, one line per method."""
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no plot", flush=True)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=False)
    for axis, part in zip(axes, ("batch", "one by one"), strict=True):
        for name in dict.fromkeys((r.method, r.bytes) for r in rows):
            line = [r for r in rows if r.part == part and (r.method, r.bytes) == name]
            label = f"{name[0]}, {name[1]:g} bytes"
            axis.plot([r.recall for r in line], [r.qps for r in line], "o-", ms=3, label=label)
        axis.set(title=part, xlabel="10-recall@10", ylabel="queries per second", yscale="log")
        axis.grid(alpha=0.3)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="lower center", ncol=3, fontsize=8)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
