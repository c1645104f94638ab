"""Singular values of a run's matrices at its checkpoints: of the weights, of their displacement, and of the updates.

::

    trajsvc spectra compute RUN
    trajsvc spectra measures RUN --tensor NAME --of updates
"""
