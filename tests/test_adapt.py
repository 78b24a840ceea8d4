"""Pseudo-labels, the batches and the loss that train on them, and the stage."""

from pathlib import Path

import numpy as np
import pytest
import torch

import build_image_db
from process_data import adapt, mips, transform
from retrieval import checkpoint, layout, pseudo_labels
from retrieval.formats import InputError
from retrieval.pseudo_labels import UNKNOWN
from retrieval.report import commands
from retrieval.self_training import SelfTrainer
from tests.test_expansion import unit

SMALL = {"rounds": 2, "steps": 2, "classes": 4, "device": "cpu", "precision": "float32"}


def two_domains() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three classes of 20 images each, and the same from another camera, which moves them all."""
    rng = np.random.default_rng(0)
    centers = 3 * np.eye(3, 6)
    labels = np.repeat([4, 7, 9], 20)
    sources, targets = (
        unit(centers[np.repeat(np.arange(3), 20)] + 0.4 * rng.normal(size=(60, 6)) + shift)
        for shift in (0, np.array([0, 0, 0, 4, 4, 0]))
    )
    return sources, labels, targets, labels


@pytest.mark.parametrize("pseudo", ["centroid", "cluster"])
def test_classes_are_guessed_across_a_shift(pseudo: pseudo_labels.Pseudo) -> None:
    sources, labels, targets, truth = two_domains()
    guessed = pseudo_labels.guess(sources, labels, targets, pseudo, 1.0, seed=0)
    assert (guessed == truth).mean() > 0.95


def test_the_surest_of_each_class_are_kept() -> None:
    sources, labels, targets, _ = two_domains()
    every = pseudo_labels.guess(sources, labels, targets, "centroid", 1.0, seed=0)
    some = pseudo_labels.guess(sources, labels, targets, "centroid", 0.25, seed=0)
    kept = some != UNKNOWN
    np.testing.assert_array_equal(some[kept], every[kept])
    left, right = (rows - rows.mean(axis=0) for rows in (sources, targets))
    _, centroids = pseudo_labels.class_centroids(unit(left), labels)
    confidence = (unit(right) @ centroids.T).max(axis=1)
    for label in np.unique(every):
        of_class = every == label
        assert kept[of_class].sum() == np.ceil(of_class.sum() / 4)
        assert confidence[of_class & kept].min() >= confidence[of_class & ~kept].max()


def test_clusters_that_no_class_is_nearest_to_stay_unknown() -> None:
    targets = unit(np.array([[1, 0.1], [1, 0.12], [0.1, 1], [0.12, 1]]))
    centroids = unit(np.array([[1.0, 0.3], [1.0, 0.0]]))  # both are near the first two targets
    guessed = pseudo_labels._by_clusters(targets, centroids, seed=0)
    assert guessed[0] == guessed[1] != UNKNOWN
    assert (guessed[2:] == UNKNOWN).all()


def test_batches_hold_half_targets_where_there_are_any() -> None:
    labels = np.array([0] * 5 + [1] * 3 + [2] + [0, 0, UNKNOWN, 1])
    is_target = np.arange(13) >= 9
    rng = np.random.default_rng(0)
    batches = pseudo_labels.class_batches(labels, is_target, 3, 4, rng)
    for _ in range(5):
        batch = next(batches).reshape(3, 4)
        of_batch = labels[batch]
        assert sorted(of_batch[:, 0].tolist()) == [0, 1, 2]
        assert (of_batch == of_batch[:, :1]).all()
        counts = dict(zip(of_batch[:, 0].tolist(), is_target[batch].sum(axis=1), strict=True))
        assert counts == {0: 2, 1: 2, 2: 0}


def contrastive_loss(rows: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """L_out of Khosla et al. (NeurIPS 2020), pair by pair, of unit vectors."""
    losses = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        total = sum(np.exp(rows[i] @ rows[j] / temperature) for j in others)
        shares = [
            np.log(np.exp(rows[i] @ rows[j] / temperature) / total)
            for j in others
            if labels[j] == labels[i]
        ]
        if shares:  # an image may be alone in its class
            losses.append(-np.mean(shares))
    return float(np.mean(losses))


def test_a_step_takes_the_contrastive_loss_of_unit_vectors(pipeline: Path) -> None:
    content = checkpoint.load(pipeline / "para" / "model.ep0")
    model = checkpoint.build_model(content, pipeline)
    model.freeze_norms()  # so that what is embedded does not depend on the chunks
    images = adapt._load_images(pipeline, 1.0, np.random.default_rng(0))
    n_source, n_target = len(images.sources), len(images.targets)
    labels = np.concatenate([images.source_labels, np.full(n_target, UNKNOWN)])
    guessed = np.full(n_target, UNKNOWN)
    guessed[0] = labels[0]
    labels[n_source] = labels[0]
    batches = pseudo_labels.class_batches(labels, images.is_target, 4, 4, np.random.default_rng(5))
    positions = next(batches)
    embeddings = torch.nn.functional.normalize(
        model.features(torch.from_numpy(images.load(positions)))
    )
    trainer = SelfTrainer(
        model=model,
        objective=adapt.make_objective(model, images, temperature=0.2),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        images=images,
        classes=4,
        images_of_class=4,
        augmentation="none",
        batch_size=7,
        dtype=torch.float32,
    )
    expected = contrastive_loss(embeddings.detach().numpy(), labels[positions], 0.2)
    loss = trainer.train(guessed, steps=1, rng=np.random.default_rng(5))
    assert loss == pytest.approx(expected, rel=1e-4)


def test_the_checkpoint_encodes_and_does_not_depend_on_test_labels(pipeline: Path) -> None:
    start = pipeline / "para" / "model.ep0"
    first = adapt.run(pipeline, start, share=0.5, **SMALL)  # type: ignore[arg-type]
    weights = checkpoint.load(first)["state_dict"]
    before = checkpoint.load(start)["state_dict"]
    assert not torch.equal(weights["projection.weight"], before["projection.weight"])
    held_out = np.array(layout.TEST_HELD_OUT.load(pipeline))
    assert len(held_out) == len(layout.TEST_QUERIES.load(pipeline)) // 2

    queries = np.array(layout.TEST_QUERIES.load(pipeline))
    queries[:, 1] = np.random.default_rng(0).permutation(queries[:, 1])
    layout.TEST_QUERIES.save(pipeline, queries)
    second = pipeline / "para" / "other"
    adapt.run(pipeline, start, second, share=0.5, **SMALL)  # type: ignore[arg-type]
    for name, value in checkpoint.load(second)["state_dict"].items():
        assert torch.equal(value, weights[name]), name

    layout.TEST_HELD_OUT.save(pipeline, held_out)
    for source, output in (("imageset.npy", "database.npy"), ("test_image.npy", "tdatabase.npy")):
        build_image_db.run(pipeline, first, source, output)
    mips.run(pipeline, k=3, to_test="test_held_out.npy")
    assert layout.METRICS.load(pipeline)["n_query"] == len(held_out)


def test_only_training_images_of_the_web_are_sources(pipeline: Path) -> None:
    images = adapt._load_images(pipeline, 1.0, np.random.default_rng(0))
    queries = layout.VALID_QUERIES.load(pipeline)[:, 0]
    assert not np.isin(images.sources, queries).any()
    assert len(images.sources) + len(queries) == len(images.web)
    assert len(images.targets) == len(images.cameras)
    order = np.array([len(images.sources) + 1, 0, len(images.sources)])
    loaded = images.load(order)
    np.testing.assert_array_equal(loaded[[0, 2]], images.cameras[[1, 0]])
    np.testing.assert_array_equal(loaded[1], images.web[images.sources[0]])


def test_the_control_looks_at_no_surveillance_image(pipeline: Path) -> None:
    path = pipeline / "para" / "model.ep0"
    transductive = []
    for pseudo in ("none", "centroid", "none"):  # each from the one before
        path = adapt.run(
            pipeline, path, path.with_suffix(f"{path.suffix}_"), pseudo=pseudo, **SMALL
        )  # type: ignore[arg-type]
        build_image_db.run(pipeline, path)
        transductive.append(layout.DATABASE.at(pipeline).with_suffix(".json").read_text())
    assert ['"adapted": true' in text for text in transductive] == [False, True, True]


@pytest.mark.parametrize("is_frozen", [True, False])
def test_batch_norms_stay_frozen(pipeline: Path, is_frozen: bool) -> None:
    start = pipeline / "para" / "model.ep0"
    content = torch.load(start, weights_only=True)
    torch.save({**content, "frozen_norms": is_frozen}, start)
    path = adapt.run(pipeline, start, **SMALL)  # type: ignore[arg-type]
    adapted = checkpoint.load(path)
    assert adapted["frozen_norms"] == is_frozen  # for what is adapted from it
    before, after = (c["state_dict"] for c in (content, adapted))
    for name in ("trunk.bn1.running_mean", "trunk.bn1.weight"):
        assert torch.equal(before[name], after[name]) == is_frozen
    assert not torch.equal(before["trunk.conv1.weight"], after["trunk.conv1.weight"])


def test_mistakes_are_said(pipeline: Path) -> None:
    start = pipeline / "para" / "model.ep0"
    with pytest.raises(InputError, match="--share and --confident"):
        adapt.run(pipeline, start, share=0)
    with pytest.raises(InputError, match="the others 2"):
        adapt.run(pipeline, start, images=1)
    with pytest.raises(InputError, match="--temperature above 0"):
        adapt.run(pipeline, start, temperature=0)
    layout.TEST_MATRIX.at(pipeline).unlink()
    with pytest.raises(InputError, match=r"test_image\.npy is missing"):
        adapt.run(pipeline, start)


def test_dropped_test_images_need_their_csv(pipeline: Path) -> None:
    start = pipeline / "para" / "model.ep0"
    layout.TEST_MATRIX.save(pipeline, np.array(layout.TEST_MATRIX.load(pipeline))[1:])
    with pytest.raises(InputError, match=r"test\.npy lists .* --tindex=tindexinfo\.kept\.csv"):
        adapt.run(pipeline, start, share=0.5, **SMALL)  # type: ignore[arg-type]
    kept = layout.TEST_INDEX.load(pipeline)[1:]
    kept = kept.assign(Index=range(len(kept)))
    layout.TEST_INDEX.save(pipeline, kept, "tindexinfo.kept.csv")
    adapt.run(pipeline, start, share=0.5, tindex="tindexinfo.kept.csv", **SMALL)  # type: ignore[arg-type]
    held_out = layout.TEST_HELD_OUT.load(pipeline)
    classes = kept.set_index("Index")["Class"]
    assert held_out[:, 1].tolist() == classes[held_out[:, 0]].tolist()
    assert len(held_out) == len(kept) - round(len(kept) / 2)


def test_the_commands_of_an_adapted_model_are_those_that_were_run(pipeline: Path) -> None:
    start = pipeline / "para" / "first"
    start.write_bytes((pipeline / "para" / "model.ep0").read_bytes())
    adapted = adapt.run(pipeline, start, pipeline / "para" / "adapted", share=0.5, **SMALL)  # type: ignore[arg-type]
    build_image_db.run(pipeline, adapted, "test_image.npy", "tdatabase.npy", batch_size=7)
    train, adapt_line, encode = commands.model_commands(pipeline, ["tdatabase.npy"])
    assert train.startswith("python train.py --dpath=... ")
    assert f"--save_path={start} --output={adapted} --share=0.5" in adapt_line
    assert "start" not in adapt_line.replace(str(start), "")
    assert "--batch_size=7" in encode
    start.write_bytes(b"another")
    assert commands.model_commands(pipeline, ["tdatabase.npy"]) == [adapt_line, encode]


def test_an_evaluation_says_whether_it_is_transductive(pipeline: Path) -> None:
    start = pipeline / "para" / "model.ep0"
    files = {"to_test": None, "test_matrix": None, "database": None}

    def is_transductive(**options: object) -> bool:
        mips.run(pipeline, k=3, **files | options)  # type: ignore[arg-type]
        return layout.METRICS.load(pipeline)["transductive"]

    assert not is_transductive()
    transform.run(pipeline)
    moved = {"database": "database_t.npy", "test_matrix": "tdatabase_t.npy"}
    assert not is_transductive(**moved)
    assert is_transductive(database="database_t.npy", is_valid=True)  # fitted on the queries too
    transform.run(pipeline, center="per_domain")
    assert is_transductive(**moved)
    transform.run(pipeline, *moved.values(), "database_2.npy", "tdatabase_2.npy")
    assert is_transductive(database="database_2.npy", test_matrix="tdatabase_2.npy")
    build_image_db.run(pipeline, start, "test_image.npy", "t.npy", adapt_bn=True)
    assert is_transductive(test_matrix="t.npy")
    adapted = adapt.run(pipeline, start, share=0.5, **SMALL)  # type: ignore[arg-type]
    for source, output in (("imageset.npy", "a.npy"), ("test_image.npy", "b.npy")):
        build_image_db.run(pipeline, adapted, source, output)
    assert is_transductive(database="a.npy", test_matrix="b.npy")
    named = {"database": "a.npy", "test_matrix": "b.npy", "to_test": "test_held_out.npy"}
    assert not is_transductive(**named)
    adapt.run(pipeline, start, adapted.with_name("other"), share=0.3, **SMALL)  # type: ignore[arg-type]
    assert is_transductive(**named)  # the list is of another adaptation's
    adapt.run(pipeline, adapted, adapted.with_name("twice"), share=0.3, **SMALL)  # type: ignore[arg-type]
    assert checkpoint.load(adapted.with_name("twice"))["held_out_sha256"] is None
