"""The command line. It alone puts the parts of the service together."""
