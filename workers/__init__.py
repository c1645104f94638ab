"""dask: clusters, tasks, the pool of slabs; and the job runner."""
