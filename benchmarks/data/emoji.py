"""Build a dataset of emoji images from several vendors: one class per emoji.

Reads   --packages, a folder with the unpacked packages emoji-datasource-<vendor>
Writes  <dpath>/photos/<emoji>/<vendor>.png   three vendors: the database and training images
        <dpath>/queries/<emoji>/<vendor>.png  the fourth, in another style: the queries

    for vendor in apple google twitter facebook; do
        npm pack emoji-datasource-$vendor
        mkdir $vendor && tar -xf emoji-datasource-$vendor-*.tgz -C $vendor
    done
    python -m benchmarks.data.emoji --packages=. --dpath=~/emoji/

Skin tones are skipped. Continue as with your own images (README), with --ratio=3 --min_len=3 for
the split.
"""

import argparse
import json
import shutil
from pathlib import Path

from retrieval import cli

VENDORS = ("apple", "google", "twitter", "facebook")


def pictures(packages: Path, vendor: str) -> dict[str, Path]:
    """Return emoji -> image of one vendor; emoji are named by their code points."""
    roots = [p.parent for p in packages.glob(f"**/img/{vendor}") if p.is_dir()]
    if not roots:
        raise SystemExit(f"no img/{vendor} below {packages}; unpack emoji-datasource-{vendor}")
    folder = min(roots) / vendor / "64"
    table = json.loads((min(roots).parent / "emoji.json").read_text(encoding="utf-8"))
    named = {entry["unified"]: folder / entry["image"] for entry in table}
    return {name: path for name, path in named.items() if path.is_file()}


def run(packages: Path, data_dir: Path, queries: str = "facebook") -> int:
    """Copy the images of the emoji that all vendors have; return the number of emoji."""
    of_vendor = {vendor: pictures(packages, vendor) for vendor in VENDORS}
    common = sorted(set.intersection(*(set(found) for found in of_vendor.values())))
    for vendor, found in of_vendor.items():
        part = "queries" if vendor == queries else "photos"
        for name in common:
            target = data_dir / part / name / f"{vendor}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found[name], target)
    return len(common)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", type=cli.user_path, required=True, help="unpacked packages")
    parser.add_argument("--dpath", type=cli.user_path, required=True, help="target folder")
    parser.add_argument("--queries", choices=VENDORS, default="facebook", help="query vendor")
    return parser


if __name__ == "__main__":
    options = make_parser().parse_args()
    print(run(options.packages, options.dpath, options.queries), "emoji")
