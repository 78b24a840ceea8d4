"""Rows on a Milvus server, or in a file of Milvus Lite."""
