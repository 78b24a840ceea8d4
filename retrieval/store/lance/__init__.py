"""Rows in a folder, without a server: LanceDB."""
