"""The shapes of machine output about gradients, the same from the command line and over HTTP (pydantic models)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from storage_schema.models.results import Answer

AtStep = float | None | list[float | None]
"""a measure at one checkpoint: a number, or a list of one a vector, lag or component; null where it is undefined"""


class GradientSetRow(Answer):
    """One line of the list of a run's sets of gradients."""

    run: str
    set: str
    kind: str
    n: int
    """vectors"""
    blocks: int
    parameters: int
    steps: list[int]
    stale: list[int]
    """steps whose record is of other parameters than the run has now: computed before, not answered with"""
    options: dict[str, Any]
    """what the set depends on: probe, digest of the data, examples, …"""


class GradientBlockRow(Answer):
    """A block of the network that the probe built."""

    name: str
    tensor: str
    part: str
    layer: str
    component: str
    size: int


class GradientSetAnswer(GradientSetRow):
    """One set of gradients, and what it is made of."""

    labels: list[str]
    """names of the vectors; empty where they are only numbered"""
    scalars: list[str]
    """sums that are kept beside the Gram"""
    measures: list[str]
    """what it can answer, with the sets that the run has"""
    digest: str
    """changes whenever anything of the set does"""
    block_table: list[GradientBlockRow]


class GradientMeasuresAnswer(Answer):
    """Measures of one group of a set over training; undefined values are null."""

    run: str
    set: str
    group: str
    parameters: int
    n: int
    steps: list[int]
    measures: dict[str, list[AtStep]]
    """one value a step"""
    undefined: dict[str, list[int]]
    """``zero_vectors``: how many vectors are zero, one number a step; ``stale_steps``: computed of parameters that the run no longer
    has, and left out; under a measure's name the steps at which it is undefined, where there are any"""


class GradientMapAnswer(Answer):
    """Cosines between the vectors of a set at one checkpoint."""

    run: str
    set: str
    group: str
    step: int
    parameters: int
    n: int
    labels: list[str]
    """names of the vectors; empty where they are only numbered"""
    map: list[list[float | None]]
    norms: list[float | None]
    bounds: list[int] | None = Field(default=None, exclude_if=lambda v: v is None)
    """of a map that is ordered by clusters, where each but the first begins; absent otherwise"""


class GradientLayerRow(Answer):
    """One layer: each measure, one value a step."""

    layer: str
    group: str
    parameters: int
    measures: dict[str, list[float | None]]


class GradientLayersAnswer(Answer):
    """Measures of every layer over training."""

    run: str
    set: str
    n: int
    steps: list[int]
    layers: list[GradientLayerRow]


class ClusteredVariance(Answer):
    """Average variance of estimators of the gradient from as many examples as there are clusters, at one checkpoint."""

    step: int
    objective: float | None
    """J of the assignment"""
    sg_b: float | None
    """as many examples drawn from all"""
    sg_2b: float | None
    svrg: float | None
    """from the set ``anchored``, where the run has it at this step"""
    gc: float | None
    """one example drawn from each cluster"""


class GradientClustersAnswer(Answer):
    """Clusters of a set's vectors at one checkpoint, and what they are worth there and at later ones."""

    run: str
    set: str
    group: str
    step: int
    parameters: int
    n: int
    clusters: int
    assignment: list[int]
    """the cluster of every vector"""
    order: list[int]
    """the vectors cluster by cluster, the largest first"""
    sizes: list[int]
    traces: list[float | None]
    """trace of the covariance within each cluster"""
    duplicates: int
    """vectors that are equal to another one before them"""
    iteration_objective: float | None = Field(description="J of the paper's iteration from the same number of clusters")
    variance: list[ClusteredVariance]
    """at the step itself, then at the later ones with the assignment kept"""
