"""What a training run leaves behind, and how it is taken up again.

``model.ep{n}`` after each epoch; ``model.last`` in between, every so many minutes, and gone when
the epoch is over. Both are whole or absent, so that a run that is killed at any time loses what it
did since the last of them, and ends with the weights of a run that was never stopped.
"""

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from retrieval.compute import distributed
from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.training.monitor import Row
from retrieval.training.trainer import Trainer

log = logging.getLogger(__name__)

LAST = "model.last"
Resume = Literal["none", "auto"]


@dataclass
class Checkpointer:
    """Writes the checkpoints of a run; of several processes, only the first one does.

    Attributes:
        save_path: Folder of the checkpoints.
        trainer: What is kept.
        minutes: Between two checkpoints within an epoch; 0: none.
        about: ``weights`` and ``options`` of the run.
    """

    save_path: Path
    trainer: Trainer
    minutes: float
    about: dict[str, Any]
    before: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        is_wanted = self.minutes > 0 and distributed.is_main()
        return is_wanted and time.monotonic() - self.before >= 60 * self.minutes

    def keep(self, epoch: int, rows: Sequence[Row]) -> None:
        """Write the state within an epoch, of which ``rows`` are done."""
        self._save(self.save_path / LAST, epoch, {}, rows=[list(row) for row in rows])
        self.before = time.monotonic()

    def keep_epoch(self, epoch: int, metrics: dict[str, float]) -> Path:
        """Write the checkpoint of an epoch, and return its path."""
        path = checkpoint.path_of(self.save_path, epoch)
        if distributed.is_main():
            self._save(path, epoch, metrics)
            forget_last(self.save_path)
        self.before = time.monotonic()
        return path

    def _save(self, path: Path, epoch: int, metrics: dict[str, float], **more: Any) -> None:
        state = self.trainer.state()
        result = self.trainer.result
        checkpoint.save(path, result, epoch=epoch, metrics=metrics, **self.about, **state, **more)


def forget_last(save_path: Path) -> None:
    """Remove what is older than the run that begins, or than the epoch that ends."""
    if distributed.is_main():
        (save_path / LAST).unlink(missing_ok=True)


def restore_best(save_path: Path, first_epoch: int, best: int | None) -> None:
    """Let ``model.best`` be of the epochs that are kept, not of those that are trained again.

    Args:
        save_path: Folder of the checkpoints.
        first_epoch: The epoch that training goes on with.
        best: The best epoch before it, if any is known.
    """
    if best is not None and checkpoint.path_of(save_path, best).is_file():
        checkpoint.keep_best(checkpoint.path_of(save_path, best))
        return
    path = save_path / checkpoint.BEST
    try:
        kept = checkpoint.load(path)["epoch"] if path.exists() else -1
    except InputError:
        kept = first_epoch  # damaged
    if kept >= first_epoch:
        path.unlink()
        log.warning("%s was of an epoch that is trained again, and is removed", path)


def to_continue(save_path: Path, start_epoch: int, resume: Resume) -> Path | None:
    """Return the checkpoint that is asked for, the same in all processes."""
    if start_epoch >= 0:
        if resume == "auto":
            raise InputError("--start_epoch and --resume=auto both say where to go on; take one")
        return checkpoint.path_of(save_path, start_epoch)
    found = newest(save_path) if resume == "auto" and distributed.is_main() else None
    name = distributed.broadcast(found.name if found else "")
    if name:
        log.info("continued from %s", save_path / name)
    return save_path / name if name else None


def newest(save_path: Path) -> Path | None:
    """Return the checkpoint that was written last and can be read; None where there is none."""
    if not save_path.is_dir():
        return None
    names = re.compile(r"model\.(ep\d+|last)")
    found = [path for path in save_path.iterdir() if names.fullmatch(path.name)]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            checkpoint.load(path)
        except InputError as error:
            log.warning("%s; an older one is tried", error)
        else:
            return path
    return None


def progress(content: dict[str, Any] | None) -> tuple[int, list[Row]]:
    """Return the epoch to go on with, and the rows of its steps that are done."""
    if content is None:
        return 0, []
    if "rows" not in content:
        return content["epoch"] + 1, []
    return content["epoch"], [(row[0], row[1], row[2]) for row in content["rows"]]


def nothing_left(path: Path | None, epoch: int, resume: Resume) -> Path:
    """Return the path where all is done; refuse to begin after the end."""
    if path is not None and resume == "auto":
        log.info("%s: all %d epochs are done", path, epoch)
        return path
    after = f" after {path.name}" if path else ""
    raise InputError(f"--epoch={epoch} counts all epochs, so nothing is left to train{after}")
