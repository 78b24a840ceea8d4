"""Intervals of means over queries: against known distributions and a slow bootstrap."""

import numpy as np

from retrieval.evaluation import bootstrap


def test_resampled_means_are_those_of_the_classes_drawn() -> None:
    values, clusters = np.array([1.0, 2.0, 6.0, 7.0, 8.0]), np.array([4, 4, 9, 9, 9])
    means = bootstrap.resampled_means(values, clusters, 500, seed=1)
    # Both classes once, or one of them twice.
    possible = {values.mean(), values[:2].mean(), values[2:].mean()}
    assert {round(mean, 9) for mean in means.tolist()} == {round(mean, 9) for mean in possible}
    assert abs((means == values.mean()).mean() - 0.5) < 0.1


def test_columns_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    values, clusters = rng.random((60, 3)), rng.integers(8, size=60)
    low, high = bootstrap.cluster_bootstrap(values, clusters)
    for column in range(3):
        alone = bootstrap.cluster_bootstrap(values[:, column], clusters)
        assert np.allclose(alone, (low[column], high[column]))


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        of_class = rng.normal(0.5, 0.2, 40)
        clusters = np.repeat(np.arange(40), 5)
        values = of_class[clusters] + rng.normal(0, 0.1, 200)
        low, high = bootstrap.cluster_bootstrap(values, clusters, n_resample=400)
        covered += bool(low <= 0.5 <= high)
    assert 175 <= covered <= 199


def test_classes_matter() -> None:
    clusters = np.repeat(np.arange(10), 50)
    values = (clusters % 2).astype(float)
    low, high = bootstrap.cluster_bootstrap(values, clusters)
    low_alone, high_alone = bootstrap.cluster_bootstrap(values, np.arange(500))
    assert high - low > 3 * (high_alone - low_alone)


def test_pairing_finds_a_small_gain_that_intervals_of_each_do_not() -> None:
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(30), 4)
    first = rng.random(120)
    second = first + 0.02 + rng.normal(0, 0.01, 120)
    found = bootstrap.paired_bootstrap(first, second, clusters)
    assert 0.01 < found.low < found.mean < found.high < 0.03
    assert found.p_value < 0.01
    ends = [bootstrap.cluster_bootstrap(values, clusters) for values in (first, second)]
    assert ends[0][1] > ends[1][0]


def test_no_difference_is_not_found() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.random((2, 300))
    found = bootstrap.paired_bootstrap(first, second, np.repeat(np.arange(60), 5))
    assert found.low < 0 < found.high
    assert found.p_value > 0.05
