"""The embedding model: backbone, pooling, weights, checkpoints, encoding."""
