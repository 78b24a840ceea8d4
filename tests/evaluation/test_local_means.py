"""The class that a list names, and its features, against plain loops."""

import numpy as np
import pytest

from retrieval.evaluation.local_means import FEATURES, NEAR, SHARPNESS, name_classes


def drawn_lists(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return similarities, labels and embeddings of lists; some places have no class."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal([1, 0, 0, 0], 1, (n, k, 4))
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    order = np.argsort(-embeddings[:, :, 0], axis=1)  # the query is the first axis
    embeddings = np.take_along_axis(embeddings, order[:, :, None], axis=1)
    return embeddings[:, :, 0], rng.integers(-1, 4, (n, k)), embeddings


def plain_name(
    similarities: np.ndarray, labels: np.ndarray, embeddings: np.ndarray
) -> tuple[int, dict[str, float]]:
    """Return the class that one list names, and the features, as the docstring says it."""
    there = labels >= 0
    similarities, labels, embeddings = similarities[there], labels[there], embeddings[there]
    last, averages, votes = similarities[-1], {}, {}
    for label in set(labels.tolist()):
        own = labels == label
        weights = np.exp(SHARPNESS * (similarities[own] - similarities[0]))
        average = (weights[:, None] * embeddings[own]).sum(axis=0)
        averages[label] = average[0] / np.linalg.norm(average)
        votes[label] = (similarities[own] - last + 1e-9).sum()
    named = max(averages, key=lambda label: averages[label])
    rest = [value for label, value in averages.items() if label != named]
    gaps = []
    for place in range(min(NEAR, len(labels))):
        others = np.sort(np.delete(embeddings @ embeddings[place], place))[::-1][:NEAR]
        gaps.append(similarities[place] - others.mean() if len(others) else 0.0)
    return named, {
        "prototype": averages[named],
        "ahead": averages[named] - max(rest, default=last),
        "top": similarities[0],
        "mean": similarities.mean(),
        "share": votes[named] / sum(votes.values()),
        "contrast": float(np.mean(gaps)),
    }


@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_names_are_those_of_a_plain_loop(k: int) -> None:
    similarities, labels, embeddings = drawn_lists(40, k, seed=k)
    found = name_classes(similarities, labels, embeddings)
    for row in range(len(labels)):
        if (labels[row] < 0).all():
            assert found.labels[row] == -1
            continue
        named, features = plain_name(similarities[row], labels[row], embeddings[row])
        assert found.labels[row] == named
        np.testing.assert_allclose(
            found.features[row], [features[name] for name in FEATURES], atol=1e-6
        )
        assert found.shares[row] == found.features[row, FEATURES.index("share")]


def test_what_is_not_there_changes_nothing() -> None:
    similarities, labels, embeddings = drawn_lists(8, 6, seed=1)
    labels = np.maximum(labels, 0)
    padded = name_classes(
        np.pad(similarities, ((0, 0), (0, 3)), constant_values=-np.inf),
        np.pad(labels, ((0, 0), (0, 3)), constant_values=-1),
        np.pad(embeddings, ((0, 0), (0, 3), (0, 0)), constant_values=0.5),
    )
    plain = name_classes(similarities, labels, embeddings)
    np.testing.assert_array_equal(padded.labels, plain.labels)
    np.testing.assert_allclose(padded.features, plain.features, atol=1e-12)


def test_only_some_can_be_named_but_all_count() -> None:
    similarities, embeddings = np.array([[0.9, 0.8, 0.5]]), np.eye(3)[None]
    labels = np.array([[1, 2, 3]])
    found = name_classes(similarities, labels, embeddings, np.array([[False, True, True]]))
    assert found.labels.tolist() == [2]
    assert found.features[0, FEATURES.index("ahead")] == pytest.approx(-0.1)
    assert found.shares[0] == pytest.approx(0.3 / 0.7)
    nobody = name_classes(similarities, labels, embeddings, np.zeros((1, 3), bool))
    assert nobody.labels.tolist() == [-1]
