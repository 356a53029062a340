"""Measurements of speed and memory. Their contract is in `docs/benchmarks.md`. Not part of the wheel."""
