"""The command line. Only this package combines all other parts of the service."""
