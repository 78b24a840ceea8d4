"""A run that is killed at any time goes on as if nothing had happened."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from retrieval.data import files
from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig
from retrieval.training import checkpointing
from tests.conftest import ARCH, train_small
from tests.forks import Forks
from tests.stages.test_train import assert_equal, parts_of

OPTIONS = {
    "arch": ARCH,  # small: its state is written after each step
    "epoch": 2,
    "batch_size": 2,
    "max_tuples": 24,
    "augmentation": "strong",
    "ema": 0.9,
    "micro_batch": 8,
}


RUN = "import sys, train; sys.exit(train.main(sys.argv[1:]))"


def steps_done(save_path: Path) -> tuple[int, int]:
    """Return the epoch and the number of its steps in ``model.last``; (-1, 0) without one."""
    try:
        point = checkpointing.ResumePoint.at(save_path / checkpointing.LAST)
    except (InputError, FileNotFoundError):  # removed just now, as an epoch ended
        return -1, 0
    return point.epoch, len(point.done)


def test_killed_runs_end_with_the_bytes_of_one_that_never_stopped(
    pipeline: Path, tmp_path: Path, forks: Forks
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    log = tmp_path / "log.txt"
    train_small(pipeline, whole, **OPTIONS)
    # It keeps its state after every step, and goes on where the last one stopped.
    small = {"dim": 16, "weights": "none", "device": "cpu", "lr": 1e-3}
    given = {"dpath": pipeline, "save_path": killed, "resume": "auto", "save_every": 1e-9}
    flags = [f"--{name}={value}" for name, value in {**given, **small, **OPTIONS}.items()]
    for least in ((0, 2), (1, 1)):
        (run,) = forks.begin(log, RUN, *flags)
        deadline = time.monotonic() + 300
        while steps_done(killed) < least and time.monotonic() < deadline:
            assert Path(f"/proc/{run}").exists(), log.read_text()
            time.sleep(0.02)
        os.kill(run, signal.SIGKILL)
        assert forks.statuses() == [-signal.SIGKILL], log.read_text()
        assert steps_done(killed) >= least
    assert forks.run(log, RUN, *flags) == 0, log.read_text()
    assert log.read_text().count("resumed from") == 2
    for name in ("model.ep0", "model.ep1"):
        assert_equal(parts_of(killed / name), parts_of(whole / name))
        assert_equal(*(checkpoint.load(folder / name)["raw"] for folder in (killed, whole)))
    assert (killed / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()
    assert not (killed / checkpointing.LAST).exists()


def test_the_newest_whole_checkpoint_is_taken(pipeline: Path, tmp_path: Path) -> None:
    assert checkpointing.newest(tmp_path / "nowhere") is None
    train_small(pipeline, tmp_path, epoch=2)
    for age, name in enumerate(("model.ep1", "model.ep0")):  # a copy has other times
        os.utime(tmp_path / name, (age, age))
    assert checkpointing.newest(tmp_path) == tmp_path / "model.ep1"
    last = tmp_path / checkpointing.LAST
    last.write_bytes((tmp_path / "model.ep0").read_bytes()[:1000])  # damaged
    assert checkpointing.newest(tmp_path) == tmp_path / "model.ep1"
    (tmp_path / "model.ep1").write_bytes(b"damaged")
    assert checkpointing.newest(tmp_path) == tmp_path / "model.ep0"
    content = torch.load(tmp_path / "model.ep0", weights_only=True)
    torch.save(content | {"epoch": 1, "rows": [[0.0, 0.0, 0.0]]}, last)
    assert checkpointing.newest(tmp_path) == last  # a step further


def test_where_all_is_done_nothing_happens(pipeline: Path, tmp_path: Path) -> None:
    first = train_small(
        pipeline, tmp_path, epoch=1, resume="auto"
    )  # nothing to continue: a new run
    before = first.stat().st_mtime_ns
    assert train_small(pipeline, tmp_path, epoch=1, resume="auto") == first
    assert first.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="use one"):
        train_small(pipeline, tmp_path, epoch=2, resume="auto", start_epoch=0)


def test_a_new_run_forgets_what_an_old_one_left_within_an_epoch(
    pipeline: Path, tmp_path: Path
) -> None:
    (tmp_path / checkpointing.LAST).write_bytes(b"of another run")
    train_small(pipeline, tmp_path, epoch=1)
    assert not (tmp_path / checkpointing.LAST).exists()


def test_what_another_run_left_is_moved_aside(
    pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "para"
    options = {"max_tuples": 4, "holdout_classes": 2}
    train_small(pipeline, folder, epoch=3, **options)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    train_small(pipeline, folder, epoch=1, seed=8, **options)
    moved = {path.name: path.read_bytes() for path in (folder / "earlier-1").iterdir()}
    assert moved == before
    assert f"moved to {folder / 'earlier-1'}: {len(before)} files" in caplog.text
    assert checkpointing.newest(folder) == folder / "model.ep0"
    train_small(pipeline, folder, epoch=2, resume="auto", seed=8, **options)
    assert not (folder / "earlier-2").exists()
    train_small(pipeline, folder, epoch=2, start_epoch=0, seed=8, **options)
    assert {path.name for path in (folder / "earlier-2").iterdir()} >= {"model.ep1"}
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + 2


@pytest.mark.parametrize(
    "change", [{"optimizer": {"state": {}, "param_groups": []}}, {"loss": {"x": 1}}, {"raw": {}}]
)
def test_a_state_that_does_not_fit_is_refused(
    pipeline: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    content = torch.load(pipeline / "para" / "model.ep0", weights_only=True)
    torch.save(content | change, tmp_path / "model.ep0")
    with pytest.raises(InputError, match="model.ep0 holds no state of such a training"):
        train_small(pipeline, tmp_path, epoch=2, start_epoch=0)


def write_epochs(folder: Path, count: int) -> None:
    """Write minimal checkpoints."""
    model = EmbeddingModel(ModelConfig(ARCH, 4, 32))
    for epoch in range(count):
        path = checkpoint.path_of(folder, epoch)
        checkpoint.save(
            path,
            model,
            epoch=epoch,
            weights="none",
            domains=[],
            split={},
            held_out=[],
            options={},
            metrics={},
            frozen_norms=False,
        )


def best_epoch(folder: Path) -> int:
    return int(checkpoint.load(folder / checkpoint.BEST)["epoch"])


def test_the_best_epoch_is_one_of_those_that_are_kept(tmp_path: Path) -> None:
    write_epochs(tmp_path, 3)
    checkpoint.keep_best(tmp_path / "model.ep2")
    checkpointing.put_aside(tmp_path, 2)  # back to after epoch 1
    assert (tmp_path / "earlier-1" / checkpoint.BEST).exists()
    checkpointing.restore_best(tmp_path, 0)
    assert best_epoch(tmp_path) == 0
    (tmp_path / "model.ep0").unlink()
    checkpointing.put_aside(tmp_path, 2)
    checkpointing.restore_best(tmp_path, 0)  # its file was deleted, but not what was linked
    assert best_epoch(tmp_path) == 0
    checkpointing.restore_best(tmp_path, None)
    assert best_epoch(tmp_path) == 0


def test_going_on_does_not_need_the_file_of_the_best_epoch(pipeline: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "holdout_classes": 2, "max_tuples": 4, "ema": 0}
    train_small(pipeline, tmp_path, **options)
    before = (tmp_path / checkpoint.BEST).stat().st_mtime_ns
    best = best_epoch(tmp_path)
    (tmp_path / "model.ep1").rename(
        tmp_path / checkpointing.LAST
    )  # as after a step of a third epoch
    content = checkpoint.load(tmp_path / checkpointing.LAST)
    torch.save({**content, "epoch": 2, "rows": []}, tmp_path / checkpointing.LAST)
    for epoch in (0, 1):
        (tmp_path / f"model.ep{epoch}").unlink(missing_ok=True)
    train_small(pipeline, tmp_path, **{**options, "epoch": 3, "resume": "auto"})
    assert best_epoch(tmp_path) in (best, 2)
    assert best_epoch(tmp_path) == 2 or before == (tmp_path / checkpoint.BEST).stat().st_mtime_ns


def test_a_link_that_a_killed_process_left_does_not_harm_an_older_checkpoint(
    tmp_path: Path,
) -> None:
    write_epochs(tmp_path, 2)
    older = (tmp_path / "model.ep0").read_bytes()
    os.link(tmp_path / "model.ep0", tmp_path / f".{checkpoint.BEST}.{os.getpid()}.part")
    checkpoint.keep_best(tmp_path / "model.ep1")
    assert (tmp_path / "model.ep0").read_bytes() == older
    assert best_epoch(tmp_path) == 1


def test_two_trainings_do_not_share_a_folder(pipeline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "para"
    with files.only_one(folder), pytest.raises(OSError, match="busy") as caught:
        train_small(pipeline, folder, epoch=1)
    assert caught.value.errno == errno.EBUSY
    assert list(folder.iterdir()) == []
    train_small(pipeline, folder, epoch=1)
