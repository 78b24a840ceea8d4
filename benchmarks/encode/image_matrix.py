"""Speed and memory of image_matrix, compared with other ways to decode and resize.

Writes  image_matrix.csv in --output

    python -m benchmarks.encode.image_matrix
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import measured_process, results
from benchmarks.data.photo_files import write_photos
from benchmarks.timing import by_turns, median, spread
from process_data.image_matrix import write_matrix
from retrieval.data import decode
from retrieval.data.decoded_photos import DecodedPhotos, PhotoOptions

FLOOR = "scaled decoding alone"
OURS = "image_matrix"
PHOTOS = {(480, 320): 400, (920, 620): 200, (4000, 3000): 24}  # photos per measurement
DISTINCT = 16  # distinct photos among them


def _size(size: tuple[int, int], side: int) -> tuple[int, int]:
    shrink = side / max(size)
    return round(size[0] * shrink), round(size[1] * shrink)


def scaled_decoding(path: Path, side: int) -> np.ndarray | None:
    """Decode at the smallest scale that is not below ``side``, without resizing."""
    with Image.open(path) as image:
        image.draft("RGB", _size(image.size, side))
        image.load()
    return None


def pillow(path: Path, side: int) -> np.ndarray:
    """Decode at full size, then resize bicubically with antialiasing."""
    with Image.open(path) as image:
        size = _size(image.size, side)
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))


def opencv(path: Path, side: int) -> np.ndarray:
    """Decode at full size, then resize by area averaging."""
    import cv2

    image = cv2.imread(str(path))
    assert image is not None
    size = _size(image.shape[1::-1], side)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)[..., ::-1]


def libvips(path: Path, side: int) -> np.ndarray:
    """Make a thumbnail, which also decodes at a reduced scale."""
    import pyvips

    return pyvips.Image.thumbnail(str(path), side, height=side).numpy()


def ours(path: Path, side: int) -> np.ndarray:
    """Return the stage's square without its borders."""
    with Image.open(path) as image:
        width, height = _size(image.size, side)
    left, top = (side - width) // 2, (side - height) // 2
    return decode.load_square(path, side)[top : top + height, left : left + width]


METHODS: dict[str, Callable[[Path, int], np.ndarray | None]] = {
    "Pillow, full decoding": pillow,
    "OpenCV, full decoding": opencv,
    "libvips thumbnail": libvips,
    FLOOR: scaled_decoding,
    OURS: ours,
}


def timed(method: str, paths: list[str], side: int, workers: int, target: str) -> float:
    """Return the seconds that one method takes to make and write the matrix of the photos."""
    files = [Path(path) for path in paths]
    load = METHODS[method]
    load(files[0], side)  # imports
    start = time.perf_counter()
    if method == OURS:
        options = PhotoOptions(image_resolution=side, workers=workers)
        write_matrix(Path(target), DecodedPhotos(files, [None] * len(files), options))
    elif method == FLOOR:
        for path in files:
            load(path, side)
    else:
        matrix = np.zeros((len(files), 3, side, side), np.uint8)
        for row, path in enumerate(files):
            picture = load(path, side)
            assert picture is not None
            height, width = picture.shape[:2]
            top, left = (side - height) // 2, (side - width) // 2
            place = matrix[row, :, top : top + height, left : left + width]
            place[:] = picture.transpose(2, 0, 1)
        np.save(target, matrix)
    return time.perf_counter() - start


def psnr(method: str, paths: Sequence[Path], side: int) -> float | None:
    """Return the PSNR in dB against full decoding and Lanczos resizing; None if nothing is made.

    10 log10(255² / mean squared difference), with the mean over all pixels of all photos.
    """
    differences = []
    for path in paths:
        picture = METHODS[method](path, side)
        if picture is None:
            return None
        with Image.open(path) as image:
            size = _size(image.size, side)
            exact = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        differences.append(((picture.astype(np.float64) - exact) ** 2).mean())
    return float(10 * np.log10(255**2 / np.mean(differences)))


def compare(
    folder: Path, size: tuple[int, int], count: int, args: argparse.Namespace
) -> list[results.Row]:
    """Measure all methods on one core, and ours also on 2, 4, ... cores, in turns."""
    distinct = write_photos(folder / f"{size[0]}x{size[1]}", size, min(DISTINCT, count))
    paths = [str(distinct[i % len(distinct)]) for i in range(count)]
    counts = [2**i for i in range(1, args.threads.bit_length()) if 2**i < args.threads]
    cases = [(method, 1) for method in METHODS]
    cases += [(OURS, n) for n in dict.fromkeys([*counts, args.threads]) if n > 1]
    peaks: dict[str, int] = {}

    def measured(method: str, workers: int) -> float:
        target = str(folder / "matrix.npy")
        options = {"paths": paths, "side": args.side, "workers": workers, "target": target}
        elapsed, usage = measured_process.call(timed, workers, method=method, **options)
        peaks[f"{method} {workers}"] = usage.peak_bytes
        return elapsed

    calls = {f"{method} {n}": partial(measured, method, n) for method, n in cases}
    seconds = by_turns(calls, args.repeats)
    rates = {name: count / median(values) for name, values in seconds.items()}
    return [
        {
            "photo": f"{size[0]}x{size[1]}",
            "kB": np.mean([path.stat().st_size for path in distinct]) / 1e3,
            "method": method,
            "cores": workers,
            "images_per_s": rates[f"{method} {workers}"],
            "spread_%": spread(seconds[f"{method} {workers}"]),
            "times_OpenCV": rates[f"{method} {workers}"] / rates["OpenCV, full decoding 1"],
            "times_Pillow": rates[f"{method} {workers}"] / rates["Pillow, full decoding 1"],
            "seconds_over_floor": rates[f"{FLOOR} 1"] / rates[f"{method} {workers}"],
            "PSNR_dB": psnr(method, distinct[:4], args.side),
            "peak_MB": peaks[f"{method} {workers}"] / 1e6,
        }
        for method, workers in cases
    ]


def run(args: argparse.Namespace) -> None:
    """Measure all photo sizes and publish the table."""
    record = results.Run("image_matrix", args, args.output)
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        rows: list[results.Row] = []
        for size, count in PHOTOS.items():
            if f"{size[0]}x{size[1]}" not in args.photos:
                continue
            rows += compare(folder, size, max(2, round(args.scale * count)), args)
        record.publish("image_matrix", rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--side", type=int, default=224, help="side of the squares in pixels")
    names = [f"{width}x{height}" for width, height in PHOTOS]
    parser.add_argument("--photos", nargs="+", choices=names, default=names, help="photo sizes")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of photos")
    parser.add_argument("--repeats", type=int, default=5, help="measurements per method")
    parser.add_argument("--folder", type=Path, help="folder to keep photos; default: temporary")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
