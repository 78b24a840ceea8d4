"""Fine-tune a model for the surveillance images, without their labels.

Reads   a checkpoint, imageset.npy, test_image.npy and the split: model_num.json, cutted_class.json,
        valid_for_test.npy; and, only to list what was left out, test.npy (or --tindex)
Writes  a checkpoint (--output) and, with --share below 1, test_held_out.npy

    python -m process_data.adapt --dpath=~/ir/ --save_path=~/ir/para/model.ep0 --share=0.5
    python -m process_data.mips --dpath=~/ir/ --to_test=test_held_out.npy

Unsupervised, transductive domain adaptation: the model is trained on the very images that are the
test queries, with labels that it guesses itself. Report it as such; or adapt to a --share of the
images, encode database and queries again, and evaluate on the others, as in the second command.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from retrieval import (
    augment,
    checkpoint,
    cli,
    devices,
    layout,
    objectives,
    provenance,
    pseudo_labels,
    recipes,
    splits,
)
from retrieval.formats import InputError
from retrieval.model import EmbeddingModel, put_on
from retrieval.pseudo_labels import UNKNOWN
from retrieval.self_training import Images, SelfTrainer

log = logging.getLogger(__name__)

ADAPTED = "model.adapted"


def run(
    data_dir: Path,
    save_path: Path,
    output: Path | None = None,
    share: float = 1.0,
    pseudo: pseudo_labels.Pseudo = "centroid",
    confident: float = 0.3,
    rounds: int = 3,
    steps: int = 50,
    classes: int = 16,
    images: int = 4,
    lr: float = 0.0001,
    temperature: float = 0.1,
    augmentation: augment.Augmentation = "light",
    batch_size: int = 64,
    device: str = "auto",
    precision: devices.Precision = "auto",
    seed: int = 7,
    tindex: str | None = None,
) -> Path:
    """Write a checkpoint of the adapted model, and return its path.

    Each round guesses the classes of the surveillance images with the model as it is by then, and
    trains on the surest of them together with the training images of the web.

    Args:
        data_dir: The data directory.
        save_path: The checkpoint to start from.
        output: The checkpoint to write; ``model.adapted`` beside the other where None. It says all
            that encoding needs, but training cannot be continued from it.
        share: Of the surveillance images, drawn at random, that are looked at.
        pseudo: How classes are guessed: by the nearest class, or by clusters mutually nearest
            with a class; ``none`` guesses nothing: the control, as many steps on the web alone.
        confident: Of the images guessed to be of a class, the share that is trained on.
        rounds: Times that classes are guessed.
        steps: Optimizer steps of a round.
        classes: Classes in a step.
        images: Images of each class in a step, half of them surveillance images.
        lr: Learning rate.
        temperature: Of the loss.
        augmentation: Random changes of the images.
        batch_size: Images embedded, or kept with activations, at once.
        device: auto, cpu, cuda or cuda:n.
        precision: Of the convolutions: ``devices.compute_dtype``.
        seed: Of all that is drawn.
        tindex: Index csv of the test images that ``test_image.npy`` was made from; ``test.npy``
            is used where it is None.
    """
    options = {name: value for name, value in locals().items() if not isinstance(value, Path)}
    if not (0 < share <= 1 and 0 < confident <= 1 and lr > 0 and temperature > 0):
        raise InputError(
            "--share and --confident must be above 0 and at most 1, --lr and --temperature above 0"
        )
    if min(rounds, steps, batch_size) < 1 or min(classes, images) < 2:
        raise InputError("--rounds, --steps and --batch_size must be at least 1, the others 2")
    save_path = save_path.expanduser()
    output = output.expanduser() if output else save_path.with_name(ADAPTED)
    content = checkpoint.load(save_path)
    start = {"start": str(save_path), "start_sha256": provenance.sha256(save_path)}
    place = devices.choose(device)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    both = _load_images(data_dir, share, rng)
    if pseudo == "none":
        log.info("a control: as many steps on the images of the web alone")
    else:
        counts = len(both.targets), len(both.cameras)
        log.info("unsupervised, transductive adaptation to %d of %d surveillance images", *counts)
    held_out = _held_out(data_dir, tindex, both)
    model = checkpoint.build_model(content, save_path)
    if content.get("frozen_norms"):  # as in the training before
        model.freeze_norms()
    put_on(model, place)
    trainer = SelfTrainer(
        model=model,
        objective=make_objective(model, both, temperature),
        optimizer=torch.optim.Adam(model.parameters(), lr),
        images=both,
        classes=classes,
        images_of_class=images,
        augmentation=augmentation,
        batch_size=batch_size,
        dtype=devices.compute_dtype(place, precision),
    )
    for number in range(rounds):
        guessed = trainer.guess(pseudo, confident, seed)
        n_guessed = int((guessed != UNKNOWN).sum())
        loss = trainer.train(guessed, steps, rng)
        log.info("round %d: %d images with guessed classes, loss %.4f", number, n_guessed, loss)
    listed = _save_held_out(data_dir, held_out)  # before the checkpoint, which has its hash
    checkpoint.save(
        output,
        model,
        epoch=content["epoch"],
        weights=content["weights"],
        options={**content["options"], "adapted": options | start},
        frozen_norms=model.has_frozen_norms,
        has_seen_queries=pseudo != "none" or checkpoint.has_seen_queries(content),
        held_out_sha256=_unseen(content, pseudo, listed),
        metrics={"loss": loss},
    )
    log.info("%s: adapted; encode database and queries again with it", output)
    return output


def make_objective(
    model: EmbeddingModel, images: Images, temperature: float
) -> objectives.Objective:
    """Return the supervised contrastive loss, which needs no proxies of classes."""
    recipe = replace(recipes.ORIGINAL, loss="supcon", temperature=temperature)
    return objectives.make(recipe, model.config.dim, len(np.unique(images.source_labels)))


def _load_images(data_dir: Path, share: float, rng: np.random.Generator) -> Images:
    """Return the training images of the web, and the surveillance images that are looked at."""
    web, cameras = layout.IMAGE_MATRIX.load(data_dir), layout.TEST_MATRIX.load(data_dir)
    labels = splits.load_labels(data_dir)
    if len(labels) != len(web) or cameras.shape[1:] != web.shape[1:] or not len(cameras):
        raise InputError(
            f"{layout.IMAGE_MATRIX.name} must have the {len(labels)} images of the split, and "
            f"{layout.TEST_MATRIX.name} images of the same side"
        )
    is_used = ~np.isin(labels, layout.MINOR_CLASSES.load(data_dir))
    is_used[layout.VALID_QUERIES.load(data_dir)[:, 0]] = False
    sources = np.flatnonzero(is_used)
    count = max(1, round(share * len(cameras)))
    targets = np.sort(rng.permutation(len(cameras))[:count])
    return Images(web, sources, labels[sources], cameras, targets)


def _held_out(data_dir: Path, tindex: str | None, images: Images) -> np.ndarray:
    """Return Index and Class of the test images that are not looked at, (n, 2) int64."""
    is_listed = tindex is not None or layout.TEST_QUERIES.at(data_dir).exists()
    n_image = len(images.cameras)
    if len(images.targets) == n_image or not is_listed:
        return np.empty((0, 2), np.int64)
    queries = splits.load_test_queries(data_dir, tindex, n_image, layout.TEST_MATRIX.name)
    is_minor = np.isin(queries[:, 1], layout.MINOR_CLASSES.load(data_dir))
    return queries[~np.isin(queries[:, 0], images.targets) & ~is_minor]


def _save_held_out(data_dir: Path, held_out: np.ndarray) -> str | None:
    """List the test images that were not looked at, for mips and nns; return the file's hash."""
    path = layout.TEST_HELD_OUT.at(data_dir)
    path.unlink(missing_ok=True)  # that of an earlier run
    if not len(held_out):
        return None
    layout.TEST_HELD_OUT.save(data_dir, held_out)
    log.info("%s: %d test images that were not looked at", path, len(held_out))
    return provenance.sha256(path)


