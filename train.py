"""Train the embedding model on the tuples of the split.

Reads   imageset.npy, train.npy, train2.npy, valid.npy, valid_for_test.npy, model_num.json
Writes  <save_path>/model.ep0, model.ep1, ...

Even epochs take the tuples of train.npy, odd ones those of train2.npy.

    python train.py --dpath=~/ir/ --save_path=~/ir/para/ --batch_size=64 --epoch=2
"""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from retrieval import augment, checkpoint, cli, devices, gradient_cache
from retrieval.formats import InputError
from retrieval.model import ARCHITECTURES, EmbeddingModel, ModelConfig, trunk_width
from retrieval.trainer import Negatives, Trainer
from retrieval.training_data import TrainingData
from retrieval.validation import validate
from retrieval.weights import initialize

log = logging.getLogger(__name__)

# Options that may differ between a run and its continuation without a word.
FREE_OPTIONS = ("epoch", "start_epoch", "show_batch", "device", "weights")


def run(
    data_dir: Path,
    save_path: Path,
    batch_size: int = 64,
    epoch: int = 2,
    show_batch: int = 5,
    lr: float = 0.0001,
    lr_shrink: float = 0.9,
    arch: str = "resnet50",
    start_epoch: int = -1,
    scale: float = 1.0,
    weights: str = "auto",
    dim: int | None = None,
    negatives: Negatives = "tuple",
    temperature: float = 0.1,
    augmentation: augment.Augmentation = "light",
    max_tuples: int = 0,
    micro_batch: int = 0,
    device: str = "auto",
    precision: devices.Precision = "auto",
    seed: int = 7,
) -> Path:
    """Train, write a checkpoint after each epoch, and return the path of the last one.

    A run that is stopped and continued with ``start_epoch`` ends with the same weights as one
    that never stopped.

    Args:
        data_dir: The data directory.
        save_path: Folder of the checkpoints.
        batch_size: Tuples in a step.
        epoch: Epochs in all, counting those up to ``start_epoch``.
        show_batch: The mean loss of so many steps is shown.
        lr: Learning rate of the first epoch.
        lr_shrink: The learning rate is multiplied by it after each epoch.
        arch: The trunk, one of ``ARCHITECTURES``.
        start_epoch: Continue from ``model.ep{start_epoch}``; -1 starts anew.
        scale: Images are scaled by it before the trunk.
        weights: First weights of the trunk: auto, imagenet, none or the path of a state dict.
        dim: Length of an embedding; None takes the width of the trunk.
        negatives: ``tuple``: those of each tuple; ``batch``: all of other classes in the step.
        temperature: Of the softmax over the similarities.
        augmentation: Random changes of the training images.
        max_tuples: Tuples of an epoch, drawn at random; 0 takes all.
        micro_batch: Images whose activations are kept at once; 0 chooses by the memory.
        device: auto, cpu, cuda or cuda:n.
        precision: Of the convolutions; auto takes bfloat16 where the processor has it.
        seed: Of the first weights, the order and the augmentation.
    """
    options = {name: value for name, value in locals().items() if not isinstance(value, Path)}
    _check_options(options)
    save_path = save_path.expanduser()
    content: dict[str, Any] | None = None
    if start_epoch >= 0:
        path = checkpoint.path_of(save_path, start_epoch)
        content = checkpoint.load(path)
    data = TrainingData.load(data_dir)
    place = devices.choose(device)
    torch.manual_seed(seed)
    if content is None:
        side = max(1, round(data.images.shape[-1] * scale))
        model = EmbeddingModel(ModelConfig(arch, dim or trunk_width(arch), side))
        origin = initialize(model, weights)
    else:
        model = checkpoint.build_model(content, path, arch)
        origin = content["weights"]
        _warn_of_changes(content["options"], options)
    model.to(place).to(memory_format=torch.channels_last)
    dtype = devices.compute_dtype(place, precision)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, lr_shrink),
        order=torch.Generator().manual_seed(seed),
        augmentation=augmentation,
        negatives=negatives,
        temperature=temperature,
        micro_batch=micro_batch or _measured_micro_batch(model, data, place, dtype),
        dtype=dtype,
    )
    if content is not None:
        trainer.restore(content)
    for number in range(start_epoch + 1, epoch):
        loss = trainer.train_epoch(data, number, max_tuples, batch_size, show_batch)
        metrics = {"loss": loss, **validate(model, data, batch_size, dtype)}
        path = checkpoint.save(
            checkpoint.path_of(save_path, number),
            model,
            epoch=number,
            weights=origin,
            options=options,
            metrics=metrics,
            **trainer.state(),
        )
        log.info("%s: %s", path, ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return path


def _measured_micro_batch(
    model: EmbeddingModel, data: TrainingData, place: torch.device, dtype: torch.dtype
) -> int:
    autocast = partial(devices.autocast, place, dtype)
    fits = gradient_cache.micro_batch_that_fits(model, data.images.shape[-1], autocast)
    log.info("%d images with their activations fit into memory at once", fits)
    return fits


def _check_options(options: dict[str, Any]) -> None:
    for name in ("batch_size", "show_batch", "lr", "lr_shrink", "scale", "temperature"):
        if not options[name] > 0:
            raise InputError(f"--{name} must be above 0; got {options[name]}")
    if min(options["micro_batch"], options["max_tuples"]) < 0 or (options["dim"] or 1) < 1:
        raise InputError("--micro_batch and --max_tuples must be at least 0, --dim at least 1")
    if options["arch"] not in ARCHITECTURES:
        raise InputError(f"--arch must be one of {', '.join(ARCHITECTURES)}")
    if options["epoch"] <= options["start_epoch"] + 1:
        raise InputError(
            f"--epoch={options['epoch']} counts all epochs, so nothing is left to train after "
            f"--start_epoch={options['start_epoch']}"
        )


def _warn_of_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if name not in FREE_OPTIONS and before.get(name) != value:
            log.warning("--%s was %s and is %s now", name, before.get(name), value)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    add = parser.add_argument
    add("--save_path", type=cli.user_path, required=True, help="folder of the checkpoints")
    add("--batch_size", type=int, help="tuples in a step")
    add("--epoch", type=int, help="epochs in all, counting those up to --start_epoch")
    add("--show_batch", type=int, help="show the mean loss of so many steps")
    add("--lr", type=float, help="learning rate of the first epoch")
    add("--lr_shrink", type=float, help="the learning rate is multiplied by it after each epoch")
    add("--arch", choices=ARCHITECTURES, help="the trunk")
    add("--start_epoch", type=int, help="continue from model.ep{start_epoch}; -1 starts anew")
    add("--scale", type=float, help="images are scaled by it before the trunk")
    add("--weights", help="first weights: auto, imagenet, none or the path of a state dict")
    add("--dim", type=int, help="length of an embedding; the trunk's width where left out")
    add("--negatives", choices=get_args(Negatives), help="of the tuple, or all in the step")
    add("--temperature", type=float, help="of the softmax over the similarities")
    add("--augmentation", choices=get_args(augment.Augmentation), help="of the training images")
    add("--max_tuples", type=int, help="tuples of an epoch, drawn at random; 0: all")
    add("--micro_batch", type=int, help="images kept with activations; 0: by the memory")
    add("--seed", type=int, help="of the first weights, the order and the augmentation")
    cli.add_compute_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
