"""What a trainer logged beside its checkpoints: losses, gradient norms, scores, the learning rate."""
