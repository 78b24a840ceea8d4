"""Plots of an evaluation, for the notebook."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def average_precisions_by_class(table: "pd.DataFrame", k: int) -> "Figure":
    """Plot the distribution of the average precision over the queries, in all and by class.

    Args:
        table: What `RetrievalResults.average_precisions` returned.
        k: The k of the average precision, for the axis.
    """
    import matplotlib.pyplot as plt

    # By Class, as two classes may go by one name.
    groups = [group for _, group in table.groupby("Class")]
    groups.sort(key=lambda group: float(group["AP"].mean()))
    values = [group["AP"].to_numpy() for group in groups]
    names = [f"{group['ClassName'].iloc[0]} ({len(group)})" for group in groups]
    height = max(3.0, 0.28 * len(names))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, height), width_ratios=(1, 2), layout="constrained"
    )
    left.hist(table["AP"], bins=20, range=(0, 1), color="tab:blue")
    left.set(xlabel=f"AP@{k}", ylabel="queries", title=f"{len(table)} queries")
    right.boxplot(values, orientation="horizontal", widths=0.6)
    right.set_yticks(range(1, len(names) + 1), names)
    right.set(xlabel=f"AP@{k}", xlim=(-0.02, 1.02), title="by class (queries), worst below")
    plt.close(figure)  # the caller shows it
    return figure
