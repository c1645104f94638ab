"""Families of runs: their file and their comparison."""
