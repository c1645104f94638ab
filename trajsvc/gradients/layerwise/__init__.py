"""Grams of the gradients of single examples, from the inputs and output gradients of layers.

>>> import torch
>>> from trajsvc.gradients.layerwise import layerwise_grams, whole_tensors
>>> net = torch.nn.Linear(3, 1, bias=False)
>>> points = list(torch.eye(3, dtype=torch.float64))
>>> loss = lambda module, examples: module(torch.stack(examples)).sum(dim=1)  # its gradient is the example itself
>>> layerwise_grams(net, loss, points, whole_tensors(net)).gram[0]
array([[1., 0., 0.],
       [0., 1., 0.],
       [0., 0., 1.]])
"""

from trajsvc.gradients.layerwise.grams import LayerwiseGrams, layerwise_grams, plan, whole_tensors
from trajsvc.gradients.layerwise.plan import LayerwisePlan

__all__ = ["LayerwiseGrams", "LayerwisePlan", "layerwise_grams", "plan", "whole_tensors"]
