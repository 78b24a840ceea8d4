"""Checkpoints are data, and are checked."""

from pathlib import Path

import pytest
import torch

from retrieval.data.formats import InputError
from retrieval.model import checkpoint


def test_checkpoints_hold_no_code_and_are_checked(pipeline: Path, tmp_path: Path) -> None:
    path = pipeline / "para" / "model.ep0"
    whole = path.read_bytes()
    bad = tmp_path / "model.ep0"
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is damaged"):
        checkpoint.load(bad)
    torch.save({"format": checkpoint.FORMAT, "code": Path("x")}, bad)
    with pytest.raises(InputError, match="more than tensors and plain values"):
        checkpoint.load(bad)
    torch.save({"state_dict": {}}, bad)
    with pytest.raises(InputError, match="is not a checkpoint written by train.py"):
        checkpoint.load(bad)
    with pytest.raises(InputError, match="is a folder"):
        checkpoint.load(tmp_path)
    content = torch.load(path, weights_only=True)
    content["state_dict"].pop("pool.p")
    torch.save(content, bad)
    with pytest.raises(InputError, match="do not fit"):
        checkpoint.build_model(checkpoint.load(bad), bad)


def test_a_checkpoint_of_another_version_is_refused(pipeline: Path, tmp_path: Path) -> None:
    content = torch.load(pipeline / "para" / "model.ep0", weights_only=True)
    torch.save(content | {"version": 1}, tmp_path / "model.ep0")
    with pytest.raises(InputError, match="is of version 1; this program reads version 4"):
        checkpoint.load(tmp_path / "model.ep0")
