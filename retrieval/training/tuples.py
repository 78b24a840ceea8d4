"""The losses over training tuples: anchor, positive, negatives."""

import torch
from torch.nn import functional as F


def tuple_loss(embeddings: torch.Tensor, tuples: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return how badly each anchor tells its positive from its negatives, on average.

    The cross entropy of ``softmax(similarities / temperature)`` with the positive as the target
    (the N-pair loss of Sohn, NIPS 2016, on unit vectors and with a temperature). Without a
    temperature, similarities in [-1, 1] never let the loss fall below
    ``log(1 + neg_count * exp(-2))``, and all gradients stay small.

    Args:
        embeddings: (n, dim), rows of unit L2 norm.
        tuples: (n_tuple, 2 + neg_count) int64 rows of ``embeddings``: anchor, positive, negatives.
        temperature: Positive; smaller looks more at the hardest negatives.
    """
    anchors = embeddings[tuples[:, 0]]  # (n_tuple, dim)
    others = embeddings[tuples[:, 1:]]  # (n_tuple, 1 + neg_count, dim)
    similarities = torch.einsum("td,tcd->tc", anchors, others)
    target = torch.zeros(len(tuples), dtype=torch.int64, device=embeddings.device)
    return F.cross_entropy(similarities / temperature, target)


def batch_loss(
    embeddings: torch.Tensor, tuples: torch.Tensor, labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the same, with every image of another class in the step as a negative.

    The images are embedded anyway, so the harder task costs next to nothing.

    Args:
        embeddings: (n, dim), rows of unit L2 norm.
        tuples: (n_tuple, 2 + neg_count) int64 rows of ``embeddings``: anchor, positive, negatives.
        labels: (n,) int64, the class of each row of ``embeddings``.
        temperature: Positive.
    """
    anchors, positives = tuples[:, 0], tuples[:, 1]
    logits = embeddings[anchors] @ embeddings.T / temperature  # (n_tuple, n)
    is_other = labels[anchors][:, None] != labels
    is_other[torch.arange(len(tuples), device=tuples.device), positives] = True
    return F.cross_entropy(logits.masked_fill(~is_other, -torch.inf), positives)
