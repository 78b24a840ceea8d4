"""Export a trained model to ONNX, for use without torch.

Reads   a checkpoint of train.py
Writes  model.onnx, or the name given as --output

    python -m process_data.export_onnx --dpath=~/ir/ --save_path=~/ir/para/model.ep0

Input ``images``: (n, 3, side, side) uint8, RGB; ``side`` is that of the training images.
Output ``embeddings``: (n, dim) float32, rows of unit L2 norm. The graph includes the views of --tta
and --scales, scaling to [0, 1], normalization, pooling and projection. To search a database with
it, name the views of that database. The metadata name the checkpoint by its hash. The export is
checked with onnxruntime against torch.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.data import files, layout
from retrieval.data.formats import InputError
from retrieval.data.provenance import sha256
from retrieval.model import checkpoint
from retrieval.model.model_config import SCALES_HELP, TTA_HELP, Tta

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    save_path: Path,
    output: str = layout.ONNX_MODEL.name,
    tta: Tta | None = None,
    scales: tuple[float, ...] | None = None,
    tolerance: float = 0.001,
    seed: int = 7,
) -> Path:
    """Write the model, check it, and return its path.

    Args:
        data_dir: The data directory.
        save_path: The checkpoint.
        output: Name of the file to write.
        tta: ``flip`` averages the embeddings of each image and of its mirror image; None takes
            what the checkpoint was trained for.
        scales: Averages the embeddings at these multiples of the model's side; None as above.
        tolerance: Largest allowed difference of an embedding value between onnxruntime and torch
            in float32, on random images; nothing is written if it is exceeded.
        seed: Seed of the random images.

    Raises:
        InputError: The difference exceeds ``tolerance``, or an input or package is missing.
    """
    path = layout.ONNX_MODEL.target(data_dir, output)
    if not data_dir.is_dir():
        raise InputError(f"{data_dir} is not a folder; name one with --dpath")
    save_path = save_path.expanduser()
    checkpoint.check_exists(save_path, data_dir)
    from retrieval.model import onnx  # imports torch: after the checks
    from retrieval.model.tta import Views

    content = checkpoint.load(save_path)
    own_tta, own_scales = checkpoint.recommended_views(content)
    views = Views(tta or own_tta, tuple(scales or own_scales))
    model = checkpoint.build_model(content, save_path).eval()
    with files.whole(path) as part:
        onnx.export(model, part, views, metadata={"checkpoint_sha256": sha256(save_path)})
        difference = onnx.largest_difference(model, part, seed, views)
        log.info("largest difference between onnxruntime and torch: %.2g", difference)
        if not difference <= tolerance:
            raise InputError(
                f"onnxruntime differs from torch by {difference:.2g} with {save_path}, more than "
                f"--tolerance={tolerance}; nothing was written"
            )
    log.info("%s: %d bytes", path, path.stat().st_size)
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument(
        "--save_path", type=cli.user_path, required=True, help="checkpoint file to export"
    )
    parser.add_argument("--output", help="name of the file to write")
    parser.add_argument("--tta", choices=get_args(Tta), help=TTA_HELP)
    parser.add_argument("--scales", type=cli.numbers, help=SCALES_HELP)
    parser.add_argument("--tolerance", type=float, help="largest difference from torch")
    parser.add_argument("--seed", type=int, help="seed of the random images compared")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
