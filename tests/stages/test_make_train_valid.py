"""The split and the tuples: what may be drawn, what never."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from process_data import image_matrix, make_train_valid
from retrieval.data import layout, split, tuples
from retrieval.data.formats import InputError


def write_index(data_dir: Path, labels: list[int]) -> None:
    index = range(len(labels))
    table = pd.DataFrame({"Path": [f"{i}.jpg" for i in index], "Class": labels, "Index": index})
    table.to_csv(data_dir / "car_front.csv", index=False)


def run(data_dir: Path, labels: list[int], **options: Any) -> dict[str, np.ndarray]:
    write_index(data_dir, labels)
    make_train_valid.run(data_dir, **options)
    files = (layout.TRAIN, layout.TRAIN_REVERSED, layout.VALID_PAIRS, layout.VALID_QUERIES)
    return {file.name: np.array(file.load(data_dir)) for file in files}


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    ratio=st.integers(2, 5),
    neg_count=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_the_rules_of_the_split(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    ratio: int,
    neg_count: int,
    seed: int,
) -> None:
    data_dir = tmp_path_factory.mktemp("split")
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)) * 3, sizes))
    min_len = 4
    options = {"ratio": ratio, "min_len": min_len, "neg_count": neg_count, "seed": seed}
    try:
        files = run(data_dir, labels.tolist(), **options)
    except InputError:
        n_train = [size - size // ratio for size in sizes]
        has_queries = any(size >= max(min_len, ratio) for size in sizes)
        has_negatives = sum(n_train) - max(n_train) >= neg_count
        assert not (has_queries and has_negatives and max(n_train) >= 2)
        return
    train, reverse, pairs, queries = files.values()
    counts = dict(zip((np.arange(len(sizes)) * 3).tolist(), sizes, strict=True))

    # Of each class, n // ratio images are for validation; minor classes give no query.
    expected = {label: n // ratio if n >= min_len else 0 for label, n in counts.items()}
    for label, n_query in expected.items():
        assert (queries[:, 1] == label).sum() == n_query
    np.testing.assert_array_equal(labels[queries[:, 0]], queries[:, 1])
    assert len(np.unique(queries[:, 0])) == len(queries)

    # Every pair of training images of a class, once.
    n_pair = sum((n - n // ratio) * (n - n // ratio - 1) // 2 for n in counts.values())
    assert train.shape == reverse.shape == (n_pair, 2 + neg_count)
    assert len({frozenset(pair) for pair in train[:, :2].tolist()}) == n_pair
    np.testing.assert_array_equal(train[:, :2], reverse[:, 1::-1])
    for drawn in (train, reverse):
        np.testing.assert_array_equal(labels[drawn[:, 0]], labels[drawn[:, 1]])
        assert (labels[drawn[:, 2:]] != labels[drawn[:, :1]]).all()
        assert not np.isin(drawn, queries[:, 0]).any()
        assert all(len(set(row)) == 2 + neg_count for row in drawn.tolist())

    # Pairs: each query once with its class, once with another; partners are training images.
    same, other = pairs[pairs[:, 2] == 1], pairs[pairs[:, 2] == 0]
    for half in (same, other):
        np.testing.assert_array_equal(np.sort(half[:, 0]), np.sort(queries[:, 0]))
        assert not np.isin(half[:, 1], queries[:, 0]).any()
    np.testing.assert_array_equal(labels[same[:, 0]], labels[same[:, 1]])
    assert (labels[other[:, 0]] != labels[other[:, 1]]).all()

    minor = layout.MINOR_CLASSES.load(data_dir)
    assert minor == [label for label, n in counts.items() if n < min_len]
    of_class = layout.CLASS_IMAGES.load(data_dir)
    assert {int(k): v for k, v in of_class.items()} == {
        label: np.flatnonzero(labels == label).tolist() for label in counts
    }


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    labels = [0, 1, 2] * 10
    contents = []
    for seed in (1, 1, 2):
        run(tmp_path, labels, min_len=5, seed=seed)
        contents.append([p.read_bytes() for p in sorted(tmp_path.glob("*.npy"))])
    assert contents[0] == contents[1] != contents[2]


def test_negatives_are_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    starts, sizes = np.full(20_000, 2), np.full(20_000, 3)
    drawn = tuples.draw_others(starts, sizes, 8, 3, rng)
    counts = np.bincount(drawn.ravel(), minlength=8)
    assert not counts[2:5].any()
    np.testing.assert_allclose(counts[[0, 1, 5, 6, 7]] / 20_000, 3 / 5, atol=0.02)


def test_blocks_of_pairs_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.stack(np.triu_indices(9, 1))
    for block in (1, 10, 20, 1000):
        monkeypatch.setattr(tuples, "PAIR_BLOCK", block)
        pairs = [np.stack(pair) for pair in tuples._pair_blocks(9)]
        np.testing.assert_array_equal(np.concatenate(pairs, axis=1), expected)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([5] * 20, {}, "one class only"),
        ([0] * 60 + [1] * 2, {"neg_count": 3}, "class 0 .* has 2 training images of other classes"),
        ([0] * 57 + [1] * 57, {}, "no validation query is left: the largest class .* has 57"),
        ([0] * 60 + [1] * 60, {"ratio": 1}, "--ratio must be at least 2"),
        ([0, 1, 2, 3], {"min_len": 1, "neg_count": 1}, "no class .* has two training images"),
    ],
)
def test_impossible_requests_are_said(
    tmp_path: Path, labels: list[int], options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, labels, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["car_front.csv"]


def test_class_disjoint_split(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([2, 4, 6, 8, 9], [3, 4, 5, 1, 6]))
    options = {"protocol": "classes", "neg_count": 2}
    train, reverse, pairs, queries = run(tmp_path, labels.tolist(), **options).values()
    # The first two of five classes train; every image of the others is a query.
    assert {*labels[np.unique(train)]} == {*labels[np.unique(reverse)]} == {2, 4}
    assert len(train) == 3 * 2 // 2 + 4 * 3 // 2
    np.testing.assert_array_equal(
        np.sort(queries[:, 0]), np.flatnonzero(np.isin(labels, [6, 8, 9]))
    )
    np.testing.assert_array_equal(labels[queries[:, 0]], queries[:, 1])
    assert layout.MINOR_CLASSES.load(tmp_path) == [2, 4]
    # Pairs are of new classes, and no image is its own partner; a single image has none.
    assert {*labels[pairs[:, :2].ravel()]} <= {6, 8, 9}
    assert (pairs[:, 0] != pairs[:, 1]).all()
    np.testing.assert_array_equal(labels[pairs[:, 0]] == labels[pairs[:, 1]], pairs[:, 2] == 1)
    assert len(pairs) == 2 * (5 + 6)
    assert layout.SPLIT.load(tmp_path)["protocol"] == "classes"


@pytest.mark.parametrize(
    ("labels", "message"),
    [([1] * 9, "has 1 classes; .* at least four"), ([1, 1, 2, 2, 3, 4], "no class .* two images")],
)
def test_impossible_class_disjoint_splits_are_said(
    tmp_path: Path, labels: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, labels, protocol="classes", neg_count=1)
    assert [p.name for p in tmp_path.iterdir()] == ["car_front.csv"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"protocol": "images"}'])
def test_a_split_without_its_record_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="split.json is missing"):
        split.load_split_record(tmp_path)
    layout.SPLIT.at(tmp_path).write_text(text)
    with pytest.raises(InputError, match="does not hold what it should; make it again with"):
        split.load_split_record(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([5, 5, 5], (5, 5, 4)),
        ([3, 2], (3, 3, 2)),
        ([40, 3], (7, 10, 3)),
        ([5], None),
        ([1, 1, 1], None),
        ([2, 2], None),
    ],
)
def test_a_small_collection_is_split_as_far_as_it_goes(
    tmp_path: Path, sizes: list[int], expected: tuple[int, int, int] | None
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    table = pd.DataFrame({"Path": "a.jpg", "Class": labels, "Index": np.arange(len(labels))})
    layout.IMAGE_INDEX.save(tmp_path, table)
    layout.SPLIT.at(tmp_path).write_text("{}")  # of other images
    made = make_train_valid.run(tmp_path, "indexinfo.csv", min_len=10, fit=True)
    if expected is None:
        assert made is None and not layout.SPLIT.at(tmp_path).exists()
        return
    record = layout.SPLIT.load(tmp_path)
    assert (record["ratio"], record["min_len"], record["neg_count"]) == expected
    assert len(layout.VALID_QUERIES.load(tmp_path)) >= 1
    assert layout.TRAIN.load(tmp_path).shape[1] == 2 + expected[2]


def test_photos_without_classes_have_no_split(tmp_path: Path) -> None:
    table = pd.DataFrame({"Path": "a.jpg", "Class": [-1] * 30, "Index": np.arange(30)})
    layout.IMAGE_INDEX.save(tmp_path, table)
    assert make_train_valid.run(tmp_path, "indexinfo.csv", min_len=10, fit=True) is None


def test_the_record_of_an_image_matrix_names_its_csv(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "0.png").write_text("broken")
    table = pd.DataFrame({"Path": [f"{n}.png" for n in range(5)], "Class": [0, 0, 0, 1, 1]})
    layout.IMAGE_INDEX.save(tmp_path, table.assign(Index=range(5)))
    image_matrix.run(tmp_path, "indexinfo.csv", "photos/", image_resolution=8, on_unreadable="drop")
    layout.IMAGE_INDEX.save(tmp_path, table.assign(Class=[0, 0, 0, 0, 1], Index=range(5)))
    assert make_train_valid.run(tmp_path, "imageset.json", fit=True) is None  # 2 and 2 are left
    with pytest.raises(InputError, match=r"other\.npy is missing|does not name the csv"):
        make_train_valid.run(tmp_path, "other.json", fit=True)
