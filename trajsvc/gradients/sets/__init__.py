"""Sets of vectors at a checkpoint, one module for each family of them."""
