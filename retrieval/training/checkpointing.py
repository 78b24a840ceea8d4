"""The checkpoints of a run, and how a run is resumed from them.

``model.ep{n}`` after each epoch; ``model.last`` every few minutes within an epoch, removed when the
epoch ends. Both are whole or absent: a killed run loses what it did since the last of them, and
once resumed ends with the weights of a run that was never stopped.
"""

import itertools
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrieval.compute import distributed
from retrieval.data.command_lines import EARLIER
from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.training.config import RULES, TrainingConfig
from retrieval.training.monitor import StepFigures
from retrieval.training.run_log import NAME as LOG
from retrieval.training.trainer import Trainer

log = logging.getLogger(__name__)

LAST = "model.last"


@dataclass(frozen=True)
class ResumePoint:
    """The point from which a run continues.

    Attributes:
        path: The checkpoint; None for a new run.
        content: What it holds; None for a new run.
        epoch: The epoch to continue with.
        done: The figures of the steps of that epoch that are done.
    """

    path: Path | None = None
    content: dict[str, Any] | None = None
    epoch: int = 0
    done: Sequence[StepFigures] = ()

    @classmethod
    def at(cls, path: Path | None) -> "ResumePoint":
        """Read a checkpoint; None starts a new run."""
        if path is None:
            return cls()
        content = checkpoint.load(path)
        if "rows" not in content:
            return cls(path, content, content["epoch"] + 1)
        done = [(row[0], row[1], row[2]) for row in content["rows"]]
        return cls(path, content, content["epoch"], done)

    @property
    def options(self) -> dict[str, Any] | None:
        """The options of the run that is resumed."""
        return None if self.content is None else self.content["options"]

    def is_finished(self, config: TrainingConfig) -> bool:
        """Return whether no epoch is left.

        Raises:
            InputError: None is left, and the run was not asked to resume if it can.
        """
        if self.epoch < config.epoch:
            return False
        if self.path is None or config.resume != "auto":
            after = f" after {self.path.name}" if self.path else ""
            raise InputError(
                f"--epoch={config.epoch} counts all epochs: there is nothing left to train{after}"
            )
        log.info("%s: all %d epochs are done", self.path, config.epoch)
        return True


def find_resume_point(save_path: Path, given: TrainingConfig) -> ResumePoint:
    """Return the point to continue from, the same in all processes.

    Args:
        save_path: Folder of the checkpoints.
        given: Its ``start_epoch`` and ``resume`` say what is asked for.
    """
    start_epoch = -1 if given.start_epoch is None else given.start_epoch
    if start_epoch >= 0:
        if given.resume == "auto":
            raise InputError("--start_epoch and --resume=auto both say where to continue; use one")
        return ResumePoint.at(checkpoint.path_of(save_path, start_epoch))
    found = newest(save_path) if given.resume == "auto" and distributed.is_main() else None
    name = distributed.broadcast(found.name if found else "")
    if name:
        log.info("resumed from %s", save_path / name)
    return ResumePoint.at(save_path / name if name else None)


def check_resumable(config: TrainingConfig, before: Mapping[str, Any], dim: int, name: str) -> None:
    """Refuse options that cannot differ from those of the checkpoint; log those that do.

    Args:
        config: The options of the run, none left out.
        before: The options in the checkpoint.
        dim: The embedding size in the checkpoint.
        name: The checkpoint, for messages.
    """
    for option, value in config.values().items():
        known, rule = before.get(option), RULES[option].on_resume
        is_equal = value == known or (option == "dim" and value == dim)
        if option not in before:  # an older version wrote the checkpoint
            continue
        if is_equal or rule == "free" or option == "arch":  # arch is checked with the weights
            continue
        if rule == "fixed":
            raise InputError(
                f"{name} was trained with --{option}={known}, not {value}; leave --{option} (or "
                "the --recipe that sets it) out, or start a new run in another folder"
            )
        # Learning rates that do not depend on the number of epochs stay as they were.
        if option != "epoch" or config.schedule != "shrink" or config.warmup:
            log.warning("--%s was %s and is %s now", option, known, value)


