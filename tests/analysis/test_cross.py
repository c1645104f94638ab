"""Two runs against each other: against loaded parameters in float64, at any origin, group and type; what is kept, and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_runs
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

import trajsvc
from storage_schema.models.cross import CrossFamilyAnswer
from storage_schema.runs.store import RunStore
from trajsvc.analysis.cross import CrossJob, compute_cross
from trajsvc.analysis.options import Options
from trajsvc.cli.main import make_app
from trajsvc.errors import Cancelled, NotFound, Refused
from trajsvc.families.file import load_family, save_family
from trajsvc.figures.cross import family_matrix_figure
from trajsvc.gram.thread_pool import ThreadPool

Array = NDArray[np.float64]
State = Mapping[str, torch.Tensor]


def walk(
    steps: int, seed: int, *, start: State | None = None, update: float = 1e-2, dtype: torch.dtype = torch.float32
) -> list[Any]:
    """Checkpoints of a walk from ``start``, which has the network's tensors."""
    states = small_runs.trajectory(steps, seed=seed, update=update, dtype=torch.float64, vocab=40)
    if start is not None:
        states = [{n: start[n].double() + (v - states[0][n]) for n, v in s.items()} for s in states]
    return [{n: (v + 0.0).to(dtype) for n, v in s.items()} for s in states]  # no -0.0, whose bits are not those of 0.0


def dense(states: list[State], names: list[str] | None = None) -> Array:
    return small_runs.flat(states, names or list(states[0]))


def expected(a: Array, b: Array, origin: str) -> tuple[Array, Array]:
    """Cosines and distances of displacements, each from a plain difference and one dot product."""
    one = a - {"first": a[0], "shared": a[0], "none": 0.0}[origin]
    two = b - {"first": b[0], "shared": a[0], "none": 0.0}[origin]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = one @ two.T / np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1))
    return cosines, np.array([[np.linalg.norm(x - y) for y in two] for x in one])


def write(folder: Path, states: list[Any]) -> str:
    return str(small_runs.write_run(folder, states))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], list[Any]]:
    """Runs of six and four checkpoints from one start, the second in torch files, stored by ``analyze``."""
    folder = tmp_path_factory.mktemp("pair")
    a = walk(6, 1)
    b = walk(4, 2, start=a[0])
    write(folder / "a", a)
    small_runs.write_run(folder / "b", b, kinds=("torch",))
    for name in ("a", "b"):
        trajsvc.analyze(folder / name, store=folder / "store")
    return folder, a, b


