"""Extrapolate time, memory, disk and cost of the stages to larger numbers of images.

Reads   pipeline.csv (samples of growing size), pipeline_full.csv (the README's settings) and
        large.csv (stages without images, on many rows) in --output
Writes  extrapolation.csv there, and the table in README.md

    python -m benchmarks.extrapolate --price 0.04

The formulas, for D images in the database and Q queries, from one measured run of a stage:

    seconds = start + (measured seconds - start) * work / measured work
    memory  = measured peak, if it is flat (grows by less than 5% over the samples);
              else linear in the images, through the smallest and the largest sample
    disk    = measured bytes written * work / measured work; for mips, the ratio of the queries
    money   = seconds / 3600 * cores * price of a core-hour

Training validates after its epoch, which adds the time of build_image_db and the memory of the
embeddings to the measurement. nns and baselines search the queries of the measured run, whatever Q
is.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from benchmarks import results

FLAT = 1.05  # memory counts as flat up to this ratio of largest to smallest peak


@dataclass(frozen=True)
class Scale:
    """A number of images and queries to extrapolate to."""

    name: str
    database: int
    queries: int


@dataclass(frozen=True)
class Cost:
    """The resources of a stage at some scale."""

    stage: str
    work: float
    unit: str
    seconds: float
    peak_bytes: float
    disk_bytes: float
    money: float


SCALES = (
    Scale("CompCars", 136_726, 44_481),
    Scale("10 million", 10_000_000, 44_481),
    Scale("1 billion", 1_000_000_000, 44_481),
)


def work(stage: str, scale: Scale, measured: pd.Series, tuples: int) -> float:
    """Return the work of a stage at a scale, in the unit of its measurement."""
    if stage.endswith(", queries") or stage == "test_data_info":
        return scale.queries
    if stage == "make_train_valid":  # pairs per image as in the sample
        return scale.database * measured["work"] / measured["items"]
    if stage == "train":
        return tuples
    if stage == "mips":
        return scale.database * scale.queries
    return scale.database


def items(stage: str, scale: Scale) -> int:
    """Return the number of images that a stage's memory may grow with."""
    if stage.endswith(", queries") or stage == "test_data_info":
        return scale.queries
    return scale.database + (scale.queries if stage == "mips" else 0)


def memory(samples: pd.DataFrame, measured: pd.Series, n_item: int) -> float:
    """Return the peak memory of a stage in bytes.

    Args:
        samples: The stage's rows of all sizes.
        measured: The row to extrapolate from.
        n_item: Number of images, as counted by ``items``.
    """
    peak = 1e6 * measured["peak_MB"]
    by_size = samples.sort_values("items")
    low, high = by_size.iloc[0], by_size.iloc[-1]
    if high["peak_MB"] <= FLAT * low["peak_MB"] or high["items"] == low["items"]:
        return peak
    slope = 1e6 * (high["peak_MB"] - low["peak_MB"]) / (high["items"] - low["items"])
    return max(1e6 * low["peak_MB"], peak + slope * (n_item - measured["items"]))


