"""Image stores: rows can be added and removed during searches."""
