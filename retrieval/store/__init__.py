"""The image database that grows: rows come and go while it is searched."""
