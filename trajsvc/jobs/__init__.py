"""What a job is, and the queue that keeps it: a row of the database is a job's truth, whatever computes it."""
