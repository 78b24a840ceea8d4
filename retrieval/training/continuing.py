"""What becomes of each option of train.py when a run is continued from a checkpoint."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from retrieval.data.formats import InputError

log = logging.getLogger(__name__)

# restored: the checkpoint's where it is left out; given anew, it takes effect from now on.
# must match: the checkpoint's where it is left out; any other value is refused.
# free: belongs to the command, not to the run.
Rule = Literal["restored", "must match", "free"]
RULES: dict[str, Rule] = {
    "recipe": "restored",
    "batch_size": "restored",
    "epoch": "restored",
    "max_tuples": "restored",
    "sampler": "restored",
    "images_per_class": "restored",
    "augmentation": "restored",
    "negatives": "restored",
    "temperature": "restored",
    "logit_scale": "restored",
    "margin": "restored",
    "label_smoothing": "restored",
    "lr": "restored",
    "head_lr": "restored",
    "proxy_lr": "restored",
    "weight_decay": "restored",
    "momentum": "restored",
    "schedule": "restored",
    "lr_shrink": "restored",
    "shrink_every": "restored",
    "warmup": "restored",
    "frozen_epochs": "restored",
    "clip": "restored",
    "ema": "restored",
    "micro_batch": "restored",
    "precision": "restored",
    # The weights, and the state of the optimizer, have their form.
    "arch": "must match",
    "scale": "must match",
    "pool": "must match",
    "dim": "must match",
    "neck": "must match",
    "loss": "must match",
    "optimizer": "must match",
    "frozen_bn": "must match",
    # Both say which classes are held out: another value would train on some of them.
    "holdout_classes": "must match",
    "seed": "must match",
    "weights": "free",
    "start_epoch": "free",
    "resume": "free",
    "save_every": "free",
    "show_batch": "free",
    "tensorboard": "free",
    "device": "free",
    "compile": "free",
}

# Of the options that no recipe sets.
DEFAULTS: dict[str, Any] = {
    "scale": 1.0,
    "holdout_classes": 0,
    "max_tuples": 0,
    "micro_batch": 0,
    "precision": "auto",
    "seed": 7,
}


def settle(options: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of ``DEFAULTS``: as given, or the checkpoint's, or the default."""
    known = DEFAULTS | {key: value for key, value in (before or {}).items() if key in DEFAULTS}
    return known | {key: options[key] for key in DEFAULTS if options[key] is not None}


def check(content: Mapping[str, Any], path: Path, options: Mapping[str, Any]) -> None:
    """Refuse options that cannot differ from the checkpoint's, and say which others do.

    Args:
        content: What ``checkpoint.load`` returned; its ``arch`` is checked with its weights.
        path: Its file, for messages.
        options: All of the run, none left out.
    """
    before = content["options"]
    for name, value in options.items():
        known, rule = before.get(name), RULES[name]
        is_equal = value == known or (name == "dim" and value == content["model"]["dim"])
        if is_equal or rule == "free" or name == "arch":
            continue
        if rule == "must match":
            raise InputError(
                f"{path} was trained with --{name}={known}, not {value}; leave --{name} (or the "
                "--recipe that sets it) out, or train anew in another folder"
            )
        if name != "epoch" or options["schedule"] != "shrink":  # with it, more epochs change none
            log.warning("--%s was %s and is %s now", name, known, value)
