"""The registry: names, shapes and units as documented; what a trajectory too short or at rest answers; unknown names."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from made_trajectories import CASES, Trajectory

from trajsvc.errors import NotFound
from trajsvc.measures.registry import MEASURES, compute

SHAPES = {
    "trajectory_map": (0, 0),
    "mds": (),
    "relative_mds": (),
    "mds_by_length": (),
    "relative_mds_by_length": (),
    "update_location_angle": (-1,),
    "update_ratio": (-1,),
    "update_rms": (-1,),
    "update_angle": (-2,),
    "apex_angle_init": (-1,),
    "sweep_angle_init": (-2,),
    "apex_angle_origin": (-1,),
    "sweep_angle_origin": (-1,),
    "norm": (0,),
    "distance_from_init": (0,),
    "update_norm": (-1,),
    "cosine_to_final": (0,),
    "settling_step": (),
    "path_length": (),
    "tortuosity": (),
    "update_map": (-1, -1),
    "mu": (),
    "alpha": (),
    "inv_sqrt_parameters": (),
    "mu_lag": (-1,),
    "alpha_lag": (-1,),
    "update_cosine": (-2,),
    "random_bound": (),
    "nonrandom_fraction": (),
    "nonrandom_fraction_absolute": (),
    "explained_variance": (-1,),
    "explained_variance_updates": (-2,),
    "participation_ratio": (),
    "participation_ratio_updates": (),
    "spectral_edge": (-1,),
    "spectral_edge_rank": (-1,),
    "leading_share": (-1,),
    "leading_residual": (-1,),
    "subspace_angle": (-1,),
    "forgetting_time": (0,),
    "ornstein_uhlenbeck": (0, 0),
    "ornstein_uhlenbeck_mds": (),
    "average_distance": (0,),
    "average_variance_removed": (0,),
    "average_norm": (0,),
    "update_sparsity": (-1,),
    "update_overlap": (-2,),
    "update_overlap_chance": (-2,),
    "row_top_share": (-1,),
    "row_participation": (-1,),
    "row_still": (-1,),
    "row_never_moved": (-1,),
    "row_angle": (-1,),
    "row_angle_spread": (-1,),
    "row_overlap": (-2,),
    "row_overlap_chance": (-2,),
    "random_walk": (-1, -1),
    "random_walk_mds": (),
    "noise_floor": (-1,),
}
"""what each axis has beyond T"""


def test_the_table_is_complete() -> None:
    assert set(MEASURES) == set(SHAPES)
    for name, measure in MEASURES.items():
        assert measure.name == name
        assert len(measure.dims) == len(SHAPES[name])
        assert measure.definition
        assert measure.source


def test_every_measure_has_its_shape_for_every_case(case: Trajectory) -> None:
    count = len(case.steps)
    for name, value in compute(MEASURES, case.gram).items():
        expected = tuple(max(count + extra, 0) for extra in SHAPES[name])
        assert np.shape(value) == expected, name
        if expected == ():
            assert type(value) is float, name
        else:
            assert isinstance(value, np.ndarray)
            assert value.dtype == np.float64, name


def test_one_checkpoint_says_nothing_of_movement() -> None:
    found = compute(MEASURES, CASES["one checkpoint"].gram)
    known = {"mds", "settling_step", "path_length", "inv_sqrt_parameters", "random_bound"}
    scalars = {name: value for name, value in found.items() if isinstance(value, float)}
    assert {name for name, value in scalars.items() if not np.isnan(value)} == known
    assert (found["mds"], found["path_length"], found["settling_step"]) == (1.0, 0.0, 0.0)


def test_a_group_of_zeros_is_undefined_but_for_its_lengths() -> None:
    found = compute(MEASURES, CASES["all zero"].gram)
    defined = {name for name, value in found.items() if not np.isnan(value).all()}
    assert defined == {
        "average_distance",
        "average_norm",
        "norm",
        "distance_from_init",
        "update_norm",
        "update_rms",
        "path_length",
        "inv_sqrt_parameters",
        "random_bound",
    }
    for name in ("norm", "distance_from_init", "update_norm", "update_rms", "path_length"):
        assert not np.any(found[name])


def test_an_empty_group() -> None:
    empty = CASES["walk"].gram
    empty = type(empty)("empty", empty.steps, np.zeros_like(empty.gram), 0, empty.rounding)
    found = compute(["random_bound", "inv_sqrt_parameters", "nonrandom_fraction", "mds"], empty)
    assert all(np.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("update_angel", "update_angle"),
        ("phases", "phases()"),
        ("qkv_heterogeneity", "three groups"),
        ("zzz", "alpha, alpha_lag"),
    ],
)
def test_unknown_names_are_told_the_close_ones(name: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        compute(["mds", name], CASES["walk"].gram)
    assert caught.value.kind == "measure-not-found"
    assert hint in caught.value.hint


def test_measures_load_nothing_heavy() -> None:
    code = "import sys, trajsvc.measures.registry, trajsvc.measures.phases, trajsvc.measures.heterogeneity; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "scipy", "ruptures", "pandas", "matplotlib", "xarray"} & set(loaded)
