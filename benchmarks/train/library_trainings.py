"""Trainings as the examples of other libraries and the authors of their losses write them.

The loop is theirs: Pillow images, torchvision's random crops and mirroring, one loss, one miner,
batches of 64. The backbone and its first weights, the images, the number of threads and the
processor time are those of every other training of `accuracy`; images are not enlarged, as
``--scale`` does.

| method | loss | rates |
|---|---|---|
| ProxyAnchor | Kim et al., CVPR 2020, their code for Cars196 | AdamW 1e-4, proxies 100 times that |
| MultiSimilarity | Wang et al., CVPR 2019, with its miner | AdamW 1e-4 |
| ArcFace | Deng et al., CVPR 2019 | AdamW 1e-4, classifier 100 times that |
| OML | open-metric-learning's triplets, its miner and 16 classes x 4 images | Adam 1e-4 |

The first three are pytorch-metric-learning's. OML is not a requirement: pip install
open-metric-learning.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_metric_learning import losses, miners
from torch import nn
from torchvision import transforms

from retrieval.data.images import Images
from retrieval.model.embedding import EmbeddingModel, put_on
from retrieval.training.config import TrainingConfig
from retrieval.training.dataset import TrainingData
from retrieval.training.recipes import resolve_config
from retrieval.training.untrained import build_first_model

BATCH, DIM, LR, PROXY_LR, CLIP = 64, 512, 1e-4, 100.0, 10.0


def train_with_library(
    name: str, given: TrainingConfig, data: TrainingData, minutes: float
) -> tuple[EmbeddingModel, int, int]:
    """Train for a time; return the model and the numbers of steps and images.

    Args:
        name: A method of the table above.
        given: ``arch``, ``weights`` and ``seed`` apply.
        data: The images and the split.
        minutes: Processor time.
    """
    torch.manual_seed(given.seed or 0)
    rng = np.random.default_rng(given.seed or 0)
    config = resolve_config(
        TrainingConfig(
            arch=given.arch,
            weights=given.weights,
            seed=given.seed,
            pool="avgmax",
            dim=DIM,
            neck="none",
        )
    )
    side = data.images.shape[-1]
    model, _ = build_first_model(config, side)
    model.freeze_norms()
    put_on(model, torch.device("cpu")).train()
    loss, miner = PEERS[name](len(data.classes))
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if list(loss.parameters()):
        groups.append({"params": list(loss.parameters()), "lr": LR * PROXY_LR})
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=1e-4)
    batches = _random_batches
    if name == "OML":
        optimizer, batches = torch.optim.Adam(groups, lr=LR), _balanced_batches
    augment = transforms.Compose(
        [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip()]
    )
    begin, steps = time.process_time(), 0
    for rows in batches(data, rng):
        if time.process_time() - begin >= 60 * minutes:
            break
        embeddings = model(_batch(data.images, rows, augment))
        labels = torch.from_numpy(data.numbers(rows))
        mined = () if miner is None else (miner(embeddings, labels),)
        optimizer.zero_grad()
        loss(embeddings, labels, *mined).backward()
        torch.nn.utils.clip_grad_value_(trained, CLIP)
        optimizer.step()
        steps += 1
    return model.eval(), steps, steps * BATCH


def _oml(n_class: int) -> tuple[nn.Module, None]:
    from oml.losses.triplet import TripletLossWithMiner
    from oml.miners.inbatch_all_tri import AllTripletsMiner

    return TripletLossWithMiner(0.1, AllTripletsMiner()), None


# Number of classes -> loss, and its miner
PEERS: dict[str, Callable[[int], tuple[nn.Module, nn.Module | None]]] = {
    "ProxyAnchor": lambda n_class: (losses.ProxyAnchorLoss(n_class, DIM), None),
    "MultiSimilarity": lambda n_class: (
        losses.MultiSimilarityLoss(),
        miners.MultiSimilarityMiner(),
    ),
    "ArcFace": lambda n_class: (losses.ArcFaceLoss(n_class, DIM), None),
    "OML": _oml,
}


def _random_batches(data: TrainingData, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the images of one step after another, (BATCH,) int64: epochs in random order."""
    while True:
        order = rng.permutation(data.rows)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield order[start : start + BATCH]


def _balanced_batches(data: TrainingData, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the images of one step after another, (BATCH,) int64: of 16 classes, 4 each."""
    from oml.samplers.balance import BalanceSampler

    np.random.seed(rng.integers(2**32))  # noqa: NPY002  # the sampler draws from the global one
    labels = data.labels[data.rows].tolist()
    while True:
        for positions in BalanceSampler(labels, n_labels=BATCH // 4, n_instances=4):
            yield data.rows[positions]


def _batch(images: Images, rows: np.ndarray, augment: transforms.Compose) -> torch.Tensor:
    """Return the augmented images, (n, 3, side, side) uint8."""
    pictures = (Image.fromarray(np.asarray(images[row]).transpose(1, 2, 0)) for row in rows)
    arrays = [np.asarray(augment(picture)).transpose(2, 0, 1) for picture in pictures]
    return torch.from_numpy(np.stack(arrays))
