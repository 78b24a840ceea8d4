"""Duplicates: every pair is found, copies are recognized, second photos are not."""

import io

import numpy as np
import pytest
from PIL import Image

from retrieval.report import near_duplicates
from retrieval.report.near_duplicates import ImageMatrices, Pairs, near_pairs


def bits(a: np.ndarray, b: np.ndarray) -> int:
    return sum(int(x).bit_count() for x in a ^ b)


@pytest.mark.parametrize("max_distance", [0, 3, 10])
def test_near_pairs_are_those_of_comparing_all_with_all(
    max_distance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "QUERY_BLOCK", 7)
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 256, (60, 8)).astype(np.uint8)
    hashes[20:40] = hashes[:20]
    for row in range(20, 40):  # some bits differ, 0 to 9 of them
        for bit in rng.choice(64, row // 2 - 10, replace=False):
            hashes[row, bit // 8] ^= 1 << (bit % 8)
    expected = [
        (i, j, bits(hashes[i], hashes[j]))
        for i in range(60)
        for j in range(i + 1, 60)
        if bits(hashes[i], hashes[j]) <= max_distance
    ]
    pairs, is_full = near_pairs(hashes, max_distance)
    assert len(expected) >= 2
    assert list(zip(pairs.first, pairs.second, pairs.distances, strict=True)) == expected
    assert not is_full.any()
    found = near_duplicates.hash_distances(hashes, pairs.first, pairs.second)
    np.testing.assert_array_equal(found, pairs.distances)


def test_a_flood_of_equal_images_is_bounded_and_said() -> None:
    hashes = np.zeros((40, 8), np.uint8)
    hashes[:2] = 255
    pairs, is_full = near_pairs(hashes, 0, neighbors=5)
    assert is_full.tolist() == [False] * 2 + [True] * 38
    assert (0, 1) in set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(pairs) <= 40 * 7
    _, is_full = near_pairs(np.zeros((6, 8), np.uint8), 0, neighbors=5)
    assert not is_full.any()


@pytest.mark.parametrize("n", [0, 1])
def test_few_hashes_have_no_pairs(n: int) -> None:
    pairs, is_full = near_pairs(np.zeros((n, 8), np.uint8), 64)
    assert len(pairs) == 0 and len(is_full) == n


def pictures(n: int, seed: int, side: int = 48) -> np.ndarray:
    """Return smooth random color pictures, (n, 3, side, side) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 6, 6, 3)).astype(np.uint8)
    images = [
        np.asarray(Image.fromarray(a).resize((side, side), Image.Resampling.BICUBIC))
        for a in coarse
    ]
    return np.stack(images).transpose(0, 3, 1, 2)


def changed(pixels: np.ndarray, how: str) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if how == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=40)
        image = Image.open(buffer).convert("RGB")
    elif how == "scaled":
        image = image.resize((24, 24)).resize((48, 48))
    else:
        image = image.point([min(255, round(0.7 * v + 40)) for v in range(256)] * 3)
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("how", ["jpeg", "scaled", "brighter"])
def test_a_changed_copy_is_near_and_alike_and_another_picture_is_not(how: str) -> None:
    originals = pictures(30, seed=1)
    copies = np.stack([changed(image, how) for image in originals])
    collection = ImageMatrices([originals, copies])
    marks = collection.marks()
    rows = np.arange(30)
    own = near_duplicates.hash_distances(marks.hashes, rows, rows + 30)
    other = near_duplicates.hash_distances(marks.hashes, rows, (rows + 1) % 30 + 30)
    assert own.max() <= 10 < other.min()
    assert collection.similarities(Pairs(rows, rows + 30, own)).min() >= 0.97
    assert collection.similarities(Pairs(rows, (rows + 1) % 30, other)).max() < 0.97
    assert not (marks.digests[:30] == marks.digests[30:]).all(axis=1).any()


def test_marks_tell_equal_and_blank_images() -> None:
    images = pictures(5, seed=2)
    images[3] = images[1]
    images[4] = 93
    marks = ImageMatrices([images[:2], images[2:]]).marks()
    equal = (marks.digests[:, None] == marks.digests[None]).all(axis=2)
    expected = np.eye(5, dtype=bool)
    expected[1, 3] = expected[3, 1] = True
    np.testing.assert_array_equal(equal, expected)
    assert marks.contrasts[4] < 1e-3 and marks.contrasts[:4].min() > 10


def test_similarity_is_the_correlation_of_small_pictures() -> None:
    images = pictures(4, seed=5, side=64)
    images = np.concatenate([images, 255 - images[:1]])
    zeros = np.zeros(4, np.int64)
    pairs = Pairs(zeros, np.array([0, 4, 2, 3]), zeros)
    small = images.reshape(5, 3, 32, 2, 32, 2).mean(axis=(3, 5)).reshape(5, -1)
    expected = np.corrcoef(small)[0, [0, 4, 2, 3]]
    np.testing.assert_allclose(ImageMatrices([images]).similarities(pairs), expected, atol=1e-5)
    assert expected[:2] == pytest.approx([1, -1])


def test_a_collection_numbers_rows_on() -> None:
    first, second = pictures(2, seed=1), pictures(3, seed=2)[:, :, :40, :40]
    collection = ImageMatrices([first, second])
    assert len(collection) == 5
    for row, image in enumerate([*first, *second]):
        np.testing.assert_array_equal(collection[row], image)