def newest(save_path: Path) -> Path | None:
    """Return the readable checkpoint that is furthest in the training; None if there is none."""
    if not save_path.is_dir():
        return None
    positions = {path: (epoch + 1, 0) for path, epoch in _epochs(save_path).items()}
    last = save_path / LAST
    if last.is_file() and (content := _loaded(last)):
        positions[last] = (content["epoch"], len(content.get("rows", ())))
    # By place, not by time: copies get new times.
    for path in sorted(positions, key=lambda path: positions[path], reverse=True):
        if path == last or _loaded(path):
            return path
    return None


def _epochs(save_path: Path) -> dict[Path, int]:
    """Return the checkpoints of whole epochs in a folder, with the number of the epoch."""
    matches = {path: re.fullmatch(r"model\.ep(\d+)", path.name) for path in save_path.iterdir()}
    return {path: int(match[1]) for path, match in matches.items() if match}


def _loaded(path: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint; None, with a line, if it is damaged."""
    try:
        return checkpoint.load(path)
    except InputError as error:
        log.warning("%s; trying an older one", error)
        return None


def put_aside(save_path: Path, first_epoch: int) -> None:
    """Move what another run left of the epochs that are trained now into a folder of its own.

    Args:
        save_path: Folder of the checkpoints.
        first_epoch: The epoch that training continues with; 0 moves the log too.
    """
    if not distributed.is_main() or not save_path.is_dir():
        return
    found = [path for path, epoch in _epochs(save_path).items() if epoch >= first_epoch]
    best = save_path / checkpoint.BEST
    if best.is_file():
        content = _loaded(best)
        if content is None or content["epoch"] >= first_epoch:
            found.append(best)
    if first_epoch == 0 and found:  # a log alone is of a run that did not end an epoch
        found += [path for path in (save_path / LAST, save_path / LOG) if path.is_file()]
    if not found:
        return
    folders = (save_path / f"{EARLIER}{number}" for number in itertools.count(1))
    folder = next(folder for folder in folders if not folder.exists())
    folder.mkdir()
    for path in found:
        path.rename(folder / path.name)
    log.warning("%s holds another run; moved to %s: %d files", save_path, folder, len(found))


@dataclass
class Checkpointer:
    """Writes the checkpoints of a run; with several processes, only the first one does.

    Attributes:
        save_path: Folder of the checkpoints.
        trainer: Its model and state are saved.
        minutes: Minutes between two checkpoints within an epoch; 0: none.
        about: ``weights`` and ``options`` of the run.
    """

    save_path: Path
    trainer: Trainer
    minutes: float
    about: dict[str, Any]
    before: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Return whether it is time for a checkpoint within the epoch."""
        is_wanted = self.minutes > 0 and distributed.is_main()
        return is_wanted and time.monotonic() - self.before >= 60 * self.minutes

    def save_within_epoch(self, epoch: int, done: Sequence[StepFigures]) -> None:
        """Write the state within an epoch, after the steps whose figures are ``done``."""
        self._save(self.save_path / LAST, epoch, {}, rows=[list(figures) for figures in done])
        self.before = time.monotonic()

    def save_epoch(self, epoch: int, metrics: dict[str, float]) -> Path:
        """Write the checkpoint of an epoch, and return its path."""
        path = checkpoint.path_of(self.save_path, epoch)
        if distributed.is_main():
            self._save(path, epoch, metrics)
            remove_last(self.save_path)
        self.before = time.monotonic()
        return path

    def _save(self, path: Path, epoch: int, metrics: dict[str, float], **more: Any) -> None:
        model, state = self.trainer.result, self.trainer.state()
        checkpoint.save(path, model, epoch=epoch, metrics=metrics, **self.about, **state, **more)


def remove_last(save_path: Path) -> None:
    """Remove ``model.last``: it is older than the run that begins, or the epoch that ends."""
    if distributed.is_main():
        (save_path / LAST).unlink(missing_ok=True)


def restore_best(save_path: Path, best: int | None) -> None:
    """Link ``model.best`` to the best epoch of those that are kept, if its file is there."""
    if best is not None and checkpoint.path_of(save_path, best).is_file():
        checkpoint.keep_best(checkpoint.path_of(save_path, best))
