"""Exact search over embeddings, query expansion, re-ranking and whitening."""
