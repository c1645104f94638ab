"""Gradients at checkpoints: a set of gradient vectors is known by its Gram, and every measure is a function of that.

``examples.example_grams(module, loss, examples)`` makes them for every parameter tensor of a torch module. Vectors of your own
(gradients of batches, or of the steps of a training) do as well:

>>> import numpy as np
>>> from trajsvc.measures.gradients.clustering import cluster
>>> from trajsvc.measures.gradients.estimators import average_variance, noise_to_signal
>>> from trajsvc.measures.gradients.conditioning import coherence, confusion, diversity
>>> from trajsvc.measures.gradients.vector_gram import VectorGram
>>> gradients = np.array([[3.0, 1.0], [3.0, -1.0], [1.0, 3.0], [1.0, -3.0]])  # four examples, two parameters
>>> gram = VectorGram.of_vectors(gradients)
>>> coherence(gram), diversity(gram), round(confusion(gram), 12)
(0.4, 0.625, 0.8)
>>> average_variance(gram, batch=2), noise_to_signal(gram)
(1.5, 1.5)
>>> cluster(gram, 3).sizes.tolist()
[1, 1, 2]

Grams of disjoint parameters add: keep one for every tensor, and the measures of a layer or of the network are those of the sum.
"""
