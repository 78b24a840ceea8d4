"""What each epoch and each step is made of."""

from itertools import product

import numpy as np
import pytest

from retrieval.data.formats import InputError
from retrieval.training import samplers
from tests.drawn import drawn_data


@pytest.mark.parametrize("sampler", ["random", "pk"])
def test_an_epoch_of_classes_has_each_image_once(sampler: str) -> None:
    data = drawn_data(7, 6)
    source = samplers.ClassSampler(data, 8, 0, 3, sampler, 4)  # type: ignore[arg-type]
    epoch = source.epoch(2)
    rows = np.concatenate([batch.rows for batch in epoch])
    np.testing.assert_array_equal(np.sort(rows), data.rows)
    for step, batch in enumerate(epoch):
        np.testing.assert_array_equal(batch.labels * 10, data.labels[batch.rows])
        np.testing.assert_array_equal(source.epoch(2)[step].rows, batch.rows)
        assert batch.n_filled == len(batch.rows) == 7  # 35 images, in steps of at most 8
    others = np.concatenate([batch.rows for batch in source.epoch(3)])
    assert not np.array_equal(rows, others)
    assert sum(len(b.rows) for b in samplers.ClassSampler(data, 8, 10, 3).epoch(0)) == 10


def test_steps_of_groups_keep_to_the_size_and_hold_pairs() -> None:
    data = drawn_data(9, 8)
    for (group, batch_size), number in product([(3, 8), (4, 4), (5, 6), (2, 64)], range(4)):
        epoch = list(samplers.ClassSampler(data, batch_size, 0, 3, "pk", group).epoch(number))
        sizes = [len(batch.rows) for batch in epoch]
        assert len(sizes) == -(-len(data.rows) // batch_size)
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        assert {batch.n_filled for batch in epoch} == {max(sizes)}
        rows = np.concatenate([batch.rows for batch in epoch])
        np.testing.assert_array_equal(np.sort(rows), data.rows)
        if batch_size > group:
            assert all(np.bincount(batch.labels).max() > 1 for batch in epoch)


def test_steps_of_tuples_are_filled_up_a_little() -> None:
    for batch in samplers.TupleSampler(drawn_data(), 3, 0, 3).epoch(0):
        assert 0 <= batch.n_filled - len(batch.rows) < 16
        assert batch.n_filled % 16 == 0


def test_an_epoch_of_tuples_has_each_once_and_alternates() -> None:
    data = drawn_data()
    source = samplers.TupleSampler(data, 4, 0, 3)
    for number in (0, 1):
        found = [tuple(batch.rows[t]) for batch in source.epoch(number) for t in batch.tuples]  # type: ignore[union-attr]
        assert sorted(found) == sorted(map(tuple, source.tuples[number]))
    fewer = samplers.TupleSampler(data, 4, 6, 3).epoch(0)
    assert [batch.count for batch in fewer] == [4, 2]
    with pytest.raises(IndexError):
        fewer[2]


@pytest.mark.parametrize("sampler", ["random", "pk"])
@pytest.mark.parametrize("most", [4, 10, 34, 50])
def test_shorter_epochs_draw_all_images_before_any_again(sampler: str, most: int) -> None:
    data = drawn_data(5, 8)
    source = samplers.ClassSampler(data, 8, most, 3, sampler, 4)  # type: ignore[arg-type]
    assert source.n_unit == min(most, 35)
    seen = np.zeros(len(data.labels), int)
    for number in range(20):
        epoch = list(source.epoch(number))
        assert sum(len(batch.rows) for batch in epoch) == source.n_unit
        for batch in epoch:
            np.add.at(seen, batch.rows, 1)
            assert sampler == "random" or np.bincount(batch.labels).max() > 1
        assert np.ptp(seen[data.rows]) <= 1
    # The first of them is the start of a whole epoch.
    whole = samplers.ClassSampler(data, 64, 0, 3, sampler, 4)  # type: ignore[arg-type]
    first = np.concatenate([batch.rows for batch in source.epoch(0)])
    assert np.isin(first, whole.epoch(0)[0].rows).all()


def test_shorter_epochs_draw_all_tuples_before_any_again() -> None:
    data = drawn_data()
    source = samplers.TupleSampler(data, 4, 7, 3)
    seen: list[dict[tuple[int, ...], int]] = [{}, {}]
    for number in range(12):
        for batch in source.epoch(number):
            assert batch.tuples is not None
            for row in batch.rows[batch.tuples]:
                counts = seen[number % 2]
                counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    for counts in seen:
        assert len(counts) == len(source.tuples[0]) == 36
        assert sum(counts.values()) == 6 * 7
        assert max(counts.values()) <= 2


@pytest.mark.parametrize("amount", [0.34, 2])
def test_held_out_classes_are_never_seen(amount: float) -> None:
    data = drawn_data()
    known = data.hold_out(amount, seed=5)
    out = np.unique(data.labels[known.holdout])
    assert len(out) == 2
    np.testing.assert_array_equal(known.holdout, np.flatnonzero(np.isin(data.labels, out)))
    sources = (samplers.TupleSampler(known, 4, 0, 1), samplers.ClassSampler(known, 4, 0, 1))
    for source in sources:
        for number in range(4):
            for batch in source.epoch(number):
                assert not np.isin(data.labels[batch.rows], out).any()
                assert batch.labels.max() < 4
    for batch in sources[0].epoch(0):
        labels = data.labels[batch.rows[batch.tuples]]
        assert (labels[:, 0] == labels[:, 1]).all()
        assert (labels[:, 2:] != labels[:, :1]).all()
    for images in (known.queries[:, 0], known.gallery, known.pairs[:, :2].ravel(), known.rows):
        assert not np.isin(data.labels[images], out).any()
    assert not np.array_equal(data.hold_out(2, 6).holdout, data.hold_out(2, 5).holdout)
    for bad in (5, 0.01):
        with pytest.raises(InputError, match="at least one must be held out and two left"):
            data.hold_out(bad, 0)
