"""Estimate what a database of photos costs, from decoding to publishing: core-hours and disk.

Reads   the newest photos.csv, encode_lite0.csv, lopq_recall_speed.csv, lopq_updates.csv and
        store_add.csv in --output

    python -m benchmarks.pipeline.cost

Core-hours are images / rate * cores, with rates that were measured on one machine. Stages can be
sharded, so hours are core-hours / cores as long as the disk keeps up. GPU-hours are from a
published rate, which this project has not measured.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks import results
from benchmarks.encode.from_photos import DECODING, ENCODING
from benchmarks.encode.runtimes import AUTO

SCALES = {"CompCars": 136_726, "10 million": 10_000_000, "1 billion": 1_000_000_000}
DIM = 512  # of the embeddings
CODE_BYTES = 16
GPU_RATE = 1500  # images/s of CLIP ViT-B/32 on an RTX 3080, decoding included: clip-retrieval
MILVUS_RATE = 1157  # rows/s to a server on the same two cores: docs/experiments/store.md
MILVUS_CORES = 2
THUMBNAIL_BYTES = 3000
BYTES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True)
class Stage:
    """A stage between photos and a searchable database.

    Attributes:
        name: What it does.
        rate: Images per core-second.
        disk: Bytes that are written per image.
    """

    name: str
    rate: float
    disk: float


def stages(output: Path) -> list[Stage]:
    """Return the stages, with the rates of the newest measurements."""

    def cores(table: pd.DataFrame) -> int:
        return results.cores_of(output, table["run"].iloc[0])

    photos = results.latest(output, "photos")
    per_s = photos.set_index("method")["images_per_s"] / cores(photos)
    codes, index = largest(output, "lopq_recall_speed"), largest(output, "lopq_updates").iloc[0]
    ours = codes[codes["method"].str.startswith("LOPQ")].iloc[0]
    stored = results.latest(output, "store_add")
    thumbnails = stored[stored["thumbnail_bytes"] > 0].iloc[0]
    network = f"{photos['network'].iloc[0]} at {photos['side_px'].iloc[0]} px"
    encoded = results.latest(output, "encode_lite0")
    fastest = encoded[encoded["method"] == AUTO].iloc[0]
    small = f"{fastest['network'].removeprefix('timm/')} at {fastest['side_px']} px"
    code_bytes = index["index GB"] * 1e9 / index["rows"]
    row_bytes = THUMBNAIL_BYTES + 4 * DIM
    return [
        Stage(f"decode photos of {photos['photo'].iloc[0]}", per_s[DECODING], 0),
        Stage(f"encode: {network}, torch", per_s[ENCODING], 4 * DIM),
        Stage(f"or {small}, OpenVINO", fastest["images_per_s"] / cores(encoded), 4 * DIM),
        Stage(f"LOPQ codes of {CODE_BYTES} bytes", ours["encoded/s"] / cores(codes), code_bytes),
        Stage("rows with thumbnails into LanceDB", thumbnails["rows_per_cpu_s"], row_bytes),
        Stage("or into a Milvus server", MILVUS_RATE / MILVUS_CORES, row_bytes),
    ]


def largest(output: Path, name: str) -> pd.DataFrame:
    """Return the newest run of the most rows."""
    table = pd.concat([pd.read_csv(path) for path in output.glob(f"*/{name}.csv")])
    table = table[table["rows"] == table["rows"].max()]
    return table[table["run"] == table["run"].max()]


def table(of_all: list[Stage]) -> pd.DataFrame:
    """Return core-hours and disk of each stage at each scale, then the hours of a GPU."""
    rows: list[dict[str, object]] = []
    for stage in of_all:
        row: dict[str, object] = {"stage": stage.name, "images per core-second": stage.rate}
        for scale, n_image in SCALES.items():
            row[f"{scale}: core-hours"] = hours(n_image / stage.rate)
            row[f"{scale}: disk"] = in_units(n_image * stage.disk)
        rows.append(row)
    row = {"stage": f"encode on one GPU instead, published: {GPU_RATE:,} images/s"}
    for scale, n_image in SCALES.items():
        row[f"{scale}: core-hours"] = f"{hours(n_image / GPU_RATE)} GPU-hours"
    return pd.DataFrame([*rows, row])


def hours(seconds: float) -> str:
    """Return a time in hours with two significant digits.

    >>> hours(90_000), hours(60)
    ('25', '0.017')
    """
    return f"{float(f'{seconds / 3600:.2g}'):,.6g}"


def in_units(value: float) -> str:
    """Format bytes in the largest unit that does not exceed them.

    >>> in_units(1.5e12)
    '1.5 TB'
    """
    size, name = next(((s, n) for s, n in BYTES if value >= s), BYTES[-1])
    return f"{float(f'{value / size:.2g}'):,.3g} {name}" if value else "0"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=results.FOLDER, help="folder of the results")
    return parser


if __name__ == "__main__":
    print(results.markdown(table(stages(make_parser().parse_args().output))))
