"""What a database of photos takes on paper, from decoding to publishing: core-hours, disk, memory.

Reads   photos.csv, encode_lite0.csv, lopq_scale.csv, lopq_changes.csv and store_add.csv in
        --output
Writes  the table in README.md

    python -m benchmarks.on_paper

Each stage has a rate that was measured on one machine; core-hours are images / rate * cores. The
work is in shards, so that hours are core-hours / cores as long as the disk keeps up. GPU-hours are
from a published rate, which this project has not measured.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks import results
from benchmarks.bench_encode import AUTO
from benchmarks.bench_photos import DECODING, ENCODING
from benchmarks.extrapolate import BYTES, SCALES, in_units

DIM = 512  # of the embeddings
CODE_BYTES = 16
GPU_RATE = 1500  # images/s of CLIP ViT-B/32 on an RTX 3080, decoding included: clip-retrieval
MILVUS_RATE = 1157  # rows/s to a server on the same two cores: docs/experiments.md, 2026-11-26
MILVUS_CORES = 2
THUMBNAIL_BYTES = 3000


@dataclass(frozen=True)
class Stage:
    """A stage of the way.

    Attributes:
        name: What it does.
        rate: Images per core-second.
        disk: Bytes that are written per image.
    """

    name: str
    rate: float
    disk: float


def stages(folder: Path) -> list[Stage]:
    """Return the stages, with the rates of the newest measurements."""
    runs = pd.read_csv(folder / results.RUNS).set_index("run")

    def cores(table: pd.DataFrame) -> int:
        return int(runs.loc[table["run"].iloc[0], "cores"])

    photos = results.latest(folder, "photos")
    per_s = photos.set_index("method")["images_per_s"] / cores(photos)
    codes, index = largest(folder, "lopq_scale"), largest(folder, "lopq_changes").iloc[0]
    ours = codes[codes["method"].str.startswith("LOPQ")].iloc[0]
    stored = results.latest(folder, "store_add")
    thumbnails = stored[stored["thumbnail_bytes"] > 0].iloc[0]
    network = f"{photos['network'].iloc[0]} at {photos['side_px'].iloc[0]} px"
    encoded = results.latest(folder, "encode_lite0")
    fastest = encoded[encoded["method"] == AUTO].iloc[0]
    small = f"{fastest['network'].removeprefix('timm/')} at {fastest['side_px']} px"
    return [
        Stage(f"decode photos of {photos['photo'].iloc[0]}", per_s[DECODING], 0),
        Stage(f"encode: {network}, torch", per_s[ENCODING], 4 * DIM),
        Stage(f"or {small}, OpenVINO", fastest["images_per_s"] / cores(encoded), 4 * DIM),
        Stage(
            f"LOPQ codes of {CODE_BYTES} bytes",
            ours["encoded/s"] / cores(codes),
            index["index GB"] * 1e9 / index["rows"],
        ),
        Stage(
            "rows with thumbnails into LanceDB",
            thumbnails["rows_per_cpu_s"],
            4 * DIM + THUMBNAIL_BYTES,
        ),
        Stage(
            "or to a Milvus server, both on one machine",
            MILVUS_RATE / MILVUS_CORES,
            4 * DIM + THUMBNAIL_BYTES,
        ),
    ]


def largest(folder: Path, name: str) -> pd.DataFrame:
    """Return the newest run of the most rows."""
    table = pd.read_csv(folder / f"{name}.csv")
    table = table[table["rows"] == table["rows"].max()]
    return table[table["run"] == table["run"].max()]


def markdown(of_all: list[Stage]) -> str:
    """Return core-hours and disk of each stage at each scale, then the hours of a GPU."""
    head = ["stage", "images per core-second"]
    head += [f"{scale.name}: {what}" for scale in SCALES for what in ("core-hours", "disk")]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for stage in of_all:
        cells = [stage.name, f"{stage.rate:,.3g}"]
        for scale in SCALES:
            cells.append(hours(scale.database / stage.rate))
            cells.append(in_units(scale.database * stage.disk, BYTES))
        lines.append("| " + " | ".join(cells) + " |")
    cells = [f"encode on one GPU instead, published: {GPU_RATE:,} images/s", ""]
    for scale in SCALES:
        cells += [f"{hours(scale.database / GPU_RATE)} GPU-hours", ""]
    lines.append("| " + " | ".join(cells) + " |")
    sizes = "; ".join(f"{scale.name}: {scale.database:,} images" for scale in SCALES)
    return "\n".join(lines) + f"\n\n{sizes}."


def hours(seconds: float) -> str:
    """Return a time in hours with two significant digits.

    >>> hours(90_000), hours(60)
    ('25', '0.017')
    """
    return f"{float(f'{seconds / 3600:.2g}'):,.6g}"


def run(args: argparse.Namespace) -> None:
    """Write the table."""
    text = markdown(stages(args.output))
    print(text)
    results.rewrite(args.output.parent / "README.md", "on_paper", text)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=results.FOLDER, help="folder of the csv")
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
