"""Measurements on real servers; every figure is a ratio of medians from one interleaved run."""
