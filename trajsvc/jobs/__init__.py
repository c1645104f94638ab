"""Jobs and their queue. The database row is the state of a job, whatever computes it."""
