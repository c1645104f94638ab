"""Find a run's checkpoints in folders of any source: which are of the run, which model of each, in what order."""
