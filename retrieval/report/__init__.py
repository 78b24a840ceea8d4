"""Pages that stand alone: one file, no network, with their pictures and plots inside."""
