"""The shapes of machine output about families of runs (pydantic models), beside those of ``wire``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from storage_schema.models.results import Answer, Finding, Scalar


class FamilyDepthRow(Answer):
    """Q, K and V of one layer of a member, placed by its relative depth."""

    depth: float
    """0 for a network's first layer, 1 for its last"""
    layer: str
    distance_qk: float | None
    distance_qv: float | None
    distance_kv: float | None
    heterogeneity: float | None
    """mean of the three distances, which compare the shape of the maps"""
    rms_qk: float | None = None
    rms_qv: float | None = None
    rms_kv: float | None = None
    rms: float | None = None
    """mean of the three root mean square differences of the maps, in units of cosine"""


class FamilySettlingRow(Answer):
    """Where one layer of a member comes to rest."""

    depth: float
    layer: str
    settling_step: float | None
    """as a fraction of the run's last step"""


class FamilyRow(Answer):
    """One member of a family. Where its run is not in the store, ``state`` is ``missing`` and what is measured is null."""

    member: str
    run: str | None
    state: Literal["present", "missing"]
    removed: str | None = None
    """of a missing one that was removed, its id in the store's trash"""
    size: int | float | None
    """as the family's file says; else the run's number of parameters"""
    seed: int | None
    hyperparameters: dict[str, Scalar]
    parameters: int | None
    checkpoints: int | None
    estimate: bool | None
    """whether the run holds only an estimate from a part of its bytes"""
    fraction: float | None = None
    """share of the parameters that an estimate has seen"""
    mds: float | None
    mds_by_length: float | None = None
    relative_mds: float | None
    random_walk_mds: float | None = None
    """what ``relative_mds`` is of a random walk with the same update norms"""
    heterogeneity: float | None
    """mean over the layers with attention"""
    rms: float | None = None
    """the same of the root mean square differences of the maps of Q, K and V"""
    settling_depth_slope: float | None
    """least-squares slope of the layers' settling (fraction of the last step) against relative depth"""
    heterogeneity_by_depth: list[FamilyDepthRow]
    settling_depth: list[FamilySettlingRow]


class FamilyLine(Answer):
    """Members that a line of a picture joins: equal in all but the value on the axis and their seed."""

    line: str
    """what its members share and others do not, such as ``momentum=0.9``; ``all`` where nothing parts the members"""
    members: list[str]


class FamilyAnswer(Answer):
    """The members of a family side by side, in order of size, seed and name."""

    family: str
    title: str
    axis: str = "step"
    """what the members' checkpoints are numbered by; ``checkpoint`` where they differ in it"""
    origin: int | None = None
    """of Q, K and V compared by relative maps, the step that they are relative to"""
    findings: list[Finding] = Field(default_factory=list)
    """why the members are not alike in what they were measured at"""
    rows: list[FamilyRow]
    lines: dict[str, list[FamilyLine]]
    """for ``size``, ``seed`` and each hyperparameter as the axis: which of the members present a line joins; none against the seed"""


class StoredFamilyRow(Answer):
    """One line of the list of a store's families."""

    family: str
    title: str
    members: int
    present: int
    """members whose run is in the store"""
    missing: list[str]
    removed: dict[str, str] = Field(default_factory=dict)
    """of the missing ones, those that were removed, each with its id in the store's trash"""
    tags: list[str] = Field(default_factory=list)
    """of the family, such as ``experiment:h1``"""
