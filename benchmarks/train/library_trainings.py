"""Trainings as the examples of pytorch-metric-learning and the authors of its losses write them.

The loop is theirs: Pillow images, torchvision's random crops and mirroring, one loss, one miner,
batches in random order. The backbone and its first weights, the image size, the number of threads
and the processor time are those of every other training of `accuracy`.

| method | loss | rates |
|---|---|---|
| ProxyAnchor | Kim et al., CVPR 2020, their code for Cars196 | AdamW 1e-4, proxies 100 times that |
| MultiSimilarity | Wang et al., CVPR 2019, with its miner | AdamW 1e-4 |
| ArcFace | Deng et al., CVPR 2019 | AdamW 1e-4, classifier 100 times that |
"""

import time
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_metric_learning import losses, miners
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
    n_class = len(data.classes)
    loss, miner = {
        "ProxyAnchor": (losses.ProxyAnchorLoss(n_class, DIM), None),
        "MultiSimilarity": (losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner()),
        "ArcFace": (losses.ArcFaceLoss(n_class, DIM), None),
    }[name]
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if list(loss.parameters()):
        groups.append({"params": list(loss.parameters()), "lr": LR * PROXY_LR})
    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=1e-4)
    augment = transforms.Compose(
        [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip()]
    )
    begin, steps, order = time.process_time(), 0, np.empty(0, np.int64)
    while time.process_time() - begin < 60 * minutes:
        if len(order) < BATCH:
            order = rng.permutation(data.rows)
        rows, order = order[:BATCH], order[BATCH:]
        embeddings = model(_batch(data.images, rows, augment))
        labels = torch.from_numpy(data.numbers(rows))
        mined = None if miner is None else miner(embeddings, labels)
        optimizer.zero_grad()
        loss(embeddings, labels, mined).backward()
        torch.nn.utils.clip_grad_value_(trained, CLIP)
        optimizer.step()
        steps += 1
    return model.eval(), steps, steps * BATCH


def _batch(images: Images, rows: np.ndarray, augment: transforms.Compose) -> torch.Tensor:
    """Return the augmented images, (n, 3, side, side) uint8."""
    pictures = (Image.fromarray(np.asarray(images[row]).transpose(1, 2, 0)) for row in rows)
    arrays = [np.asarray(augment(picture)).transpose(2, 0, 1) for picture in pictures]
    return torch.from_numpy(np.stack(arrays))
