"""Encoding straight from photos, compared with decoding alone and encoding alone.

Writes  photos.csv in --output

    python -m benchmarks.encode.from_photos

Each variant runs in turns, in a process of its own: decoding all photos, encoding as many squares
that are in memory, and both at once, as build_image_db.py --image_info does.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import measured_process, results, roofline
from benchmarks.data.photo_files import write_photos
from benchmarks.timing import by_turns, median, spread
from retrieval.compute import devices
from retrieval.data.decoded_photos import BLOCK, DecodedPhotos, PhotoOptions
from retrieval.data.images import Images
from retrieval.model.embedding import put_on
from retrieval.model.encode import embedding_blocks

DECODING, ENCODING, BOTH = "decoding alone", "encoding alone", "photos to embeddings"


def timed(method: str, paths: list[str], arch: str, side: int, batch: int) -> float:
    """Return the images/s of one method."""
    options = PhotoOptions(image_resolution=side)
    photos = DecodedPhotos([Path(path) for path in paths], [None] * len(paths), options)
    images: Images = photos
    if method == ENCODING:
        images = photos[np.arange(len(photos))]
    device = devices.choose("cpu")
    model = put_on(roofline.make_model(arch, side).eval(), device)
    dtype = devices.compute_dtype(device, "auto")
    first = np.arange(min(batch, len(photos)))
    for _ in embedding_blocks(model, images, first, batch, dtype, "warm-up"):
        pass
    start = time.perf_counter()
    if method == DECODING:
        for begin in range(0, len(photos), BLOCK):
            photos[np.arange(begin, min(begin + BLOCK, len(photos)))]
    else:
        for _ in embedding_blocks(model, images, np.arange(len(photos)), batch, dtype, method):
            pass
    return len(photos) / (time.perf_counter() - start)


def run(args: argparse.Namespace) -> None:
    """Measure all methods in turns and publish the table."""
    record = results.Run("photos", args, args.output)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        paths = write_photos(Path(folder), (args.width, args.height), args.images)
        common = {"paths": [str(path) for path in paths], "arch": args.network}
        common |= {"side": args.side, "batch": args.batch}
        peaks: dict[str, float] = {}

        def once(method: str) -> float:
            rate, usage = measured_process.call(timed, args.threads, method=method, **common)
            peaks[method] = usage.peak_bytes / 1e6
            return rate

        calls = {method: partial(once, method) for method in (DECODING, ENCODING, BOTH)}
        rates = by_turns(calls, args.repeats, warm_up=0)
    slower = min(median(rates[DECODING]), median(rates[ENCODING]))
    # On the same cores, the two share their time.
    shared = 1 / sum(1 / median(rates[method]) for method in (DECODING, ENCODING))
    record.publish(
        "photos",
        [
            {
                "network": args.network,
                "side_px": args.side,
                "photo": f"{args.width}x{args.height}",
                "method": method,
                "images_per_s": median(rates[method]),
                "spread_%": spread(rates[method]),
                "share_of_the_slower": median(rates[method]) / slower,
                "share_of_both_in_turn": median(rates[method]) / shared,
                "peak_MB": peaks[method],
            }
            for method in calls
        ],
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--network", default="resnet50", help="backbone")
    add("--side", type=int, default=224, help="side of the squares in pixels")
    add("--width", type=int, default=920, help="width of the photos in pixels")
    add("--height", type=int, default=620, help="height of the photos in pixels")
    add("--images", type=int, default=400, help="photos")
    add("--batch", type=int, default=64, help="images per batch")
    add("--repeats", type=int, default=3, help="measurements per method")
    add("--folder", type=Path, help="parent of the temporary folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
