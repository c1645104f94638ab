"""trajsvc: what checkpoints say about how a network learned."""
