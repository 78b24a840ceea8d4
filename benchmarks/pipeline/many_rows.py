"""Time and memory of the stages that need no images, on many rows of random embeddings.

Writes  large.csv in --output

    python -m benchmarks.pipeline.many_rows
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import results
from benchmarks.data.embeddings import write_clusters
from benchmarks.pipeline.commands import Settings, stages
from benchmarks.pipeline.lists import write_csv
from benchmarks.pipeline.stages import measure, start_seconds
from retrieval.data import layout

STAGES = ("make_train_valid", "mask_data", "mips", "nns")
PER_CLASS = 40  # images per class, as in CompCars
NOISE = 2.0


def prepare(data_dir: Path, n_row: int, n_query: int, dim: int) -> None:
    """Write an image index, queries, and the embeddings of both."""
    n_class = max(4, n_row // PER_CLASS)
    write_csv(data_dir, n_row, n_class)
    labels = pd.read_csv(data_dir / "car_front.csv")["Class"].to_numpy()
    rng = np.random.default_rng(7)
    query_labels = rng.choice(labels, n_query)
    write_clusters(layout.DATABASE.at(data_dir), labels, dim, 8, NOISE)
    write_clusters(layout.TEST_DATABASE.at(data_dir), query_labels, dim, 9, NOISE)
    layout.TEST_QUERIES.save(data_dir, np.stack([np.arange(n_query), query_labels], axis=1))


def run(args: argparse.Namespace) -> None:
    """Measure all stages at all sizes and publish the table."""
    record = results.Run("large", args, args.output)
    todo = [stage for stage in stages(Settings(photos=2)) if stage.name in STAGES]
    starts = start_seconds(todo, args.threads, 1)
    rows: list[results.Row] = []
    for n_row in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            data_dir = Path(name)
            prepare(data_dir, n_row, args.n_query, args.dim)
            for stage in todo:
                measured = measure(stage, data_dir, args.threads)
                print(n_row, stage.name, measured, flush=True)
                rows.append(
                    {
                        "rows": n_row,
                        "queries": args.n_query,
                        "stage": stage.name,
                        "cores": args.threads,
                        "unit": stage.unit,
                        "work": stage.work(data_dir) if stage.unit != "images" else n_row,
                        "start_seconds": starts[stage.name],
                        **measured,
                    }
                )
    record.publish("large", rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="database rows")
    add("--n_query", type=int, default=2000, help="number of queries")
    add("--dim", type=int, default=512, help="embedding size")
    add("--folder", type=Path, help="parent of the temporary data directory")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
