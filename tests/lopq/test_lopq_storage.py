import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lopq import LOPQError, LOPQModel, LOPQSearcher
from lopq.atomic import whole_file


def test_saved_and_loaded_give_the_same(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    searcher.save(tmp_path / "a.lopq")
    loaded = LOPQSearcher.load(tmp_path / "a.lopq")
    assert isinstance(loaded.lists.codes, np.memmap)
    for quota in (1, 100, None):
        expected = searcher.search_batch(queries, 7, quota=quota)
        for mine, its in zip(expected, loaded.search_batch(queries, 7, quota=quota), strict=True):
            np.testing.assert_array_equal(mine, its)
    assert loaded.search(queries[0]) == searcher.search(queries[0])
    assert loaded.model.nbytes == searcher.model.nbytes
    assert loaded.model.training_errors == searcher.model.training_errors
    loaded.save(tmp_path / "b.lopq")
    assert (tmp_path / "a.lopq").read_bytes() == (tmp_path / "b.lopq").read_bytes()
    loaded.add_data(data[:3])
    assert loaded.lists.ids.max() == len(data) + 2
    loaded.save(tmp_path / "a.lopq")  # over the file that its codes are mapped from
    assert len(LOPQSearcher.load(tmp_path / "a.lopq")) == len(data) + 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.lopq", "b.lopq"]


@pytest.mark.parametrize("rotation", ["global", "pca"])
def test_models_are_saved_alone(rotation: str, data: np.ndarray, tmp_path: Path) -> None:
    model = LOPQModel(V=3, M=3, subquantizer_clusters=16, rotation=rotation, pca_dim=7)
    model.fit(data, rotation_iters=2)
    model.save(tmp_path / "model")
    loaded = LOPQModel.load(tmp_path / "model")
    for mine, its in zip(model.encode(data), loaded.encode(data), strict=True):
        np.testing.assert_array_equal(mine, its)
    shared = 4 * model.dim**2 if rotation == "global" else 3 * 4 * model.dim**2
    others = 4 * (2 * 3 * model.dim + 16 * model.dim + 16 + 7 * 16)
    assert model.nbytes == shared + others
    with pytest.raises(LOPQError, match="holds a model, not a searcher"):
        LOPQSearcher.load(tmp_path / "model")


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
    np.testing.assert_array_equal(codes.reshape(entry["shape"]), searcher.lists.codes)


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


# -- the old package's files


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def matrix(array: np.ndarray, with_shape: bool = True) -> bytes:
    values = field(1, array.astype("<f4").tobytes())
    shape = b"".join(varint(2 << 3) + varint(n) for n in array.shape)
    return values + (shape if with_shape else b"")


def old_model(V: int = 3, M: int = 4, K: int = 10, dim: int = 6) -> tuple[list[np.ndarray], ...]:
    rng = np.random.default_rng(0)
    Cs = [rng.normal(size=(V, dim)).astype("f4") for _ in range(2)]
    Rs = [np.linalg.qr(rng.normal(size=(V, dim, dim)))[0].astype("f4") for _ in range(2)]
    mus = [rng.normal(size=(V, dim)).astype("f4") for _ in range(2)]
    subs = [rng.normal(size=(M // 2, K, 2 * dim // M)).astype("f4") for _ in range(2)]
    return Cs, Rs, mus, subs


def proto(parameters: tuple[list[np.ndarray], ...]) -> bytes:
    Cs, Rs, mus, subs = parameters
    # The header's num_subquantizers is wrong on purpose, as in known files.
    header = b"".join(varint(i << 3) + varint(n) for i, n in ((1, 12), (2, 3), (3, 4), (4, 256)))
    body = [field(5, matrix(C)) for C in Cs]
    body += [field(6, matrix(R)) for half in Rs for R in half]
    body += [field(7, matrix(mu, with_shape=False)) for half in mus for mu in half]
    body += [field(8, matrix(sub)) for half in subs for sub in half]
    return header + b"".join(body)


@pytest.mark.parametrize("kind", ["proto", "mat"])
@pytest.mark.parametrize("sizes", [{}, {"V": 1, "M": 2}])
def test_old_models_are_read(kind: str, sizes: dict[str, int], tmp_path: Path) -> None:
    parameters = old_model(**sizes)
    path = tmp_path / "model"
    if kind == "proto":
        path.write_bytes(proto(parameters))
        model = LOPQModel.load_proto(path)
    else:
        names = ("Cs", "Rs", "mus", "subs")
        stacked = {n: np.stack(p) for n, p in zip(names, parameters, strict=True)}
        with path.open("wb") as file:
            scipy.io.savemat(file, {**stacked, "V": len(parameters[0][0]), "M": 4})
        model = LOPQModel.load_mat(path)
    got = (model.Cs, model.Rs, model.mus, model.subquantizers)
    for given, loaded in zip(parameters, got, strict=True):
        np.testing.assert_array_equal(np.stack(given), np.stack(loaded))
    x = np.random.default_rng(1).normal(size=12)
    code = model.predict(x)
    restored = []
    for s in range(2):
        C, R, mu, subs = (p[s] for p in parameters)
        c, n = code.coarse[s], len(subs)
        decoded = subs[np.arange(n), code.fine[s * n : (s + 1) * n]].ravel()
        restored.append(R[c].T @ decoded + C[c] + mu[c])
    np.testing.assert_allclose(model.reconstruct(code), np.concatenate(restored), atol=1e-5)
    searcher = LOPQSearcher(model)
    searcher.add_data(np.random.default_rng(2).normal(size=(50, 12)))
    results, _ = searcher.search(x, quota=50)
    assert len(results) == 50


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model"
    whole = proto(old_model())
    for content in (b"", b"hello world", whole[:-3], whole[: len(whole) // 2], whole + b"\x07"):
        path.write_bytes(content)
        for load in (LOPQModel.load_proto, LOPQModel.load_mat):
            with pytest.raises(LOPQError, match=r"not a model of the old package|cannot read"):
                load(path)
    with pytest.raises(LOPQError, match="cannot read"):
        LOPQModel.load_proto(tmp_path / "absent")
