"""Every option of training: one field each, with its help, range, and rule for resumed runs.

The parser, the checks, the resume rules, the warnings about options without effect and the table
in docs/training.md all derive from the fields. A new option takes one field here, and its use.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from retrieval.compute.devices import DEVICE_HELP, PRECISION_HELP, Precision
from retrieval.data import layout, options
from retrieval.data.formats import InputError
from retrieval.data.options import Option
from retrieval.model.model_config import Neck, Pool, Tta

log = logging.getLogger(__name__)

RecipeName = Literal["original", "ce"]
LossName = Literal[
    "tuple", "ce", "proxy_anchor", "arcface", "supcon", "ms", "triplet", "ce+triplet", "ce+supcon"
]
Negatives = Literal["tuple", "batch"]
SamplerName = Literal["random", "pk"]
OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["shrink", "cosine"]
AugmentationName = Literal["none", "camera", "light", "crop", "strong", "surveillance"]
Resume = Literal["none", "auto"]

# What a resumed run does with an option.
# keep: takes the checkpoint's value if it is left out; a new value applies from then on.
# fixed: takes the checkpoint's value; any other is refused.
# free: belongs to the command, not to the run.
OnResume = Literal["keep", "fixed", "free"]
Condition = Callable[["TrainingConfig"], object]

FEWEST_VALIDATED = 16  # images: two classes, with a few queries each


@dataclass(frozen=True)
class Rules:
    """Rules of a training option: on a resumed run, and when it has an effect.

    Attributes:
        on_resume: What a resumed run does with it.
        applies: Whether it has an effect with the other options; None: always.
    """

    on_resume: OnResume
    applies: Condition | None = None


def _has(*losses: str) -> Condition:
    return lambda config: {*losses} & {*config.loss.split("+")}


def _in(group: str) -> Callable[..., Any]:
    """Return a function that declares the options of one group.

    Their fields are None until `resolve_config` fills them.
    """

    def declare(
        default: Any,
        help: str,
        on_resume: OnResume = "keep",
        applies: Condition | None = None,
        **limits: Any,
    ) -> Any:
        rules = Rules(on_resume, applies)
        metadata = {"option": Option(default, help, group=group, **limits), "rules": rules}
        return field(default=None, metadata=metadata)

    return declare


RUN = "run"  # the options that no recipe sets
_run, _model, _loss = _in(RUN), _in("model"), _in("loss")
_batches, _optimizer, _schedule = _in("batches"), _in("optimizer"), _in("schedule")


def _takes_images(config: "TrainingConfig") -> bool:
    return config.loss != "tuple"


def _has_cameras(config: "TrainingConfig") -> object:
    return config.cameras


def _groups_classes(config: "TrainingConfig") -> bool:
    return _takes_images(config) and config.sampler == "pk"


def _shrinks(config: "TrainingConfig") -> bool:
    return config.schedule == "shrink"


def _has_momentum(config: "TrainingConfig") -> bool:
    return config.optimizer == "sgd"


@dataclass(frozen=True)
class TrainingConfig:
    """The options of a training run.

    None means left out: the recipe's value applies, or the default.

    The defaults are those of the original first command, with what makes it learn: a temperature,
    negatives from the whole batch, a BNNeck, and frozen batch norms of pretrained weights.
    """

    recipe: RecipeName = _run("original", "preset of options; a flag overrides it")
    weights: str = _run(
        "auto", "first backbone weights: auto, imagenet, none or the path of a state dict", "free"
    )
    holdout_classes: float = _run(
        0.0,
        "classes held out to choose model.best: a share below 1, or a number; 0: none",
        "fixed",
        at_least=0,
    )
    cameras: str = _run(
        "", "csv of labeled images of other cameras to train on, such as camera_index.csv", "fixed"
    )
    camera_images: str = _run(
        layout.CAMERA_MATRIX.name, "image matrix of --cameras", "fixed", applies=_has_cameras
    )
    minutes: float = _run(
        0.0,
        "time budget: choose --epoch, --max_tuples and --batch_size for N minutes; 0: off",
        "free",
        at_least=0,
    )
    max_tuples: int = _run(
        0,
        "limit of tuples or images per epoch; epochs continue where the last one ended; 0: all",
        at_least=0,
    )
    validation_images: int = _run(
        1000,
        "images embedded in each validation, drawn evenly from the classes; 0: all",
        at_least=0,
    )
    scale: float = _run(
        1.0, "factor on the image side before the backbone", "fixed", above=0, at_most=8
    )
    seed: int = _run(7, "random seed of weights, batches and augmentation", "fixed", at_least=0)
    save_every: float = _run(
        0.0, "minutes between checkpoints within an epoch; 0: off", "free", at_least=0
    )
    resume: Resume = _run(
        "none", "auto: continue from the latest checkpoint, if there is one", "free"
    )
    start_epoch: int = _run(
        -1, "continue from model.ep{start_epoch}; -1: start a new run", "free", at_least=-1
    )
    show_batch: int = _run(5, "log the mean loss every N steps", "free", at_least=1)
    tensorboard: bool = _run(False, "write the metrics for TensorBoard too", "free")
    device: str = _run("auto", DEVICE_HELP, "free")
    precision: Precision = _run("auto", PRECISION_HELP)
    threads: int = _run(
        0, "number of threads; 0: OMP_NUM_THREADS, or the fastest number now", at_least=0
    )
    micro_batch: int = _run(
        0, "images per forward and backward pass; 0: as many as fit memory", at_least=0
    )
    compile: bool = _run(False, "compile the backbone first; takes minutes", "free")

    arch: str = _model("resnet50", "backbone: resnet18 to resnet152, or timm/NAME", "fixed")
    pool: Pool = _model("gem", "pooling of the last feature map", "fixed")
    dim: int | None = _model(
        None,
        "embedding size; left out: the backbone's width",
        "fixed",
        at_least=1,
        at_most=65_536,
    )
    neck: Neck = _model("after", "BNNeck: take the embedding before or after it", "fixed")
    frozen_bn: bool = _model(
        True, "freeze the backbone's batch norms, unless its weights are random", "fixed"
    )
    encode_tta: Tta = _model(
        "none", "--tta of build_image_db.py for this model, unless it is given there"
    )
    encode_scale: float = _model(
        1.0,
        "--scales of build_image_db.py for this model, unless they are given there",
        above=0,
        at_most=8,
    )
    frozen_stages: float = _model(
        0.0,
        "freeze the first stages of the backbone: a share below 1, or a number; 0: none",
        "fixed",
        at_least=0,
    )
    whitening: bool = _model(
        False,
        "start the projection from the within-class whitening of the pretrained features, and end "
        "with that of the trained ones; with --epoch=0, whiten the untrained model",
        "fixed",
    )
    whitening_images: int = _model(
        1000,
        "images that --whitening is fitted to, drawn at random; 0: all",
        applies=lambda config: config.whitening,
        at_least=0,
    )

    loss: LossName = _loss("tuple", "training loss", "fixed")
    negatives: Negatives = _loss(
        "batch",
        "negatives of the tuple loss: those of the tuple, or every other class in the batch",
        applies=_has("tuple"),
    )
    temperature: float = _loss(
        0.1,
        "temperature of the softmax over similarities",
        applies=_has("tuple", "supcon"),
        above=0,
    )
    logit_scale: float | None = _loss(
        None,
        "scale of proxy and margin losses; left out: the loss's own",
        applies=_has("proxy_anchor", "arcface"),
        above=0,
    )
    margin: float | None = _loss(
        None,
        "margin of proxy, margin and triplet losses; left out: the loss's own",
        applies=_has("proxy_anchor", "arcface", "triplet"),
    )
    label_smoothing: float = _loss(
        0.1, "label smoothing of the cross entropy", applies=_has("ce"), at_least=0, below=1
    )

    sampler: SamplerName = _batches(
        "random", "order of the images: random, or groups of one class (pk)", applies=_takes_images
    )
    images_per_class: int = _batches(
        4, "images per class and group with --sampler=pk", applies=_groups_classes, at_least=1
    )
    batch_size: int = _batches(64, "tuples per step; images for every loss but tuple", at_least=1)
    epoch: int = _batches(
        2, "total epochs, including those before a resume; 0: write the untrained model", at_least=0
    )
    augmentation: AugmentationName = _batches(
        "light", "random changes of the training images; with --recipe=ce, crop from 10 epochs on"
    )

    optimizer: OptimizerName = _optimizer(
        "adam", "adamw decouples weight decay from the gradients", "fixed"
    )
    lr: float = _optimizer(0.0001, "peak learning rate of the backbone", above=0)
    head_lr: float = _optimizer(1.0, "factor on --lr for pooling and projection", above=0)
    proxy_lr: float = _optimizer(
        1.0,
        "factor on --lr for proxies or classifier",
        applies=_has("ce", "proxy_anchor", "arcface"),
        above=0,
    )
    weight_decay: float = _optimizer(0.0, "weight decay; biases and scales have none", at_least=0)
    momentum: float = _optimizer(0.0, "momentum of sgd", applies=_has_momentum, at_least=0, below=1)
    clip: float = _optimizer(0.0, "clip gradients to this norm; 0: off", at_least=0)
    ema: float = _optimizer(
        0.0,
        "decay of a moving average of the weights, which is validated and saved; 0: off",
        at_least=0,
        below=1,
    )

    schedule: ScheduleName = _schedule(
        "shrink", "learning rate over time: multiplied every few epochs, or half a cosine"
    )
    lr_shrink: float = _schedule(
        0.9, "factor on the learning rate every --shrink_every epochs", applies=_shrinks, above=0
    )
    shrink_every: int = _schedule(1, "epochs between two shrinks", applies=_shrinks, at_least=1)
    warmup: float = _schedule(
        0.0,
        "share of the training for linear warm-up from a tenth of the learning rate",
        at_least=0,
        below=1,
    )
    frozen_epochs: int = _schedule(0, "freeze the backbone for the first N epochs", at_least=0)

    def given(self) -> dict[str, Any]:
        """Return the options that are not left out, name -> value."""
        return {name: value for name, value in self.values().items() if value is not None}

    def values(self) -> dict[str, Any]:
        """Return all options, name -> value."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def with_values(self, values: Mapping[str, Any]) -> "TrainingConfig":
        """Return a copy with other values; unknown names are ignored."""
        known = {f.name for f in fields(self)}
        return replace(self, **{name: value for name, value in values.items() if name in known})

    def check(self) -> None:
        """Refuse values out of range, and values that do not go together."""
        options.check(self)
        if self.cameras and self.loss == "tuple":
            raise InputError("--cameras needs a loss over classes; add --recipe=ce")
        if self.neck == "before" and "ce" not in self.loss.split("+"):
            raise InputError("--neck=before is a part of the classifier; it needs --loss=ce")
        if self.neck != "none" and self.loss != "tuple" and self.batch_size < 2:
            raise InputError(f"--neck={self.neck} is a batch norm; it needs a --batch_size above 1")
        if 0 < self.validation_images < FEWEST_VALIDATED:
            raise InputError(
                f"--validation_images must be at least {FEWEST_VALIDATED}, or 0 for all; got "
                f"{self.validation_images}"
            )
        if self.sampler == "pk" and self.images_per_class > self.batch_size:
            raise InputError("--images_per_class must be at most --batch_size")


OPTIONS: dict[str, Option] = options.declared_options(TrainingConfig)
RULES: dict[str, Rules] = {f.name: f.metadata["rules"] for f in fields(TrainingConfig)}
# --minutes chooses these: SCALED even if they are given, the others if they are left out.
SCALED = ("max_tuples", "frozen_epochs", "shrink_every")
FITTED = (
    "epoch",
    "batch_size",
    "lr",
    "validation_images",
    "whitening_images",
    "augmentation",
    *SCALED,
)
DEFAULTS: dict[str, Any] = {name: option.default for name, option in OPTIONS.items()}


def warn_without_effect(config: TrainingConfig, given: TrainingConfig) -> None:
    """Log which of the given options have no effect with the other options.

    Args:
        config: The options, none left out.
        given: The options of the command.
    """
    conditions = {name: RULES[name].applies for name in given.given()}
    idle = [f"--{name}" for name, applies in conditions.items() if applies and not applies(config)]
    if idle:
        text = "%s: no effect with --loss=%s and the other options"
        log.warning(text, ", ".join(idle), config.loss)
