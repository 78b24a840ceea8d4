"""The routes of the page and of the HTTP API."""
