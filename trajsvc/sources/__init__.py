"""Finds and reads checkpoints: what a string names, which tensors lie where, and their bytes."""
