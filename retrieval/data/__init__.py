"""Files on disk: the data directory, its formats, records of provenance, images."""
