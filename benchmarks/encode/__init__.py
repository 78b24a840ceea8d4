"""From photos to squares to embeddings."""
