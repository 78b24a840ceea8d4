"""Center and whiten embeddings, and reduce their dimensions; no label is used.

Reads   database.npy, tdatabase.npy (or --database, --queries)
Writes  database_t.npy, tdatabase_t.npy (or --output_database, --output_queries), each with a .json;
        and the transform: database_t.means.npy, database_t.matrix.npy

    python -m process_data.transform --dpath=~/ir/ --power=0.5 --center=per_domain
    python -m process_data.mips --dpath=~/ir/ --database=database_t.npy \\
        --test_matrix=tdatabase_t.npy

The validation images are rows of the database and so among what is fitted, without their labels.
--fit=both and --center=per_domain look at all queries at once, without their labels too: a
transductive setting, which is to be reported with the figures.
"""

import argparse
import hashlib
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from retrieval import cli
from retrieval.data import files, layout, provenance
from retrieval.data.formats import InputError
from retrieval.evaluation import records
from retrieval.search import embeddings, whitening

log = logging.getLogger(__name__)

Fit = Literal["database", "both"]


def run(
    data_dir: Path,
    database: str = layout.DATABASE.name,
    queries: str = layout.TEST_DATABASE.name,
    output_database: str = layout.DATABASE_TRANSFORMED.name,
    output_queries: str = layout.TEST_DATABASE_TRANSFORMED.name,
    fit: Fit = "database",
    dim: int = 0,
    power: float = 0.5,
    shrinkage: float = 0.0,
    center: whitening.Center = "joint",
    strength: float = 1.0,
) -> Path:
    """Write the transformed embeddings, and return the path of the database's.

    Args:
        data_dir: The data directory.
        database: Name of the database's embeddings.
        queries: Name of the queries' embeddings; may be missing where nothing is fitted on them.
        output_database: Name of the transformed database; the transform is named after it.
        output_queries: Name of the transformed queries.
        fit: What the covariance is of: the database, or database and queries.
        dim: Dimensions to keep; 0 keeps all.
        power: Of the whitening: 0 turns only, 1 makes all variances equal.
        shrinkage: From 0 to 1, how far the covariance is drawn to a multiple of the identity.
        center: Subtract nothing, the mean of what is fitted, or each domain's own mean.
        strength: Of the centering: the mean is multiplied by it.
    """
    options = {name: value for name, value in locals().items() if name != "data_dir"}
    if not (0 <= power <= 1 and 0 <= shrinkage <= 1 and dim >= 0):
        raise InputError("--power and --shrinkage must be from 0 to 1, --dim at least 0")
    if not math.isfinite(strength):
        raise InputError(f"--strength must be a finite number; got {strength}")
    if len({database, queries, output_database, output_queries}) < 4:
        raise InputError("the files read and written must have four different names")
    names = [database]
    takes_queries = fit == "both" or center == "per_domain"
    if takes_queries or layout.TEST_DATABASE.at(data_dir, queries).exists():
        names.append(queries)
        provenance.check_same_model(data_dir, database, queries)
    domains = [layout.DATABASE.load(data_dir, name) for name in names]
    if domains[0].shape[1] != domains[-1].shape[1] or not all(map(len, domains)):
        raise InputError(f"{database} and {queries} must have rows, of equal length")
    for name, rows in zip(names, domains, strict=True):
        embeddings.check(rows, name)
    transform = whitening.fit(
        domains,
        [0, 1] if fit == "both" else [0],
        dim=dim,
        power=power,
        shrinkage=shrinkage,
        center=center,
        strength=strength,
    )
    stem = Path(output_database).with_suffix("").as_posix()
    layout.TRANSFORM_MEANS.save(data_dir, transform.means, f"{stem}.means.npy")
    layout.TRANSFORM_MATRIX.save(data_dir, transform.matrix, f"{stem}.matrix.npy")
    digest = hashlib.sha256(transform.means.tobytes() + transform.matrix.tobytes()).hexdigest()
    more = {"transform": options, "transform_sha256": digest}
    outputs = (output_database, output_queries)
    for domain, (name, output) in enumerate(zip(names, outputs, strict=False)):
        _write(data_dir, transform, domain, domains[domain], output)
        record = (provenance.load(data_dir, name) or {}) | {"dim": transform.matrix.shape[1]}
        # What was fitted on queries once stays so, through all transforms that follow.
        is_fitted = takes_queries or records.is_fitted_on_queries(record)
        record |= {"from": name, "fitted_on_queries": is_fitted, **more}
        provenance.save(data_dir, output, record)
        log.info("%s: %d dimensions", output, transform.matrix.shape[1])
    return layout.DATABASE_TRANSFORMED.at(data_dir, output_database)


def _write(
    data_dir: Path, transform: whitening.Transform, domain: int, rows: np.ndarray, output: str
) -> None:
    path = layout.DATABASE_TRANSFORMED.at(data_dir, output)
    shape = (len(rows), transform.matrix.shape[1])
    with files.row_writer(path, shape, layout.DATABASE_TRANSFORMED.dtype) as writer:
        for start, block in transform.blocks(rows, domain):
            writer.write(start, block)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    add: Any = parser.add_argument
    add("--database", help="name of the database's embeddings")
    add("--queries", help="name of the queries' embeddings")
    add("--output_database", help="name of the transformed database")
    add("--output_queries", help="name of the transformed queries")
    add("--fit", choices=get_args(Fit), help="what the covariance is of")
    add("--dim", type=int, help="dimensions to keep; 0: all")
    add("--power", type=float, help="of the whitening: 0 turns only, 1 makes variances equal")
    add("--shrinkage", type=float, help="0 to 1: draws the covariance to a multiple of identity")
    add("--center", choices=get_args(whitening.Center), help="which mean is subtracted")
    add("--strength", type=float, help="the mean is multiplied by it before")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
