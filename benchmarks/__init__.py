"""Measurements of speed and memory. The contract they keep is in `README.md`. Not part of the wheel."""
