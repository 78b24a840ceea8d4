"""Losses, recipes, optimizers, batches and what is logged of them."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import train
from retrieval import batches, monitor, objectives, optimization, recipes
from retrieval.formats import InputError
from retrieval.model import EmbeddingModel, ModelConfig
from retrieval.prefetch import Returning
from retrieval.training_data import TrainingData
from retrieval.training_options import HELP, Loss, Recipe

CLASS_LOSSES = [loss for loss in get_args(Loss) if loss != "tuple"]


def drawn_data(n_class: int = 6, per_class: int = 5) -> TrainingData:
    """Return data without images: every class has one validation query."""
    labels = np.repeat(np.arange(n_class) * 10, per_class)
    rows = np.arange(len(labels))
    is_query = rows % per_class == 0
    pairs = [(a, b) for a in rows for b in rows if a < b and labels[a] == labels[b]]
    known = [pair for pair in pairs if not is_query[list(pair)].any()]
    rng = np.random.default_rng(0)
    negatives = [rng.choice(rows[~is_query & (labels != labels[a])], 4) for a, _ in known]
    tuples = np.column_stack([np.array(known), np.array(negatives)])
    queries = np.column_stack([rows[is_query], labels[is_query]])
    valid = np.column_stack([rows[is_query], rows[is_query] + 1, np.ones(n_class, int)])
    gallery = rows[~is_query]
    empty = np.empty(0, np.int64)
    images = np.zeros((len(labels), 3, 1, 1), np.uint8)
    both = (tuples, tuples[:, [1, 0, 2, 3, 4, 5]])
    return TrainingData(images, both, valid, queries, labels, gallery, gallery, empty)


def gap(features: torch.Tensor, labels: torch.Tensor) -> float:
    """Return by how much images of one class are more similar than others, on average."""
    positive, negative = monitor.mean_similarities(features, labels).tolist()
    return positive - negative


@pytest.mark.parametrize("loss", ["tuple", *CLASS_LOSSES])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_each_loss_falls_and_separates_the_classes(loss: str) -> None:
    torch.manual_seed(0)
    labels = torch.arange(4).repeat_interleave(4)
    points = F.normalize(torch.randn(4, 8), dim=1)[labels] + 0.8 * torch.randn(16, 8)
    tuples = torch.tensor([[i, (i // 4) * 4 + (i + 1) % 4, (i + 4) % 16] for i in range(16)])
    recipe = Recipe("test", loss=loss)  # type: ignore[arg-type]
    objective = objectives.make(recipe, dim=8, n_class=4)
    features = points.clone().requires_grad_()
    optimizer = torch.optim.Adam([features, *objective.parameters()], 0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        value = objective(features, labels, tuples)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.9 * losses[0]
    before = gap(points, labels)
    after = gap(features, labels)
    assert after > before + 0.2


def test_cross_entropy_with_a_neck_before_the_classifier_by_hand() -> None:
    torch.manual_seed(1)
    features, labels = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    objective = objectives.CrossEntropy(3, 2, smoothing=0.2, neck="before").train()
    centered = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
    logs = torch.log_softmax(centered @ objective.classifier.weight.T, dim=1)
    target = torch.nn.functional.one_hot(labels, 2) * 0.8 + 0.1
    expected = -(target * logs).sum(1).mean()
    torch.testing.assert_close(objective(features, labels, None), expected)


def test_the_tuple_loss_needs_tuples() -> None:
    with pytest.raises(ValueError, match="needs batches of tuples"):
        objectives.make(Recipe("test"), 4, 2)(torch.randn(2, 4), torch.tensor([0, 1]), None)


def test_every_recipe_resolves_and_every_option_has_a_flag_and_overrides() -> None:
    parser = train.make_parser()
    flags = {action.dest: action for action in parser._actions}
    assert set(HELP) <= set(flags)
    assert set(HELP) == set(Recipe("").options())
    for name, recipe in recipes.RECIPES.items():
        assert recipes.resolve(name, {}) == recipe
        assert recipe.source
        assert recipes.resolve(name, {"lr": 0.5, "clip": 0.0}) == replace(recipe, lr=0.5, clip=0.0)
    given = vars(parser.parse_args(["--dpath=x", "--save_path=y", "--recipe=ce", "--lr=0.2"]))
    assert recipes.resolve(given["recipe"], given) == replace(recipes.RECIPES["ce"], lr=0.2)


def test_another_loss_does_not_inherit_scale_and_margin() -> None:
    found = recipes.resolve("vit", {"loss": "cosface"})
    assert (found.logit_scale, found.margin) == (None, None)
    found = recipes.resolve("vit", {"loss": "cosface", "margin": 0.3})
    assert (found.logit_scale, found.margin) == (None, 0.3)
    assert recipes.resolve("vit", {"loss": "arcface"}) == recipes.RECIPES["vit"]


def test_a_continued_run_keeps_its_options() -> None:
    before = recipes.resolve("ce", {"lr": 0.2}).options()
    assert recipes.resolve(None, {}, before).options() == before
    assert recipes.resolve(None, {"epoch": 7}, before).options() == before | {"epoch": 7}
    assert recipes.resolve("ce", {}, before) == recipes.RECIPES["ce"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "no"}, "--loss must be one of tuple, ce"),
        ({"neck": "before"}, "needs --loss=ce"),
        ({"logit_scale": 0.0, "loss": "norm_softmax"}, "--logit_scale must be above 0"),
        ({"warmup": 1.0}, "--warmup must be at least 0 and below 1"),
        ({"sampler": "pk", "images_per_class": 65}, "at most --batch_size"),
        ({"loss": "ce", "neck": "after", "batch_size": 1}, "needs a --batch_size above 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipes.resolve("original", options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"negatives": "batch", "temperature": 0.2, "loss": "ce"}, "--negatives, --temperature"),
        ({"sampler": "pk", "images_per_class": 2}, "--sampler, --images_per_class"),
        ({"label_smoothing": 0.2, "momentum": 0.9}, "--label_smoothing, --momentum"),
        ({"lr_shrink": 0.5, "schedule": "cosine"}, "--lr_shrink"),
        ({"images_per_class": 2, "loss": "ms"}, "--images_per_class"),
        ({"lr_shrink": 0.5, "temperature": 0.2, "negatives": "batch"}, ""),
        ({"loss": "ce+triplet", "margin": 0.2, "label_smoothing": 0.2, "sampler": "pk"}, ""),
    ],
)
def test_options_without_effect_are_named_once(
    options: dict[str, object], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipes.resolve("original", options)
    found = [record.message.split(":")[0] for record in caplog.records]
    assert found == ([named] if named else [])


def test_learning_rates_over_time() -> None:
    cosine = Recipe("", schedule="cosine", warmup=0.2, epoch=10)
    found = [optimization.lr_factor(cosine, done) for done in (0, 1, 2, 6, 10)]
    assert found == pytest.approx([0.1, 0.55, 1, 0.5, 0])
    steps = Recipe("", lr_shrink=0.5, shrink_every=2, epoch=6)
    assert [optimization.lr_factor(steps, d) for d in (0, 1.9, 2, 4)] == [1, 1, 0.5, 0.25]


def test_groups_of_the_optimizer() -> None:
    recipe = Recipe(
        "", optimizer="sgd", lr=0.1, head_lr=2, proxy_lr=3, weight_decay=0.01, frozen_epochs=1
    )
    model = EmbeddingModel(ModelConfig("resnet18", 8, 32))
    model.freeze_norms()
    objective = objectives.CrossEntropy(8, 3, 0.0, "none")
    optimizer = optimization.make_optimizer(recipe, model, objective)
    found = [(g["base_lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups]
    # 20 convolutions; the projection; the bias of the projection and the p of GeM; a classifier.
    assert found == [
        (0.1, 0.01, 20),
        (0.2, 0.01, 1),
        (0.2, 0.0, 2),
        (pytest.approx(0.3), 0.01, 1),
    ]
    optimization.set_rates(optimizer, recipe, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0, 0.2, 0.2, 0.3])
    optimization.set_rates(optimizer, recipe, 1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.09)


def test_the_moving_average_by_hand() -> None:
    model = EmbeddingModel(ModelConfig("resnet18", 4, 32))
    average = optimization.MovingAverage(model, 0.15)
    start = model.projection.bias.detach().clone()
    with torch.no_grad():
        model.projection.bias += 1
    average.follow(model)  # 1/10 of the old weights is kept at first
    torch.testing.assert_close(average.model.projection.bias, start + 0.9)
    average.follow(model)  # then 0.15 of them: less than 2/11
    torch.testing.assert_close(average.model.projection.bias, start + 1 - 0.1 * 0.15)


@pytest.mark.parametrize("sampler", ["random", "pk"])
def test_an_epoch_of_classes_has_each_image_once(sampler: str) -> None:
    data = drawn_data(7, 6)
    source = batches.ClassBatches(data, 8, 0, 3, sampler, 4)  # type: ignore[arg-type]
    epoch = source.epoch(2)
    rows = np.concatenate([batch.rows for batch in epoch])
    np.testing.assert_array_equal(np.sort(rows), data.rows)
    for step, batch in enumerate(epoch):
        np.testing.assert_array_equal(batch.labels * 10, data.labels[batch.rows])
        np.testing.assert_array_equal(source.epoch(2)[step].rows, batch.rows)
        assert batch.n_filled == len(batch.rows) == 7  # 35 images, in steps of at most 8
    others = np.concatenate([batch.rows for batch in source.epoch(3)])
    assert not np.array_equal(rows, others)
    assert sum(len(b.rows) for b in batches.ClassBatches(data, 8, 10, 3).epoch(0)) == 10


@pytest.mark.parametrize(("group", "batch_size"), [(3, 8), (4, 4), (5, 6), (2, 64)])
def test_steps_of_groups_keep_to_the_size_and_hold_pairs(group: int, batch_size: int) -> None:
    data = drawn_data(9, 8)
    for number in range(4):
        epoch = list(batches.ClassBatches(data, batch_size, 0, 3, "pk", group).epoch(number))
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
    for batch in batches.TupleBatches(drawn_data(), 3, 0, 3).epoch(0):
        assert 0 <= batch.n_filled - len(batch.rows) < 16
        assert batch.n_filled % 16 == 0


def test_an_epoch_of_tuples_has_each_once_and_alternates() -> None:
    data = drawn_data()
    source = batches.TupleBatches(data, 4, 0, 3)
    for number in (0, 1):
        found = [tuple(batch.rows[t]) for batch in source.epoch(number) for t in batch.tuples]  # type: ignore[union-attr]
        assert sorted(found) == sorted(map(tuple, data.tuples[number]))
    fewer = batches.TupleBatches(data, 4, 6, 3).epoch(0)
    assert [batch.count for batch in fewer] == [4, 2]
    with pytest.raises(IndexError):
        fewer[2]


@pytest.mark.parametrize("amount", [0.34, 2])
def test_held_out_classes_are_never_seen(amount: float) -> None:
    data = drawn_data()
    known = data.hold_out(amount, seed=5)
    out = np.unique(data.labels[known.holdout])
    assert len(out) == 2
    np.testing.assert_array_equal(known.holdout, np.flatnonzero(np.isin(data.labels, out)))
    sources = (batches.TupleBatches(known, 4, 0, 1), batches.ClassBatches(known, 4, 0, 1))
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


def test_means_are_logged_where_no_terminal_shows_a_bar(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with monitor.Progress(monitor.Monitor(1), 4, show_batch=2) as shown:
        shown.bar.disable = True
        for loss in (1.0, 2.0, 3.0, 5.0):
            shown.take(Returning(torch.tensor([loss, 0.5, 0.25, 1.0])))
    assert [record.message for record in caplog.records] == [
        "epoch 1, step 2 of 4: loss 1.5000, positive 0.5000, negative 0.2500",
        "epoch 1, step 4 of 4: loss 4.0000, positive 0.5000, negative 0.2500",
    ]


def test_similarities_and_guards(caplog: pytest.LogCaptureFixture) -> None:
    labels = torch.tensor([0, 0, 1])
    features = torch.tensor([[3.0, 0.0], [0.6, 0.8], [0.0, 2.0]])
    assert monitor.mean_similarities(features, labels).tolist() == pytest.approx([0.6, 0.4])
    good = monitor.Monitor(0)
    for _ in range(monitor.WINDOW):
        good.note(1.0, 0.6, 0.4)
    assert not caplog.records
    assert good.means() == pytest.approx({"loss": 1, "positive": 0.6, "negative": 0.4})
    for similarities in ((0.99, 0.985), (0.5, 0.499)):
        collapsed = monitor.Monitor(0)
        for _ in range(monitor.WINDOW + 5):
            collapsed.note(1.0, *similarities)
        assert [record.message[:29] for record in caplog.records] == [
            "The embeddings have collapsed"
        ]
        caplog.clear()
    before: list[monitor.Row] = []
    for epoch in range(3):  # epochs too short for the window
        short = monitor.Monitor(epoch, before=before)
        for _ in range(monitor.WINDOW // 2 - 10):
            short.note(1.0, 0.99, 0.985)
        before = short.window
    assert [record.message[:29] for record in caplog.records] == ["The embeddings have collapsed"]
    assert short.means()["positive"] == pytest.approx(0.99)
    positive, _ = monitor.mean_similarities(features[1:], labels[1:]).tolist()
    alone = monitor.Monitor(0)
    alone.note(1.0, positive, 0.4)
    assert np.isnan(alone.means()["positive"])
    alone.note(1.0, 0.2, 0.4)
    assert alone.means()["positive"] == pytest.approx(0.2)
    with pytest.raises(InputError, match="the loss is inf at step 3 of epoch 0"):
        alone.note(float("inf"), 0.5, 0.4)
