"""Middleware: limits, headers, hosts and path prefixes."""
