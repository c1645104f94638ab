"""Ranged reads over HTTP: connections, rate limits, retries, redirects to signed URLs, cancellation. It knows no particular service."""
