"""LOPQ compared with faiss: recall, speed and size of codes."""
