"""What is stored and the words for it: array names, wire models, the run store. No torch, no dask."""
