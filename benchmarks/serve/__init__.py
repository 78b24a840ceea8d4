"""The search page under load."""
