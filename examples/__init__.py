"""Programs: one for each task, run from the command line."""

from .common.launch import expect_interruption

expect_interruption()
