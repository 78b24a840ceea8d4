"""Time, memory and disk of the stages."""
