"""Queries and gallery in, metrics with intervals out."""
