"""Train the embedding model.

Reads   imageset.npy, train.npy, train2.npy, valid.npy, valid_for_test.npy, model_num.json
Writes  <save_path>/model.ep0, model.ep1, ..., log.csv; model.best with --holdout_classes;
        model.last within an epoch with --save_every

Even epochs take the tuples of train.npy, odd ones those of train2.npy; with another --loss than
tuple, an epoch takes each training image once.

    python train.py --dpath=~/ir/ --save_path=~/ir/para/ --batch_size=64 --epoch=2

Several processes, of one machine or more with a common disk, take each step together:

    torchrun --nproc_per_node=2 train.py --dpath=~/ir/ --save_path=~/ir/para/

A --recipe sets all options whose default is not shown; each of them overrides it.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from retrieval import cli
from retrieval.compute import devices, distributed
from retrieval.data.formats import InputError
from retrieval.model import backbones, checkpoint
from retrieval.model import pretrained as first_weights
from retrieval.model.embedding import EmbeddingModel, ModelConfig, compile_backbone, put_on
from retrieval.training import checkpointing, config, continuing, gradient_cache, recipes, trainer
from retrieval.training.dataset import TrainingData
from retrieval.training.monitor import Row
from retrieval.training.run_log import RunLog
from retrieval.training.validation import validate, validate_on_new_classes

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    save_path: Path,
    show_batch: int = 5,
    start_epoch: int = -1,
    resume: checkpointing.Resume = "none",
    save_every: float = 0,
    scale: float | None = None,
    weights: str = "auto",
    recipe: str | None = None,
    holdout_classes: float | None = None,
    max_tuples: int | None = None,
    micro_batch: int | None = None,
    tensorboard: bool = False,
    device: str = "auto",
    precision: devices.Precision | None = None,
    compile: bool = False,
    seed: int | None = None,
    arch: str | None = None,
    pool: str | None = None,
    dim: int | None = None,
    neck: str | None = None,
    frozen_bn: bool | None = None,
    loss: str | None = None,
    negatives: str | None = None,
    temperature: float | None = None,
    logit_scale: float | None = None,
    margin: float | None = None,
    label_smoothing: float | None = None,
    sampler: str | None = None,
    images_per_class: int | None = None,
    batch_size: int | None = None,
    epoch: int | None = None,
    optimizer: str | None = None,
    lr: float | None = None,
    head_lr: float | None = None,
    proxy_lr: float | None = None,
    weight_decay: float | None = None,
    momentum: float | None = None,
    schedule: str | None = None,
    lr_shrink: float | None = None,
    shrink_every: int | None = None,
    warmup: float | None = None,
    frozen_epochs: int | None = None,
    clip: float | None = None,
    ema: float | None = None,
    augmentation: str | None = None,
) -> Path:
    """Train, write a checkpoint after each epoch, and return the path of the last one.

    A run that is stopped and continued (``start_epoch``, ``resume``) ends with the same weights as
    one that never stopped. Options that are left out are then those of the checkpoint, and some
    cannot differ from it: ``continuing.RULES``. With ``ema``, what is validated and kept is the
    moving average of the weights.

    Args:
        data_dir: The data directory.
        save_path: Folder of the checkpoints.
        show_batch: The mean loss of so many steps is shown.
        start_epoch: Continue from ``model.ep{start_epoch}``; -1 starts anew.
        resume: ``auto``: continue from the newest checkpoint in the folder, if there is any.
        save_every: Minutes between checkpoints within an epoch, ``model.last``; 0: none.
        scale: Images are scaled by it before the backbone.
        weights: First weights of the backbone: auto, imagenet, none or the path of a state dict.
        recipe: One of ``recipes.RECIPES``; None is ``original``.
        holdout_classes: Share (below 1) or number of classes that are not trained on at all; the
            epoch with the best map@R on them becomes ``model.best``.
        max_tuples: Tuples or images of an epoch, drawn at random; 0 takes all.
        micro_batch: Images whose activations are kept at once; 0 chooses by the memory.
        tensorboard: Write the metrics for TensorBoard too.
        device: auto, cpu, cuda or cuda:n.
        precision: Of the convolutions: ``devices.compute_dtype``.
        compile: Compile the backbone first, which takes minutes.
        seed: Of the first weights, the order, the augmentation and the held-out classes.

    All others are those of ``training_options.Recipe``; None takes the recipe's value, and
    ``continuing.DEFAULTS`` for those that no recipe has.
    """
    options = {name: value for name, value in locals().items() if not isinstance(value, Path)}
    save_path = save_path.expanduser()
    with distributed.process_group(devices.choose(device)) as place:
        path = checkpointing.to_continue(save_path, start_epoch, resume)
        content = checkpoint.load(path) if path else None
        before = content and content["options"]
        chosen = recipes.resolve(recipe, options, before)
        options |= {"recipe": recipe or (before or {}).get("recipe", recipes.DEFAULT)}
        options |= chosen.options() | continuing.settle(options, before)
        _check_options(options)
        if content is not None and path is not None:
            continuing.check(content, path, options)
        first_epoch, rows = checkpointing.progress(content)
        if first_epoch >= chosen.epoch:
            return checkpointing.nothing_left(path, chosen.epoch, resume)
        data = TrainingData.load(data_dir)
        if options["holdout_classes"]:
            data = data.hold_out(options["holdout_classes"], options["seed"])
        torch.manual_seed(options["seed"])
        if content is None or path is None:
            side = round(data.images.shape[-1] * options["scale"])
            model, origin = _first_model(chosen, weights, side)
        else:
            model, origin = checkpoint.build_model(content, path, chosen.arch), content["weights"]
        is_frozen = content and content.get("frozen_norms")  # as it was when the run began
        if _freezes(chosen, origin, bool(frozen_bn)) if is_frozen is None else is_frozen:
            model.freeze_norms()
        put_on(model, place)
        dtype = distributed.agreed_dtype(devices.compute_dtype(place, options["precision"]))
        # Steps of classes have one size, for which the fastest convolutions are worth a search.
        torch.backends.cudnn.benchmark = place.type == "cuda" and chosen.loss != "tuple"
        session = trainer.make(
            chosen,
            data,
            model,
            micro_batch=options["micro_batch"]
            or gradient_cache.agreed_micro_batch(model, data.images.shape[-1], dtype),
            dtype=dtype,
            seed=options["seed"],
            max_tuples=options["max_tuples"],
        )
        if compile:
            compile_backbone(model)
        if content is not None:
            session.restore(content)
        run_log = RunLog(save_path, first_epoch, tensorboard) if distributed.is_main() else None
        about = {"weights": origin, "options": options}
        keeper = checkpointing.Checkpointer(save_path, session, save_every, about)
        return _train(session, data, keeper, run_log, first_epoch, rows, show_batch)


def _train(
    session: trainer.Trainer,
    data: TrainingData,
    keeper: checkpointing.Checkpointer,
    run_log: RunLog | None,
    first_epoch: int,
    rows: Sequence[Row],
    show_batch: int,
) -> Path:
    """Train all epochs that are left, and return the path of the last checkpoint."""
    if run_log is not None:
        checkpointing.restore_best(keeper.save_path, first_epoch, run_log.best_epoch)
    if not rows:
        checkpointing.forget_last(keeper.save_path)
    recipe = session.recipe
    for number in range(first_epoch, recipe.epoch):
        done = rows if number == first_epoch else ()
        metrics = session.train_epoch(data.images, number, show_batch, done, keeper)
        for judge in (validate, validate_on_new_classes):
            metrics |= judge(session.result, data, recipe.batch_size, session.dtype)
        if run_log is not None:
            run_log.add(number, metrics)  # first: a row without its checkpoint is written again
        path = keeper.keep_epoch(number, metrics)
        if run_log is not None and run_log.is_best:
            checkpoint.keep_best(path)
        log.info("%s: %s", path, ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return path


def _first_model(recipe: config.Recipe, first: str, side: int) -> tuple[EmbeddingModel, str]:
    """Return the model that training starts with, and where its weights came from."""
    mean, std = backbones.normalization(recipe.arch)
    dim = recipe.dim or backbones.width(recipe.arch, max(1, side))
    config = ModelConfig(recipe.arch, dim, max(1, side), mean, std, recipe.pool, recipe.neck)
    model = EmbeddingModel(config)
    origin = first_weights.initialize(model, first)
    # All processes get the weights of the first one, which another machine may not have found.
    return model, distributed.broadcast(origin)


def _freezes(recipe: config.Recipe, origin: str, is_asked: bool) -> bool:
    """Return whether batch norms are frozen: not before they learned, unless one insists."""
    is_random = origin.startswith(first_weights.RANDOM) and not is_asked
    if recipe.frozen_bn and is_random:
        log.warning("The batch norms are trained, as the first weights are random.")
    return recipe.frozen_bn and not is_random


def _check_options(options: dict[str, Any]) -> None:
    for name in ("show_batch", "scale"):
        if not options[name] > 0:
            raise InputError(f"--{name} must be above 0; got {options[name]}")
    for name in ("micro_batch", "max_tuples", "seed", "holdout_classes", "save_every"):
        if options[name] < 0:
            raise InputError(f"--{name} must be at least 0; got {options[name]}")
    backbones.check(options["arch"])


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    add = parser.add_argument
    add("--save_path", type=cli.user_path, required=True, help="folder of the checkpoints")
    add("--show_batch", type=int, help="show the mean loss of so many steps")
    add("--start_epoch", type=int, help="continue from model.ep{start_epoch}; -1 starts anew")
    add(
        "--resume",
        choices=get_args(checkpointing.Resume),
        help="auto: continue from the newest checkpoint",
    )
    add("--save_every", type=float, help="minutes between checkpoints in an epoch; 0: none")
    add("--scale", type=float, help="images are scaled by it before the backbone (1)")
    add("--weights", help="first weights: auto, imagenet, none or the path of a state dict")
    add("--recipe", choices=recipes.RECIPES, help="what is set together; left out: original")
    add(
        "--holdout_classes",
        type=float,
        help="not trained on, to choose model.best: share < 1, or number (0)",
    )
    add("--max_tuples", type=int, help="tuples or images of an epoch, at random; 0: all (0)")
    add("--micro_batch", type=int, help="images kept with activations; 0: by the memory (0)")
    add("--tensorboard", action=argparse.BooleanOptionalAction, help="write metrics for it")
    add("--seed", type=int, help="of all that is drawn at random (7)")
    cli.add_compute_arguments(parser)
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the backbone first, which takes minutes",
    )
    config.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
