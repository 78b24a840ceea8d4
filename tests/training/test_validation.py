"""The sample of images that is validated on after each epoch."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval.training import validation
from retrieval.training.dataset import TrainingData
from tests.drawn import drawn_data


def disjoint(data: TrainingData) -> TrainingData:
    """Return data whose queries are searched among themselves, as of --protocol=classes."""
    images = np.arange(len(data.labels))
    queries = np.column_stack([images, data.labels])
    return replace(data, queries=queries, gallery=images, is_class_disjoint=True)


@pytest.mark.parametrize("most", [16, 60, 100])
@pytest.mark.parametrize("is_disjoint", [False, True])
def test_a_sample_is_even_and_its_ranks_have_a_meaning(most: int, is_disjoint: bool) -> None:
    data = drawn_data(12, 16)
    data = disjoint(data) if is_disjoint else data
    sample = validation.draw_sample(data, most, 5)
    assert len(validation.validated_rows(sample)) <= most
    images, labels = sample.queries.T
    np.testing.assert_array_equal(data.labels[images], labels)
    assert np.isin(images, data.queries[:, 0]).all()
    assert np.isin(sample.gallery, data.gallery).all()
    assert is_disjoint or not np.isin(images, sample.gallery).any()
    # Every query has images of its class and of others to be found or confused with.
    for image, label in sample.queries.tolist():
        others = sample.gallery[sample.gallery != image]
        assert 0 < (data.labels[others] == label).sum() < len(others)
    counts = np.unique(data.labels[sample.gallery], return_counts=True)[1]
    assert len(counts) == min(12, most // validation.LEAST_PER_CLASS)
    assert np.ptp(counts) <= 1
    # Two pairs for each query, within the sample.
    is_same = data.labels[sample.pairs[:, 0]] == data.labels[sample.pairs[:, 1]]
    np.testing.assert_array_equal(is_same, sample.pairs[:, 2])
    assert len(sample.pairs) == 2 * len(images) == 2 * is_same.sum()
    assert (sample.pairs[:, 0] != sample.pairs[:, 1]).all()
    assert np.isin(sample.pairs[:, 1], sample.gallery).all()
    # The same images for the same seed.
    again, other = (validation.draw_sample(data, most, seed) for seed in (5, 6))
    np.testing.assert_array_equal(again.queries, sample.queries)
    np.testing.assert_array_equal(again.pairs, sample.pairs)
    assert not np.array_equal(other.gallery, sample.gallery)


def test_held_out_classes_are_judged_on_all_images_that_fit() -> None:
    data = drawn_data(12, 16).hold_out(2, 1)
    assert len(data.holdout) == 32
    sample = validation.draw_sample(data, 100, 5)
    np.testing.assert_array_equal(sample.holdout, data.holdout)
    assert len(validation.validated_rows(sample)) == 100
    small = validation.draw_sample(data, 20, 5)
    assert np.unique(data.labels[small.holdout], return_counts=True)[1].tolist() == [10, 10]
    assert len(small.queries) + len(small.gallery) == 5
    np.testing.assert_array_equal(small.rows, data.rows)  # what is trained on stays


@pytest.mark.parametrize("most", [0, 192, 5000])
def test_all_images_are_taken_where_there_are_no_more(most: int) -> None:
    data = drawn_data(12, 16)
    assert validation.draw_sample(data, most, 5) is data
