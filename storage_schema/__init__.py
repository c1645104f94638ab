"""What is stored, and its models: array names, answers, the run store. Imports neither torch nor dask."""
