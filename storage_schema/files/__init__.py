"""Files that survive a crash: durable writes, the resume journal, results of slabs."""
