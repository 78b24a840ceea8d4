"""Checkpoints are data, and are checked."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def _rewritten(source: Path, target: Path, change: Callable[[bytes], bytes]) -> Path:
    """Copy a checkpoint with another pickle, and valid checksums."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return target


def test_a_storage_that_claims_more_than_it_holds_is_refused(
    pipeline: Path, tmp_path: Path
) -> None:
    n_value = (16 * 3 * 3 * 3).to_bytes(2, "little")  # the first convolution
    claim, huge = b"M" + n_value + b"t", b"J" + (2**31 - 1).to_bytes(4, "little") + b"t"

    def enlarge(content: bytes) -> bytes:
        assert claim in content
        return content.replace(claim, huge, 1)

    source = pipeline / "para" / "model.ep0"
    assert checkpoint.load(_rewritten(source, tmp_path / "model.ep1", lambda content: content))
    with pytest.raises(InputError, match="is damaged"):
        checkpoint.load(_rewritten(source, tmp_path / "model.ep0", enlarge))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", "0"),
        ("model", {}),
        ("options", [1]),
        ("held_out", [1.5]),
        ("split", {"sha256": 1}),
        ("state_dict", {"pool.p": 3}),
    ],
)
def test_members_of_a_wrong_type_are_refused(
    pipeline: Path, tmp_path: Path, key: str, value: object
) -> None:
    content = torch.load(pipeline / "para" / "model.ep0", weights_only=True)
    torch.save(content | {key: value}, tmp_path / "model.ep0")
    with pytest.raises(InputError, match=f"is damaged: its {key} is not as train.py writes it"):
        checkpoint.load(tmp_path / "model.ep0")


@pytest.mark.parametrize(
    "change", [{"dim": 10**9}, {"side": 0}, {"std": (0.0, 1.0, 1.0)}, {"mean": (0.1,)}, {"x": 1}]
)
def test_models_that_cannot_be_are_refused(
    pipeline: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    content = torch.load(pipeline / "para" / "model.ep0", weights_only=True)
    content["model"] |= change
    torch.save(content, tmp_path / "model.ep0")
    with pytest.raises(InputError, match="is damaged: its model"):
        checkpoint.load(tmp_path / "model.ep0")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_as_such(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pipeline / "para" / "model.ep0"
    content, before = checkpoint.load(path), path.read_bytes()
    model = checkpoint.build_model(content, path)

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        yield Path("/dev/full")

    monkeypatch.setattr("retrieval.data.files.whole", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, model, epoch=0, weights="")
    assert path.read_bytes() == before
