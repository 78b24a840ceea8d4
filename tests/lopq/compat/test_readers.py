"""The old package's files: messages written here byte by byte, and MATLAB files by scipy."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lopq import LOPQError
from lopq.compat import LOPQModel, LOPQSearcher


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
    body += [field(6, matrix(R)) for split in Rs for R in split]
    body += [field(7, matrix(mu, with_shape=False)) for split in mus for mu in split]
    body += [field(8, matrix(sub)) for split in subs for sub in split]
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


NAMES = ("Cs", "Rs", "mus", "subs")


def save_mat(path: Path, parameters: dict[str, object]) -> None:
    with path.open("wb") as file:
        scipy.io.savemat(file, parameters)


@pytest.mark.parametrize("missing", range(1, 15))
def test_parts_that_a_file_lacks_are_fitted(missing: int, tmp_path: Path) -> None:
    parameters = old_model()
    left = tuple([] if missing >> i & 1 else part for i, part in enumerate(parameters))
    path = tmp_path / "model"
    path.write_bytes(proto(left))
    model = LOPQModel.load_proto(path)
    assert (model.V, model.M, model.num_coarse_splits) == (3, 4, 2)
    with pytest.raises(LOPQError, match="call fit"):
        model.encode(np.zeros((1, 12)))
    model.fit(np.random.default_rng(0).normal(size=(300, 12)))
    got = (model.Cs, model.Rs, model.mus, model.subquantizers)
    for kept, fitted in zip(left, got, strict=True):
        if kept:
            np.testing.assert_array_equal(np.stack(kept), np.stack(fitted))
    path.write_bytes(proto(([], [], [], [])))
    with pytest.raises(LOPQError, match="lacks all of its parts"):
        LOPQModel.load_proto(path)


@pytest.mark.parametrize("kind", ["proto", "mat"])
def test_an_empty_cell_of_an_old_model_has_mean_zero(kind: str, tmp_path: Path) -> None:
    parameters = old_model()
    parameters[2][1][2] = np.nan
    path = tmp_path / "model"
    if kind == "proto":
        path.write_bytes(proto(parameters))
        model = LOPQModel.load_proto(path)
    else:
        save_mat(path, {n: np.stack(p) for n, p in zip(NAMES, parameters, strict=True)})
        model = LOPQModel.load_mat(path)
    assert (model.mus[1][2] == 0).all()
    np.testing.assert_array_equal(model.mus[0], parameters[2][0])
    np.testing.assert_array_equal(model.mus[1][:2], parameters[2][1][:2])


def test_axes_that_matlab_drops_are_put_back(tmp_path: Path) -> None:
    parameters = old_model(V=3, M=2, K=1, dim=1)
    squeezed = {}
    for name, part in zip(NAMES, parameters, strict=True):
        array = np.stack(part)
        while array.ndim > 2 and array.shape[-1] == 1:
            array = array[..., 0]
        squeezed[name] = array
    assert [a.shape for a in squeezed.values()] == [(2, 3), (2, 3), (2, 3), (2, 1)]
    save_mat(tmp_path / "model", squeezed)
    model = LOPQModel.load_mat(tmp_path / "model")
    got = (model.Cs, model.Rs, model.mus, model.subquantizers)
    for given, loaded in zip(parameters, got, strict=True):
        np.testing.assert_array_equal(np.stack(given), np.stack(loaded))


def test_malformed_matlab_files_are_refused(tmp_path: Path) -> None:
    good = {n: np.stack(p) for n, p in zip(NAMES, old_model(), strict=True)}
    bad: list[dict[str, object]] = [
        {"Cs": "text"},
        {"Cs": good["Cs"] * 1j},
        {"Cs": good["Cs"][:1]},
        {"Cs": good["Cs"][None]},
        {"Cs": good["Cs"][:, :, :-1]},
        {"Rs": good["Rs"][..., :-1]},
        {"mus": np.zeros((0, 0))},
        {"mus": np.array([1, "x", 2.5], object)},
        {"mus": {"field": 1.0}},
        {"subs": np.full_like(good["subs"], np.nan)},
        {"subs": scipy.sparse.eye_array(4).tocsc()},
    ]
    for change in bad:
        save_mat(tmp_path / "model", {**good, **change})
        with pytest.raises(LOPQError):
            LOPQModel.load_mat(tmp_path / "model")


def test_damage_to_compressed_files_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with path.open("wb") as file:
        stacked = {n: np.stack(p) for n, p in zip(NAMES, old_model(), strict=True)}
        scipy.io.savemat(file, stacked, do_compression=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(LOPQError, match="not a model of the old package, or damaged"):
        LOPQModel.load_mat(path)


def test_a_codebook_of_one_entry_comes_back(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(proto(old_model(K=1)))
    model = LOPQModel.load_proto(tmp_path / "old")
    model.save(tmp_path / "new")
    x = np.arange(12.0)
    assert LOPQModel.load(tmp_path / "new").predict(x) == model.predict(x)
    fitted = LOPQModel(V=2, M=2, subquantizer_clusters=1)
    fitted.fit(np.random.default_rng(0).normal(size=(50, 4)))
    assert fitted.predict(np.ones(4)).fine == (0, 0)
