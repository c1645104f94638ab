"""The room of the HTTP service and its page."""
