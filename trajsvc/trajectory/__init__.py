"""The matrix Theta, one row a checkpoint, and what reads its columns."""
