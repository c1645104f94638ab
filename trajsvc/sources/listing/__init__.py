"""Finding a run's checkpoints in folders, wherever these lie: which are of the run, which model of each, in what order."""