def _unseen(content: dict[str, Any], pseudo: str, held_out: str | None) -> str | None:
    """Return the hash of the list of test images that no adaptation so far has looked at."""
    before = content.get("held_out_sha256")
    if pseudo == "none":
        return before
    return held_out if before == held_out or not checkpoint.has_seen_queries(content) else None


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    add = parser.add_argument
    add("--save_path", type=cli.user_path, required=True, help="the checkpoint, a file")
    add("--output", type=cli.user_path, help=f"the checkpoint to write; left out: {ADAPTED}")
    add("--share", type=float, help="of the surveillance images, those looked at")
    add("--pseudo", choices=get_args(pseudo_labels.Pseudo), help="how classes are guessed")
    add("--confident", type=float, help="share of each class's guesses that is trained on")
    add("--rounds", type=int, help="times that classes are guessed")
    add("--steps", type=int, help="optimizer steps of a round")
    add("--classes", type=int, help="classes in a step")
    add("--images", type=int, help="images of each class in a step")
    add("--lr", type=float, help="learning rate")
    add("--temperature", type=float, help="of the softmax over the similarities")
    add("--augmentation", choices=get_args(augment.Augmentation), help="of the images")
    add("--batch_size", type=int, help="images embedded, or kept with activations, at once")
    add("--seed", type=int, help="of all that is drawn")
    add("--tindex", help="index csv of the test images, in place of test.npy")
    cli.add_compute_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
