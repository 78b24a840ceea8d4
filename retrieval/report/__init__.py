"""Contact sheets and self-contained HTML pages."""
