"""Exact search over embeddings, and what improves a ranking."""
