"""Compute all inner products of a run's checkpoints in one pass over their bytes: plan, engine, kernels, sums."""
