"""Photos and databases on their way into a store."""