def rates(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the row of each stage to extrapolate from, and the rows of all sizes.

    Stages that read or embed images use the run at the README's settings, if there is one. Stages
    without images use the largest size in large.csv, all others the largest sample.
    """
    samples = results.latest(folder, "pipeline")
    if samples.empty:
        raise SystemExit(f"{folder}/pipeline.csv is missing: python -m benchmarks.bench_pipeline")
    samples = _counted(samples)
    large = results.latest(folder, "large")
    if not large.empty:
        large["items"] = large["rows"] + large["queries"].where(large["stage"] == "mips", 0)
        samples = pd.concat([samples[~samples["stage"].isin(large["stage"])], large])
    samples = samples.sort_values("items", kind="stable")
    chosen = samples.groupby("stage", sort=False).tail(1).set_index("stage", drop=False)
    full = results.latest(folder, "pipeline_full")
    if not full.empty:
        full = _counted(full)
    for _, row in full.iterrows():
        if row["stage"].split(",")[0] in ("image_matrix", "train", "build_image_db"):
            for column in chosen.columns.intersection(full.columns):
                chosen.loc[row["stage"], column] = row[column]
    order = results.latest(folder, "pipeline")["stage"].unique()
    return chosen.loc[order], samples


def _counted(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of pipeline.csv or pipeline_full.csv with the columns items and queries."""

    def work_of(stage: str) -> pd.Series:
        of_stage = rows[rows["stage"] == stage].set_index("images")["work"]
        return rows["images"].map(of_stage).fillna(0)

    database, queries = work_of("image_matrix"), work_of("image_matrix, queries")
    found = rows["work"].where(rows["unit"] == "images", database)
    found = found.where(rows["stage"] != "mips", database + queries)
    return rows.assign(items=found, queries=queries)


def costs(
    chosen: pd.DataFrame, samples: pd.DataFrame, scale: Scale, tuples: int, price: float
) -> list[Cost]:
    """Return the cost of each stage at a scale."""
    found: dict[str, Cost] = {}
    for stage, measured in chosen.iterrows():
        name = str(stage)
        amount = work(name, scale, measured, tuples)
        factor = amount / measured["work"]
        start = measured["start_seconds"]
        seconds = start + max(0.0, measured["seconds"] - start) * factor
        # The size of a checkpoint does not depend on the number of images.
        growth = {"train": 1.0, "mips": scale.queries / max(1, measured["queries"])}
        found[name] = Cost(
            name,
            amount,
            measured["unit"],
            seconds,
            memory(samples[samples["stage"] == name], measured, items(name, scale)),
            1e6 * measured["written_MB"] * growth.get(name, factor),
            seconds / 3600 * measured["cores"] * price,
        )
    if {"train", "build_image_db"} <= set(found):
        found["train"] = _validated(found["train"], found["build_image_db"])
    return list(found.values())


def _validated(train: Cost, encode: Cost) -> Cost:
    """Add a validation to the cost of training: embed the database, keep it in memory."""
    return replace(
        train,
        seconds=train.seconds + encode.seconds,
        peak_bytes=train.peak_bytes + encode.disk_bytes,
        money=train.money + encode.money,
    )


def total(of_all: list[Cost]) -> Cost:
    """Return the sums of time, disk and money, and the largest memory."""
    return Cost(
        "all",
        0,
        "",
        sum(cost.seconds for cost in of_all),
        max(cost.peak_bytes for cost in of_all),
        sum(cost.disk_bytes for cost in of_all),
        sum(cost.money for cost in of_all),
    )


def in_units(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """Format a value in the largest unit that does not exceed it.

    >>> in_units(7200, TIMES), in_units(1.5e12, BYTES)
    ('2 h', '1.5 TB')
    """
    size, name = next(((s, n) for s, n in units if value >= s), units[-1])
    return f"{float(f'{value / size:.2g}'):,.3g} {name}" if value else "0"


TIMES = ((365.25 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min"), (1, "s"))
BYTES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def markdown(tables: dict[Scale, list[Cost]], price: float) -> str:
    """Return one table: time, memory, disk and money of each stage at each scale."""
    head = ["stage"]
    for scale in tables:
        head += [f"{scale.name}: time", "memory", "disk", "money"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for of_stage in zip(*tables.values(), strict=True):
        cells = [of_stage[0].stage]
        for cost in of_stage:
            cells += [in_units(cost.seconds, TIMES), in_units(cost.peak_bytes, BYTES)]
            cells += [in_units(cost.disk_bytes, BYTES), f"${cost.money:,.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    sizes = "; ".join(f"{s.name}: {s.database:,} images, {s.queries:,} queries" for s in tables)
    return "\n".join(lines) + f"\n\n{sizes}. A core-hour at ${price:g}, on paper."


def run(args: argparse.Namespace) -> None:
    """Compute the costs and write the table."""
    chosen, samples = rates(args.output)
    tables: dict[Scale, list[Cost]] = {}
    rows = []
    for scale in SCALES:
        of_all = costs(chosen, samples, scale, args.tuples, args.price)
        tables[scale] = [*of_all, total(of_all)]
        rows += [{"scale": scale.name, "price": args.price, **vars(c)} for c in tables[scale]]
    pd.DataFrame(rows).to_csv(args.output / "extrapolation.csv", index=False, float_format="%.5g")
    text = markdown(tables, args.price)
    print(text)
    results.rewrite(args.output.parent / "README.md", "extrapolation", text)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--price", type=float, default=0.04, help="price per core-hour in dollars")
    parser.add_argument(
        "--tuples", type=int, default=100_000, help="training tuples, the same at all scales"
    )
    parser.add_argument("--output", type=Path, default=results.FOLDER, help="folder of the csv")
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
