import copy
import json
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from lopq import LOPQError, LOPQModel, LOPQSearcher, storage
from lopq.storage import whole_file


def test_saved_and_loaded_give_the_same(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    searcher.save(tmp_path / "a.lopq")
    loaded = LOPQSearcher.load(tmp_path / "a.lopq")
    for quota in (1, 100, None):
        expected = searcher.search(queries, 7, quota=quota)
        for mine, its in zip(expected, loaded.search(queries, 7, quota=quota), strict=True):
            np.testing.assert_array_equal(mine, its)
    assert loaded.model.nbytes == searcher.model.nbytes
    loaded.save(tmp_path / "b.lopq")
    assert (tmp_path / "a.lopq").read_bytes() == (tmp_path / "b.lopq").read_bytes()
    loaded.add_data(data[:3])
    assert loaded.ids[-1] == len(data) + 2
    loaded.save(tmp_path / "a.lopq")  # over the file that its codes are mapped from
    assert len(LOPQSearcher.load(tmp_path / "a.lopq")) == len(data) + 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.lopq", "b.lopq"]


@pytest.mark.parametrize("rotation", ["none", "pca"])
def test_models_are_saved_alone(rotation: str, data: np.ndarray, tmp_path: Path) -> None:
    model = LOPQModel(V=3, M=3, subquantizer_clusters=16, rotation=rotation, pca_dim=7)
    model.fit(data)
    model.save(tmp_path / "model")
    loaded = LOPQModel.load(tmp_path / "model")
    for mine, its in zip(model.encode(data), loaded.encode(data), strict=True):
        np.testing.assert_array_equal(mine, its)
    shared = 4 * model.dim**2 if rotation == "none" else 3 * 4 * model.dim**2
    others = 4 * (2 * 3 * model.dim + 16 * model.dim + 16 + 7 * 16)
    assert model.nbytes == shared + others
    with pytest.raises(LOPQError, match="holds a model, not a searcher"):
        LOPQSearcher.load(tmp_path / "model")


def test_models_of_versions_that_learned_rotations_are_read(
    data: np.ndarray, tmp_path: Path
) -> None:
    model = LOPQModel(V=3, M=4, subquantizer_clusters=16).fit(data)
    header = {**model.header(), "rotation": "procrustes", "training_errors": [[0.5, 0.25]]}
    del header["rotations"]  # which came later
    storage.write(tmp_path / "model", "model", header, model.quantizer.arrays())
    loaded = LOPQModel.load(tmp_path / "model")
    for mine, its in zip(loaded.encode(data), model.encode(data), strict=True):
        np.testing.assert_array_equal(mine, its)
    loaded.save(tmp_path / "again")
    model.save(tmp_path / "model")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_an_empty_database_is_saved_too(searcher: LOPQSearcher, tmp_path: Path) -> None:
    LOPQSearcher(searcher.model).save(tmp_path / "empty")
    assert len(LOPQSearcher.load(tmp_path / "empty")) == 0


def test_the_layout_is_the_documented_one(searcher: LOPQSearcher, tmp_path: Path) -> None:
    path = tmp_path / "index"
    searcher.save(path)
    content = path.read_bytes()
    magic, version, length, checksum = struct.unpack_from("<8sIII", content)
    text = content[20 : 20 + length]
    assert (magic, version, checksum) == (b"LOPQidx\0", 1, zlib.crc32(text))
    entry = json.loads(text)["arrays"]["codes"]
    assert entry["offset"] % 64 == 0
    codes = np.frombuffer(content, entry["dtype"], np.prod(entry["shape"]), entry["offset"])
    codes = codes.reshape(entry["shape"])
    np.testing.assert_array_equal(codes, storage.read(path, "searcher")[1]["codes"])


def test_every_kind_of_damage_is_named(searcher: LOPQSearcher, tmp_path: Path) -> None:
    path = tmp_path / "index"
    searcher.save(path)
    content = path.read_bytes()
    damaged = {
        "not a file of this library": [b"", content[:10], b"\x93NUMPY" + content],
        "format version 2": [content[:8] + b"\2" + content[9:]],
        "header is cut off": [content[:40], content[:30] + b"?" + content[31:]],
        "ends before the end": [content[:-1], content[: len(content) // 2]],
        "changed since it was saved": [content[:-1] + bytes([content[-1] ^ 1])],
    }
    for message, versions in damaged.items():
        for version in versions:
            path.write_bytes(version)
            with pytest.raises(LOPQError, match=message):
                LOPQSearcher.load(path)
    with pytest.raises(LOPQError, match="cannot read"):
        LOPQSearcher.load(tmp_path / "absent")


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_link_stays_a_link_and_permissions_are_the_usual(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    for content in (b"first", b"second"):
        with whole_file(tmp_path / "link") as file:
            file.write(content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "far" / "file").read_bytes() == content
    (tmp_path / "plain").touch()
    assert (tmp_path / "far" / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert len(list(tmp_path.rglob("*"))) == 4


def test_saving_leaves_the_umask_alone(
    searcher: LOPQSearcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(mask: int) -> int:  # it belongs to all threads of the process
        raise AssertionError("the umask was changed")

    monkeypatch.setattr("os.umask", refuse)
    searcher.save(tmp_path / "index")


def test_where_nothing_can_be_written_is_said(searcher: LOPQSearcher, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "index", Path("/")):
        for saved in (searcher, searcher.model):
            with pytest.raises(LOPQError, match="cannot write"):
                saved.save(path)
    assert list(tmp_path.iterdir()) == []


def rewritten(path: Path, **changed: np.ndarray) -> None:
    """Save the file again with other arrays, and the checksums of those."""
    model, arrays = storage.read(path, "searcher")
    storage.write(path, "searcher", model, {**arrays, **changed})


def test_arrays_that_do_not_fit_together_are_refused(
    searcher: LOPQSearcher, tmp_path: Path
) -> None:
    path, lists = tmp_path / "index", searcher.snapshot.base
    n, last = len(lists), int(lists.cells[-1])
    past = np.append(lists.cells[:-1], searcher.model.format.n_cell)
    changes = [
        {"offsets": lists.offsets + 1},
        {"offsets": np.append(lists.offsets[:-1], n + 1)},
        {"offsets": np.append(lists.offsets[1:-1], [n, n])},
        {"offsets": lists.offsets[:-1]},
        {"offsets": np.append([0], lists.offsets[:0:-1])},
        {"ids": lists.ids[:-1]},
        {"codes": lists.codes[:-1]},
        {"codes": lists.codes[:, :-1]},
        {"cells": lists.cells[::-1]},
        {"cells": past},
        {"cells": np.append(-1, lists.cells[1:]), "offsets": lists.offsets},
        {"cells": np.full_like(lists.cells, last)},
    ]
    for changed in changes:
        searcher.save(path)
        rewritten(path, **changed)
        with pytest.raises(LOPQError, match="is damaged"):
            LOPQSearcher.load(path, verify=False)


def test_all_but_codes_and_ids_is_verified_always(searcher: LOPQSearcher, tmp_path: Path) -> None:
    path = tmp_path / "index"
    searcher.save(path)
    content = bytearray(path.read_bytes())
    length = struct.unpack_from("<8sIII", content)[2]
    entries = json.loads(content[20 : 20 + length])["arrays"]
    for name, entry in entries.items():
        content[entry["offset"]] ^= 1
        path.write_bytes(content)
        if name in ("codes", "ids"):
            LOPQSearcher.load(path, verify=False)
        else:
            with pytest.raises(LOPQError, match=f"its {name} changed"):
                LOPQSearcher.load(path, verify=False)
        content[entry["offset"]] ^= 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_search_alike(
    copied, searcher: LOPQSearcher, queries: np.ndarray, tmp_path: Path
) -> None:
    expected = searcher.search(queries, 5, quota=100)
    twin = copied(searcher)
    for mine, its in zip(expected, twin.search(queries, 5, quota=100), strict=True):
        np.testing.assert_array_equal(mine, its)
    twin.remove([0])
    assert len(twin) == len(searcher) - 1
    searcher.save(tmp_path / "index")
    mapped = copied(LOPQSearcher.load(tmp_path / "index"))
    for mine, its in zip(expected, mapped.search(queries, 5, quota=100), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_a_copy_keeps_one_shared_rotation(data: np.ndarray) -> None:
    model = LOPQModel(V=4, M=4, subquantizer_clusters=8, rotation="none")
    assert pickle.loads(pickle.dumps(model)).V == 4  # not fitted
    model.fit(data)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.nbytes == model.nbytes
        np.testing.assert_array_equal(twin.encode(data[:9]).fine, model.encode(data[:9]).fine)
