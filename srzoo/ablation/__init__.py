"""Ablations: entries that differ by one line each, trained, benchmarked, and set side by side in one table."""
