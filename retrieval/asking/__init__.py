"""Asking the image database with a photo: preparation, search, filters, explanation."""
