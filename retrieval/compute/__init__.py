"""Devices, precision and processes."""
