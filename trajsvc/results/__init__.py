"""A stored run, opened: labelled measures, tables, the same from a server."""
