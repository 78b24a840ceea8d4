"""Training: options, recipes, batches, losses, the trainer, checkpoints."""