@pytest.mark.parametrize("origin", ["first", "shared", "none"])
def test_network_against_loaded_parameters(pair: tuple[Path, list[Any], list[Any]], origin: str) -> None:
    folder, a, b = pair
    found = trajsvc.cross("a", "b", store=folder / "store")
    cosines, distances = expected(dense(a), dense(b), origin)
    np.testing.assert_allclose(found.map(origin=origin), cosines, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.distances(origin=origin), distances, rtol=1e-9)
    swapped = trajsvc.cross("b", "a", store=folder / "store")
    np.testing.assert_allclose(swapped.map(origin=origin), expected(dense(b), dense(a), origin)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_parts_of_a_fused_tensor(pair: tuple[Path, list[Any], list[Any]], part: str) -> None:
    folder, a, b = pair
    found = trajsvc.cross("a", "b", store=folder / "store").map(f"layer/1/attention.{part}")
    one, two = (small_runs.attention_part(s, 1, part) for s in (a, b))
    np.testing.assert_allclose(found, expected(one, two, "first")[0], rtol=0, atol=1e-12)


def test_a_copy_is_compared_with_files(pair: tuple[Path, list[Any], list[Any]], tmp_path: Path) -> None:
    """A copy stores Q, K and V apart, and is read after the files are gone."""
    folder, a, b = pair
    write(tmp_path / "copied", b)
    trajsvc.analyze(tmp_path / "copied", store=tmp_path / "store", copy=True)
    for file in sorted((tmp_path / "copied").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    found = trajsvc.cross(str(folder / "a"), "copied", store=tmp_path / "store")
    np.testing.assert_allclose(found.map(), expected(dense(a), dense(b), "first")[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_updates_of_a_millionth_beside_large_norms(tmp_path: Path, dtype: torch.dtype) -> None:
    """Norms of a thousand, displacements of about a millionth of a value: what is left of the stored differences is exact."""
    start = {n: 1e3 * v for n, v in walk(1, 3, dtype=torch.float64)[0].items()}
    a = walk(4, 4, start=start, update=1e-4 if dtype == torch.float64 else 1.0, dtype=dtype)
    b = walk(3, 5, start=start, update=1e-4 if dtype == torch.float64 else 1.0, dtype=dtype)
    found = trajsvc.cross(write(tmp_path / "a", a), write(tmp_path / "b", b), store=tmp_path / "store")
    assert found.same_start
    for origin in ("first", "shared"):
        cosines, distances = expected(dense(a), dense(b), origin)
        np.testing.assert_allclose(found.map(origin=origin), cosines, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.distances(origin=origin), distances, rtol=1e-9)
    np.testing.assert_allclose(found.distances(origin="none"), expected(dense(a), dense(b), "none")[1], rtol=1e-9)


def test_a_fine_tune_that_stays_near_while_the_base_goes_far(tmp_path: Path) -> None:
    a = walk(5, 6, update=10.0, dtype=torch.float64)
    b = walk(4, 7, start=a[0], update=1e-7, dtype=torch.float64)
    found = trajsvc.cross(write(tmp_path / "a", a), write(tmp_path / "b", b), store=tmp_path / "store")
    for origin in ("first", "shared", "none"):
        cosines, distances = expected(dense(a), dense(b), origin)
        np.testing.assert_allclose(found.map(origin=origin), cosines, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.distances(origin=origin), distances, rtol=1e-9)


def test_twins_are_at_distance_zero(tmp_path: Path) -> None:
    a = walk(4, 8)
    found = trajsvc.cross(write(tmp_path / "a", a), write(tmp_path / "b", a[:3]), store=tmp_path / "store")
    assert found.start.digests[0] == found.start.digests[1]
    assert np.diagonal(found.distances(origin="none").values).tolist() == [0.0, 0.0, 0.0]
    assert np.diagonal(found.map().values)[1:].tolist() == [1.0, 1.0]


def test_a_branch_is_found_and_another_start_is_warned_of(tmp_path: Path) -> None:
    a = walk(5, 9)
    branch = walk(3, 10, start=a[2])
    other = walk(3, 11)
    store = tmp_path / "store"
    for name, states in (("a", a), ("branch", branch), ("other", other)):
        trajsvc.analyze(write(tmp_path / name, states), store=store)
    found = trajsvc.cross("a", "branch", store=store)
    assert (found.same_start, found.start.branch, found.warnings) == (False, 200, [])
    unaligned = trajsvc.cross("a", "other", store=store)
    assert not unaligned.same_start
    assert "not aligned" in unaligned.warnings[0]
    apart = np.linalg.norm(dense(other)[0] - dense(a)[0]) / np.linalg.norm(dense(a)[0])
    assert unaligned.start.difference == pytest.approx(apart, rel=1e-9)


def test_one_start_in_two_types(tmp_path: Path) -> None:
    a = walk(3, 12)
    b = walk(3, 13, start=a[0], dtype=torch.bfloat16)
    found = trajsvc.cross(write(tmp_path / "a", a), write(tmp_path / "b", b), store=tmp_path / "store")
    assert found.same_start
    assert 0.0 < found.start.difference <= 2.0**-8  # type: ignore[operator]
    np.testing.assert_allclose(found.map(), expected(dense(a), dense(b), "first")[0], rtol=0, atol=1e-12)


def test_one_checkpoint_nan_and_no_displacement(tmp_path: Path) -> None:
    a, b = walk(4, 14), walk(1, 15)
    a[2]["embed_out.weight"][3, 3] = float("nan")
    a[3] = a[0]
    found = trajsvc.cross(write(tmp_path / "a", a), write(tmp_path / "b", b), store=tmp_path / "store")
    assert found.steps_a.tolist() == [0, 100, 300]
    answer = found.answer()
    assert answer.map == [[None], [None], [None]]
    assert answer.norms_a[2] == 0.0
    kept = [s for i, s in enumerate(a) if i != 2]
    np.testing.assert_allclose(found.map(origin="none"), expected(dense(kept), dense(b), "none")[0], rtol=0, atol=1e-12)


def test_another_network_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    a = walk(3, 16)
    b = [{n.replace("embed_out", "head"): v for n, v in s.items()} for s in walk(3, 17, start=a[0])]
    c = [
        {n: torch.cat([v, v]) if n == "embed_out.weight" else v for n, v in s.items()} for s in walk(3, 18, start=a[0])
    ]
    store = tmp_path / "store"
    for name, states in (("a", a), ("b", b), ("c", c)):
        trajsvc.analyze(write(tmp_path / name, states), store=store)
    with pytest.raises(Refused, match=r"only a has embed_out\.weight; only b has head\.weight") as refused:
        trajsvc.cross("a", "b", store=store)
    assert refused.value.kind == "runs-differ"
    assert "head.weight=embed_out.weight" in refused.value.hint or "head.=embed_out." in refused.value.hint
    with pytest.raises(Refused, match=r"embed_out.weight \(40×32 and 80×32\)"):
        trajsvc.cross("a", "c", store=store)
    names = [n for n in a[0] if n != "embed_out.weight"]
    common = trajsvc.cross("a", "c", store=store, common=True)
    np.testing.assert_allclose(common.map(), expected(dense(a, names), dense(c, names), "first")[0], rtol=0, atol=1e-12)
    assert common.answer().left_out == ["embed_out.weight"]
    renamed = trajsvc.cross("a", "b", store=store, rename="head.=embed_out.")
    np.testing.assert_allclose(renamed.map(), expected(dense(a), dense(b), "first")[0], rtol=0, atol=1e-12)


def test_it_is_kept_until_a_run_changes(pair: tuple[Path, list[Any], list[Any]], tmp_path: Path) -> None:
    _, a, b = pair
    store = tmp_path / "store"
    write(tmp_path / "a", a)
    write(tmp_path / "b", b[:3])
    for name in ("a", "b"):
        trajsvc.analyze(tmp_path / name, store=store)
    with pytest.raises(NotFound, match="not compared yet"):
        trajsvc.open(store, "a").cross(trajsvc.open(store, "b"))
    first = trajsvc.cross("a", "b", store=store)
    kept = trajsvc.open(store, "a").cross(trajsvc.open(store, "b"))
    assert kept.map().equals(first.map())
    [name] = RunStore(store).cross.names()
    assert RunStore(store).cross.open(name).generation == 1
    trajsvc.cross("b", "a", store=store)
    assert RunStore(store).cross.open(name).generation == 1
    write(tmp_path / "b", b)
    trajsvc.analyze(tmp_path / "b", store=store)
    with pytest.raises(NotFound, match="changed since"):
        trajsvc.open(store, "a").cross(trajsvc.open(store, "b"))
    again = trajsvc.cross("a", "b", store=store)
    np.testing.assert_allclose(again.map(), expected(dense(a), dense(b), "first")[0], rtol=0, atol=1e-12)


class _StopsAfter:
    """A pool that sets ``stop`` once it has yielded one slab."""

    def __init__(self, stop: threading.Event) -> None:
        self.inner, self.stop, self.computed = ThreadPool(1), stop, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def results(self, job: Any, slabs: Any) -> Any:
        for result in self.inner.results(job, slabs):
            self.computed += 1
            yield result
            self.stop.set()
            raise Cancelled


def test_what_was_stopped_goes_on(pair: tuple[Path, list[Any], list[Any]], tmp_path: Path) -> None:
    folder, a, b = pair
    store = tmp_path / "store"
    for name in ("a", "b"):
        trajsvc.analyze(folder / name, store=store)
    stop = threading.Event()
    options = Options.of(threads=1)
    with pytest.raises(Cancelled):
        compute_cross(CrossJob(store, ("a", "b"), options, _StopsAfter(stop), stop=stop))  # type: ignore[arg-type]
    seen: list[int] = []

    class Watch:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

        def progress(self) -> Any:
            return lambda p: seen.append(p.bytes_resumed)

    compute_cross(CrossJob(store, ("a", "b"), options, ThreadPool(1), observer=Watch()))  # type: ignore[arg-type]
    assert seen[0] > 0
    found = trajsvc.cross("a", "b", store=store)
    np.testing.assert_allclose(found.map(), expected(dense(a), dense(b), "first")[0], rtol=0, atol=1e-12)


def test_checkpoints_that_are_others_are_refused(pair: tuple[Path, list[Any], list[Any]], tmp_path: Path) -> None:
    _, a, b = pair
    store = tmp_path / "store"
    write(tmp_path / "a", a)
    write(tmp_path / "b", b)
    for name in ("a", "b"):
        trajsvc.analyze(tmp_path / name, store=store)
    write(tmp_path / "b", walk(4, 99))
    with pytest.raises(Refused) as refused:
        trajsvc.cross("a", "b", store=store)
    assert refused.value.kind == "checkpoint-changed"


def command(*arguments: str) -> Any:
    return CliRunner().invoke(make_app("cross"), ["cross", *arguments])


def test_the_command(pair: tuple[Path, list[Any], list[Any]], tmp_path: Path) -> None:
    folder, a, b = pair
    store = ("--store", str(folder / "store"))
    said = json.loads(command("a", "b", "--format", "json", *store).stdout)
    assert {"runs", "group", "origin", "steps_a", "steps_b", "map", "same_start"} <= set(said)
    assert (said["runs"], said["origin"], said["same_start"]) == (["a", "b"], "first", True)
    assert said["map"][0] == [None] * 4
    target = tmp_path / "x.npz"
    assert command("a", "b", "--origin", "none", "--steps", "first:3", "-o", str(target), *store).exit_code == 0
    with np.load(target) as arrays:
        assert arrays["steps_b"].tolist() == [0, 100, 200]
        np.testing.assert_allclose(arrays["map"], expected(dense(a[:3]), dense(b[:3]), "none")[0], rtol=0, atol=1e-12)
    for suffix in ("png", "svg", "pdf", "csv"):
        assert command("a", "b", "-o", str(tmp_path / f"x.{suffix}"), *store).exit_code == 0
    assert "began at the same point" in command("a", "b", *store).stdout
    assert command("a", *store).exit_code == 2


@pytest.mark.slow
def test_several_runs_as_a_matrix(pair: tuple[Path, list[Any], list[Any]], tmp_path: Path) -> None:
    _, a, b = pair
    c = walk(5, 21)
    store = tmp_path / "store"
    for name, states in (("a", a), ("b", b), ("c", c)):
        trajsvc.analyze(write(tmp_path / name, states), store=store)
    said = json.loads(command("a", "b", "c", "--format", "json", "--store", str(store)).stdout)
    assert said["steps"] == [300, 300, 300]
    assert said["bases"] == [["a", "b"]]
    points = [dense(s)[3] - dense(s)[0] for s in (a, b, c)]
    unit = np.array([p / np.linalg.norm(p) for p in points])
    np.testing.assert_allclose(said["map"], unit @ unit.T, rtol=0, atol=1e-12)
    assert command("a", "b", "c", "-o", str(tmp_path / "m.png"), "--store", str(store)).exit_code == 0
    listed = json.loads(command("--bases", "--format", "json", "--store", str(store)).stdout)
    assert [row["runs"] for row in listed] == [["a", "b"]]


@pytest.mark.slow
def test_a_family_of_seeds_is_a_matrix_with_a_warning_that_they_are_not_aligned(tmp_path: Path) -> None:
    """Three seeds of two rates: members of a seed begin together, seeds apart; pairs of other seeds are compared and warned of."""
    store, members, text = tmp_path / "store", {}, 'name = "seeds"\n'
    for seed in range(3):
        start = walk(1, 100 + seed)[0]
        for rate, size in (("low", 1e-3), ("high", 3e-3)):
            name = f"{rate}-seed{seed}"
            members[name] = walk(5, 10 * seed + len(rate), start=start, update=size)
            trajsvc.analyze(write(tmp_path / name, members[name]), store=store)
            text += f'[[runs]]\nsource = "{name}"\nseed = {seed}\n[runs.hyperparameters]\nrate = {size}\n'
    (tmp_path / "seeds.toml").write_text(text)
    save_family(store, load_family(tmp_path / "seeds.toml"))

    ran = command("--family", "seeds", "--format", "json", "--store", str(store))
    assert ran.exit_code == 0
    said = json.loads(ran.stdout)
    assert said["runs"] == list(members)
    for origin in ("first", "none"):
        found = json.loads(
            command("--family", "seeds", "--origin", origin, "--format", "json", "--store", str(store)).stdout
        )
        points = [dense(s)[4] - (dense(s)[0] if origin == "first" else 0.0) for s in members.values()]
        unit = np.array([p / np.linalg.norm(p) for p in points])
        np.testing.assert_allclose(found["map"], unit @ unit.T, rtol=0, atol=1e-12)
        apart = [[np.linalg.norm(p - q) for q in points] for p in points]
        np.testing.assert_allclose(found["distances"], apart, rtol=1e-9, atol=1e-12)
    seeds = [name[-1] for name in members]
    assert said["same_start"] == [[a == b for b in seeds] for a in seeds]
    assert said["bases"] == [[f"low-seed{k}", f"high-seed{k}"] for k in range(3)]
    assert any("aligned" in warning for warning in said["warnings"])
    drawn = command("--family", "seeds", "-o", str(tmp_path / "seeds.png"), "--store", str(store))
    assert drawn.exit_code == 0
    assert (tmp_path / "seeds.png").stat().st_size > 5000
    assert "aligned" in drawn.stderr
    figure = family_matrix_figure(CrossFamilyAnswer(**said))
    origin = {"first": "each start", "shared": "the start of"}.get(str(said["origin"]), "points")
    assert origin in figure.get_suptitle()
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert [float(cell) for cell in cells] == [round(c, 2) for row in said["map"] for c in row]
    assert all(len(cell) <= 5 and cell != "-0.00" for cell in cells)

    alone = json.loads(command("low-seed0", "high-seed0", "--format", "json", "--store", str(store)).stdout)
    assert not any("aligned" in warning for warning in alone["warnings"])
