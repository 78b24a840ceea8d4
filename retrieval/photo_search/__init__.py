"""Search of the image database with a photo: preprocessing, search, filters, explanation."""
