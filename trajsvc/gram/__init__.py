"""Plans, multiplies and sums: all inner products of a run's checkpoints in one pass over their bytes."""
