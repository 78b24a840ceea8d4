"""Gain of each encoding and ranking switch over the plain search with the same model.

Writes  ranking.csv in --output, after each switch

    python -m benchmarks.search.ranking_options

Draws one sample per seed and trains on it as the demo does; the seed also sets split and initial
weights. Metrics are paired by query. The interval of the gain is a bootstrap over classes, since
queries of one class are not independent. --samples keeps the samples and models.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import build_image_db
from benchmarks import results
from benchmarks.data.trained_sample import Pipeline
from process_data import transform
from retrieval.data import files, layout
from retrieval.data.decoded_photos import Crop
from retrieval.evaluation.bootstrap import paired_bootstrap
from retrieval.evaluation.exact_search import ExactSearch
from retrieval.evaluation.inputs import load_query_gallery
from retrieval.evaluation.metrics import measure as measure_ranking
from retrieval.evaluation.pipeline import PLAIN_RANKING, RankingOptions, rank_gallery
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.threads import computing_with

FOLDER = "ranking_options"
K = 20
CROP = "image_matrix --crop=box"
# The train.py options of the demo.
TRAINING = (
    "--arch=resnet18 --weights=none --dim=128 --batch_size=16 --epoch=2 --lr=0.0003 "
    "--lr_shrink=0.9 --negatives=batch --augmentation=none --max_tuples=2000"
)


@dataclass(frozen=True)
class Switch:
    """Options to compare with the plain search.

    Attributes:
        name: The options as on the command line.
        encode: Options of build_image_db, for database and queries.
        queries_only: Encode only the queries with these options.
        transform: Options of process_data.transform; None: no transform.
        ranking: Expansion and re-ranking.
    """

    name: str
    encode: dict[str, Any] = field(default_factory=dict)
    queries_only: bool = False
    transform: dict[str, Any] | None = None
    ranking: RankingOptions = PLAIN_RANKING


PLAIN = Switch("none")
SWITCHES = [
    Switch("--tta=flip", {"tta": "flip"}),
    Switch("--scales=1,0.7071", {"scales": (1.0, 0.7071)}),
    Switch("--scales=1,1.4142", {"scales": (1.0, 1.4142)}),
    Switch("--adapt_bn", {"adapt_bn": True}),
    Switch("--adapt_bn, queries only", {"adapt_bn": True}, queries_only=True),
    Switch("--power=0 --center=joint", transform={"power": 0.0}),
    Switch("--power=0 --center=per_domain", transform={"power": 0.0, "center": "per_domain"}),
    Switch("--power=0.5 --center=joint", transform={}),
    Switch("--power=0.5 --center=per_domain", transform={"center": "per_domain"}),
    Switch("--power=1", transform={"power": 1.0}),
    Switch("--power=0.5 --dim=32", transform={"dim": 32}),
    Switch("--qe=5", ranking=RankingOptions(qe=5)),
    Switch("--dba=10", ranking=RankingOptions(dba=10)),
    Switch("--qe=5 --dba=10", ranking=RankingOptions(qe=5, dba=10)),
    Switch("--rerank_kr=100", ranking=RankingOptions(rerank_kr=100)),
    Switch("--tta=flip --rerank_kr=100", {"tta": "flip"}, ranking=RankingOptions(rerank_kr=100)),
]


def embeddings(data_dir: Path, checkpoint: Path, switch: Switch, number: int) -> tuple[str, str]:
    """Encode and transform for a switch; return the file names of database and queries."""
    stem = f"switch{number}"
    is_encoded = number > 0 and not switch.encode
    names = encoded_names("switch0" if is_encoded else stem)
    sources = layout.IMAGE_MATRIX.name, layout.TEST_MATRIX.name
    for name, source in () if is_encoded else zip(names, sources, strict=True):
        options = {} if switch.queries_only and source == sources[0] else switch.encode
        build_image_db.run(data_dir, checkpoint, source, name, **options)
    if switch.transform is None:
        return names
    moved = encoded_names(f"{stem}_moved")
    transform.run(data_dir, *names, *moved, **switch.transform)
    return moved


def encoded_names(stem: str) -> tuple[str, str]:
    return f"{FOLDER}/{stem}.npy", f"{FOLDER}/t{stem}.npy"


def per_query(query_gallery: QueryGallery, ranking: RankingOptions) -> pd.DataFrame:
    """Search, and return the metrics of each query."""
    ids = rank_gallery(query_gallery, K, ranking, ExactSearch()).ids
    return pd.DataFrame(measure_ranking(query_gallery, ids, K).per_query)


def measure(checkpoint: Path, seed: int, switch: Switch, number: int) -> pd.DataFrame:
    """Return the metrics of each validation and surveillance query, one row per query.

    Args:
        checkpoint: Checkpoint in the folder ``para`` of its data directory.
        seed: Seed of the sample, as part of the ids of queries and classes.
        switch: The switch to measure.
        number: Number of the switch; 0: the plain search.
    """
    data_dir = checkpoint.parents[1]
    database, queries = embeddings(data_dir, checkpoint, switch, number)
    parts = []
    for is_valid in (True, False):
        name = database if is_valid else queries
        query_gallery = load_query_gallery(data_dir, is_valid, None, name, database)
        frame = per_query(query_gallery, switch.ranking)
        frame["cluster"] = [f"{seed}:{label}" for label in query_gallery.query_labels]
        frame["query"] = [f"{seed}:{index}" for index in query_gallery.query_index]
        frame["queries"] = query_gallery.name
        parts.append(frame)
    return pd.concat(parts)


def compare(before: pd.DataFrame, after: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    """Return one row for the validation and one for the surveillance queries."""
    lines = []
    for queries in ("valid", "test"):
        both = before[before["queries"] == queries].merge(
            after[after["queries"] == queries], on="query", suffixes=("", "_after")
        )
        line: dict[str, Any] = {"switch": name, "queries": queries, "n_query": len(both)}
        for metric in ("cmc@1", "cmc@10", "map@R"):
            a, b = both[metric].to_numpy(), both[f"{metric}_after"].to_numpy()
            gain, low, high, _ = paired_bootstrap(a, b, both["cluster"].to_numpy())
            line |= {f"{metric} before": a.mean(), f"{metric} after": b.mean()}
            line |= {f"{metric} gain": gain, f"{metric} low": low, f"{metric} high": high}
        lines.append(line)
    return lines


def run(
    checkpoints: dict[int, Path],
    whole: dict[int, Path],
    switches: list[Switch],
    record: results.Run,
) -> list[dict[str, Any]]:
    """Measure every switch on every sample, and append its rows as it is done.

    Args:
        checkpoints: Seed -> checkpoint, in the folder ``para`` of its data directory.
        whole: The same for models trained on uncropped images; may be empty.
        switches: The switches to measure, after the crop.
        record: This run; its folder gets the rows.
    """

    def pooled(of: dict[int, Path], switch: Switch, number: int) -> pd.DataFrame:
        return pd.concat([measure(path, seed, switch, number) for seed, path in of.items()])

    def add(before: pd.DataFrame, after: pd.DataFrame, name: str) -> None:
        lines.extend(compare(before, after, name))
        record.publish("ranking", lines[-2:])

    lines: list[dict[str, Any]] = []
    plain = pooled(checkpoints, PLAIN, 0)
    if whole:
        add(pooled(whole, PLAIN, 0), plain, CROP)
    for number, switch in enumerate(switches, start=1):
        add(plain, pooled(checkpoints, switch, number), switch.name)
    return lines


def trained(folder: Path, crop: Crop, args: argparse.Namespace) -> dict[int, Path]:
    """Draw a sample and train on it for each seed, unless done before; return the checkpoints."""
    found: dict[int, Path] = {}
    for seed in args.seeds:
        pipeline = Pipeline(
            folder / f"{crop}{seed}",
            seed,
            models=args.models,
            photos=args.photos,
            surveillance=args.photos // 2,
            side=args.side,
            training=args.training,
            threads=args.threads,
            crop=crop,
        )
        mark = pipeline.data_dir / "trained.json"
        about = {key: getattr(pipeline, key) for key in ("models", "photos", "side", "training")}
        if not mark.exists():
            pipeline.prepare()
            checkpoint, _ = pipeline.train()
            pipeline.run("-m process_data.mask_data")
            files.write_text(mark, json.dumps({"checkpoint": checkpoint.name, **about}))
        known = json.loads(mark.read_text(encoding="utf-8"))
        name = known.pop("checkpoint")
        if known != about:
            raise SystemExit(f"{pipeline.data_dir} was made with {known}; take other --samples")
        found[seed] = pipeline.data_dir / "para" / name
    return found


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--models", type=int, default=12, help="models per sample")
    add("--photos", type=int, default=60, help="front photos per model; half as many surveillance")
    add("--side", type=int, default=64, help="side of the squares in pixels")
    add("--seeds", type=int, nargs="+", default=[7, 8, 9], help="seeds of sample, split, training")
    add("--training", default=TRAINING, help="train.py options")
    add("--only", default="", help="measure only switches whose name contains this text")
    add("--samples", type=Path, help="folder to keep samples and models in; default: temporary")
    results.add_arguments(parser)
    return parser


def main() -> None:
    args = make_parser().parse_args()
    record = results.Run("ranking", args, args.output)
    chosen = [switch for switch in SWITCHES if args.only in switch.name]
    with computing_with(args.threads), tempfile.TemporaryDirectory() as name:
        folder = args.samples or Path(name)
        checkpoints = trained(folder, "box", args)
        whole = trained(folder, "none", args) if args.only in CROP else {}
        run(checkpoints, whole, chosen, record)


if __name__ == "__main__":
    main()
