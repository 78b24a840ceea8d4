"""Exact search, the image store, and what ranking options gain."""
