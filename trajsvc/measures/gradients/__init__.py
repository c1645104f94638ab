"""Measures of sets of gradients: pure functions of the Gram of a set of vectors, and of few sums beside it."""
