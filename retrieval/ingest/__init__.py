"""Ingest: add photos to a store, and publish databases."""
