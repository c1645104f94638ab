"""Find and read checkpoints: what a string names, which tensors lie where, and their bytes."""
