"""Checkpoints are data, and are checked."""

import zipfile
from pathlib import Path

import numpy as np
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


def test_no_flipped_bit_changes_a_weight(pipeline: Path, tmp_path: Path) -> None:
    path = pipeline / "para" / "model.ep0"
    whole, expected = path.read_bytes(), checkpoint.load(path)["state_dict"]
    bad = tmp_path / "model.ep0"
    n_refused = 0
    for place in np.random.default_rng(0).integers(0, len(whole), 60):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        bad.write_bytes(content)
        try:
            found = checkpoint.load(bad)["state_dict"]
        except InputError:
            n_refused += 1
        else:  # a bit that nothing reads, such as padding
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert n_refused > 50


def test_a_compressed_checkpoint_is_refused(pipeline: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "model.ep0"
    with (
        zipfile.ZipFile(pipeline / "para" / "model.ep0") as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="is damaged"):
        checkpoint.load(bomb)
