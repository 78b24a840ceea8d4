"""Train the embedding model.

Reads   imageset.npy, train.npy, train2.npy, valid.npy, valid_for_test.npy, model_num.json,
        cutted_class.json, split.json; with --cameras, camera_index.csv and camera_image.npy
Writes  <save_path>/model.ep0, model.ep1, ..., log.csv; model.best with --holdout_classes;
        model.last within an epoch with --save_every; model.untrained with --epoch=0

Even epochs take the tuples of train.npy, odd ones those of train2.npy; with another --loss than
tuple, an epoch takes each training image once. --minutes chooses shorter epochs that fill the time.

    python train.py --dpath=~/ir/ --save_path=~/ir/para/ --batch_size=64 --epoch=2

Several processes, on one machine or more with a shared disk, take each step together:

    torchrun --nproc_per_node=2 train.py --dpath=~/ir/ --save_path=~/ir/para/

A --recipe replaces the defaults of all options but those of the run; each flag overrides it.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np

from retrieval import cli, threads
from retrieval.data import files, layout, options
from retrieval.data.provenance import fingerprint
from retrieval.data.sources import warn_stale
from retrieval.data.split import HASHES, load_split_record
from retrieval.training import config as training
from retrieval.training import recipes, thread_choice
from retrieval.training.cameras import DOMAINS, add_cameras
from retrieval.training.config import TrainingConfig
from retrieval.training.dataset import TrainingData, check_files, check_same_split
from retrieval.training.untrained import build_first_model, save_untrained

if TYPE_CHECKING:
    import torch

    from retrieval.model.embedding import EmbeddingModel
    from retrieval.training.checkpointing import ResumePoint
    from retrieval.training.trainer import Trainer

log = logging.getLogger(__name__)


def run(data_dir: Path, save_path: Path, config: TrainingConfig = TrainingConfig()) -> Path:
    """Train, write a checkpoint after each epoch, and return the path of the last one.

    A run that is stopped and resumed (``start_epoch``, ``resume``) ends with the weights of one
    that never stopped. It takes the options that are left out from the checkpoint; some cannot
    differ from it (``TrainingConfig``). With ``ema``, the moving average of the weights is
    validated and saved.

    Args:
        data_dir: The data directory.
        save_path: Folder of the checkpoints.
        config: The options, such as ``TrainingConfig(recipe="ce", epoch=4)``.
    """
    begin, save_path = time.monotonic(), save_path.expanduser()
    given = thread_choice.with_named(config)
    # What can be checked at once is checked before torch is imported, which takes seconds.
    options.check(given)
    if given.epoch == 0:
        return save_untrained(data_dir, save_path, recipes.resolve_config(given), given)
    check_files(data_dir)
    from retrieval.compute import devices, distributed
    from retrieval.model import checkpoint
    from retrieval.model.embedding import compile_backbone
    from retrieval.training import budget, checkpointing
    from retrieval.training.monitor import Monitor, Progress, StepFigures
    from retrieval.training.run_log import RunLog
    from retrieval.training.validation import draw_sample, validate, validate_on_new_classes

    with (
        distributed.process_group(devices.choose(given.device or "auto")) as device,
        files.only_one(save_path) if distributed.is_main() else nullcontext(),
        ExitStack() as stack,
    ):
        # Options: the defaults, the recipe, the checkpoint to resume, the command.
        resumed = checkpointing.find_resume_point(save_path, given)
        config = recipes.resolve_config(given, resumed.options)
        training.warn_without_effect(config, given)
        if resumed.path is not None and resumed.content is not None:
            dim = resumed.content["model"]["dim"]
            before = resumed.content["options"]
            checkpointing.check_resumable(config, before, dim, str(resumed.path))
        if resumed.content is not None:
            now = load_split_record(data_dir)
            hashes = {name: now[name] for name in HASHES}
            check_same_split(hashes, resumed.content["split"], str(resumed.path))
        if resumed.is_finished(config):
            assert resumed.path is not None
            return resumed.path

        if config.recipe == "original" and resumed.content is None:
            log.info(
                "--recipe=ce reaches higher accuracy in the same training time: docs/training.md"
            )

        # Data and model.
        data = load_data(data_dir, config)
        matrix = fingerprint(layout.IMAGE_MATRIX.load(data_dir))
        if distributed.is_main():
            tell_old_images(data_dir, config, resumed, matrix)
        config = replace(config, threads=choose_threads(config, given, data, resumed, device))
        stack.enter_context(threads.computing_with(config.threads))
        # Batches of one size, as all losses but tuple have: search the fastest convolutions once.
        searches = device.type == "cuda" and config.loss != "tuple"
        stack.enter_context(devices.searching_convolutions(searches))
        if resumed.content is None and distributed.is_main():
            thread_choice.name_other_threads(save_path, config)

        def make_one(config: TrainingConfig, is_measured: bool) -> tuple["Trainer", str]:
            trainer, weights = make_trainer(config, given, data, resumed, device, is_measured)
            if config.compile:
                compile_backbone(trainer.model)
            return trainer, weights

        is_in_time = bool(config.minutes) and resumed.content is None
        if is_in_time:
            config = budget.fit_budget(
                lambda config: make_one(config, True)[0], config, given, begin, save_path
            )
        trainer, weights = make_one(config, False)
        config, dtype = trainer.config, trainer.dtype
        judged = draw_sample(data, config.validation_images, config.seed)
        if resumed.content is not None:
            trainer.restore(resumed.content, str(resumed.path))

        # What is written.
        domains = list(DOMAINS if config.cameras else DOMAINS[:1])
        about = {"weights": weights, "domains": domains, "options": config.values()}
        about |= {"split": data.split, "matrix": matrix}
        about |= {"held_out": np.unique(data.labels[data.holdout]).tolist()}
        checkpointer = checkpointing.Checkpointer(save_path, trainer, config.save_every, about)
        is_main = distributed.is_main()
        checkpointing.put_aside(save_path, resumed.epoch)
        run_log = RunLog(save_path, resumed.epoch, config.tensorboard) if is_main else None
        if run_log is not None:
            checkpointing.restore_best(save_path, run_log.best_epoch)
        if not resumed.done:
            checkpointing.remove_last(save_path)

        # The training loop.
        done, recent = list(resumed.done), list[StepFigures]()
        for epoch in range(resumed.epoch, config.epoch):
            n_step, scale = len(trainer.sampler.epoch(epoch)), trainer.scaler.get_scale()
            n_left = n_step - len(done)
            with Progress(Monitor(epoch, done, recent), n_step, config.show_batch) as progress:
                for step, batch in enumerate(trainer.batches(epoch, len(done)), len(done)):
                    progress.take(trainer.step(batch, epoch + step / n_step))
                    if checkpointer.is_due():
                        progress.catch_up()
                        trainer.check_weights()
                        checkpointer.save_within_epoch(epoch, progress.monitor.rows)
            devices.check_steps(trainer.scaler, scale, n_left)
            trainer.check_weights()
            metrics = progress.monitor.means()
            if epoch == config.epoch - 1:
                trainer.finish()
            for judge in (validate, validate_on_new_classes):
                metrics |= judge(trainer.result, judged, config.batch_size, dtype)
            if run_log is not None:
                run_log.add(epoch, metrics)  # first: a row without its checkpoint is redone
            path = checkpointer.save_epoch(epoch, metrics)
            if run_log is not None and run_log.is_best:
                checkpoint.keep_best(path)
            log.info("%s: %s", path, ", ".join(f"{name} {x:.4f}" for name, x in metrics.items()))
            done, recent = [], progress.monitor.window
        if is_in_time:
            budget.report_left(given, begin)
    return path


def tell_old_images(
    data_dir: Path, config: TrainingConfig, resumed: "ResumePoint", matrix: str
) -> None:
    """Warn of outdated files, and if a resumed run gets other images.

    Args:
        data_dir: The data directory.
        config: The options, none left out.
        resumed: The point to continue from.
        matrix: ``provenance.fingerprint`` of the images.
    """
    cameras = (config.camera_images,) if config.cameras else ()
    name = layout.IMAGE_MATRIX.name
    warn_stale(data_dir, name, layout.SPLIT.name, *cameras, photos=True)
    if (resumed.content or {}).get("matrix") not in (None, matrix):
        log.warning(
            "%s was trained on another %s than there is now; to train on this one from the start, "
            "leave --resume and --start_epoch out",
            resumed.path,
            name,
        )


def load_data(data_dir: Path, config: TrainingConfig) -> TrainingData:
    """Return the training data: no held-out classes, the images of other cameras if asked for."""
    data = TrainingData.load(data_dir, has_tuples=config.loss == "tuple")
    if config.holdout_classes:
        data = data.hold_out(config.holdout_classes, config.seed)
    if config.cameras:
        data = add_cameras(data, data_dir, config.cameras, config.camera_images)
    return data


def choose_threads(
    config: TrainingConfig,
    given: TrainingConfig,
    data: TrainingData,
    resumed: "ResumePoint",
    device: "torch.device",
) -> int:
    """Return the number of threads to train with; the arguments are those of ``make_trainer``."""

    def build() -> "EmbeddingModel":
        return load_model(config, given, resumed, data.images.shape[-1], device)[0]

    return thread_choice.choose_threads(config, build)


def make_trainer(
    config: TrainingConfig,
    given: TrainingConfig,
    data: TrainingData,
    resumed: "ResumePoint",
    device: "torch.device",
    is_measured: bool = False,
) -> tuple["Trainer", str]:
    """Return the trainer before its first step, and where the model's first weights came from.

    The trainer's options have the size of the ``micro_batch``, which decides the statistics of
    batch norms, so that a run continues with it on any machine. The arguments are those of
    ``load_model`` and ``is_measured``: only the speed of the steps matters, so that the whitening
    of a start, which takes long, is left out.
    """
    import torch

    from retrieval.compute import devices, distributed
    from retrieval.model.tta import takes_one_side
    from retrieval.training import gradient_cache
    from retrieval.training.trainer import Trainer

    side = data.images.shape[-1]
    torch.manual_seed(config.seed)
    model, weights = load_model(config, given, resumed, side, device)
    dtype = distributed.agreed_dtype(devices.training_dtype(model, device, config.precision))
    fits = config.micro_batch or gradient_cache.agreed_micro_batch(model, side, dtype)
    if takes_one_side(model):
        config = replace(config, encode_scale=1.0)
    trainer = Trainer(replace(config, micro_batch=fits), data, model, dtype)
    if resumed.content is None and not is_measured:
        trainer.start()
    return trainer, weights


def load_model(
    config: TrainingConfig,
    given: TrainingConfig,
    resumed: "ResumePoint",
    side: int,
    device: "torch.device",
) -> tuple["EmbeddingModel", str]:
    """Return the model on its device, and where its first weights came from.

    Args:
        config: The options, none left out.
        given: The options of the command: ``frozen_bn`` freezes random batch norms only on demand.
        resumed: The point to continue from; its checkpoint has the weights, if there is one.
        side: Image side in pixels, before ``scale``.
        device: Where the model goes.
    """
    from retrieval.compute import distributed
    from retrieval.model import checkpoint, pretrained
    from retrieval.model.embedding import put_on

    if resumed.path is not None and resumed.content is not None:
        model = checkpoint.build_model(resumed.content, resumed.path, config.arch)
        weights, is_frozen = resumed.content["weights"], resumed.content["frozen_norms"]
    else:
        model, weights = build_first_model(config, side)
        # All processes get the weights of the first; another machine may not have the file.
        weights = distributed.broadcast(weights)
        is_random = weights.startswith(pretrained.RANDOM) and not given.frozen_bn
        if config.frozen_bn and is_random:
            log.info("the batch norms are trained, as the first weights are random")
        is_frozen = config.frozen_bn and not is_random
    if is_frozen:
        model.freeze_norms()
    if not weights.startswith(pretrained.RANDOM) or given.frozen_stages:
        model.freeze_stages(config.frozen_stages)
    return put_on(model, device), weights


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument(
        "--save_path", type=cli.user_path, required=True, help="folder of the checkpoints"
    )
    options.add_arguments(parser, TrainingConfig, left_out=None)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
