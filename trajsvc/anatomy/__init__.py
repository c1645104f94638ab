"""The anatomy of networks: the layer, component and Q/K/V parts of every tensor, and which tensors are buffers."""
