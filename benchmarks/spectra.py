"""Spectra of one model's matrices: trajsvc beside a loop over torch.linalg.svdvals and beside WeightWatcher.

Run it as ``python benchmarks/spectra.py [--width 512] [--layers 2] [--vocabulary 8192]``. Every contender runs in a
process of its own on the same checkpoint of a GPT-NeoX-like model in float16. Printed are seconds, peak memory, and how far σ_1
and the exponent of a power law are from those of trajsvc, relatively, in the matrix where they are farthest.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

Found = dict[str, tuple[float, float | None]]
"""matrix → (σ_1, exponent)"""


def make(folder: Path, width: int, layers: int, vocabulary: int) -> None:
    """Write one checkpoint; heavy tails, as trained weights have them."""
    import torch
    from safetensors.torch import save_file

    rng = np.random.default_rng(0)
    shapes = {"gpt_neox.embed_in.weight": (vocabulary, width)}
    for i in range(layers):
        at = f"gpt_neox.layers.{i}"
        shapes |= {f"{at}.attention.dense.weight": (width, width), f"{at}.mlp.dense_h_to_4h.weight": (4 * width, width)}
        shapes |= {f"{at}.mlp.dense_4h_to_h.weight": (width, 4 * width)}
    (folder / "step0").mkdir(parents=True)
    tensors = {n: torch.from_numpy(rng.standard_t(3, s) * 0.02).half() for n, s in shapes.items()}
    save_file(tensors, folder / "step0" / "model.safetensors")


def by_trajsvc(folder: Path) -> Found:
    """Analyse the folder, and decompose its matrices."""
    import trajsvc
    from trajsvc.spectra.compute import compute_spectra
    from trajsvc.spectra.options import SpectrumOptions

    with tempfile.TemporaryDirectory() as store:
        trajsvc.analyze(folder, name="run", store=store)
        begun = time.perf_counter()
        compute_spectra(Path(store), "run", SpectrumOptions(of=("weights",)))
        _say("computing alone", time.perf_counter() - begun)
        rows = trajsvc.open(store, "run").spectrum_answers().layers("weights", ["sigma_1", "power_law"]).matrices
        return {r.name: (r.measures["sigma_1"][0] or 0.0, r.measures["power_law"][0]) for r in rows}


def by_torch(folder: Path) -> Found:
    """Load everything, and loop."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / "step0" / "model.safetensors")
    return {n: (float(torch.linalg.svdvals(v.double())[0]), None) for n, v in tensors.items()}


def by_weightwatcher(folder: Path) -> Found:
    """Load everything, and take singular values and fits as WeightWatcher does."""
    from safetensors.torch import load_file
    from weightwatcher.RMT_Util import svd_vals
    from weightwatcher.WW_powerlaw import WWFit

    found: Found = {}
    for name, value in load_file(folder / "step0" / "model.safetensors").items():
        sigma = np.sort(np.asarray(svd_vals(value.double().numpy())))[::-1]
        found[name] = (float(sigma[0]), float(WWFit(np.square(sigma)).alpha))
    return found


CONTENDERS = {"trajsvc": by_trajsvc, "torch": by_torch, "weightwatcher": by_weightwatcher}


def _say(what: str, seconds: float) -> None:
    sys.stderr.write(f"  {what}: {seconds:.2f} s\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("width", 512), ("layers", 2), ("vocabulary", 8192)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        name, folder = given.contender
        begun = time.perf_counter()
        found = CONTENDERS[name](Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(
            "\n" + json.dumps({"seconds": time.perf_counter() - begun, "MiB": peak, "found": found}) + "\n"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), given.width, given.layers, given.vocabulary)
        results: dict[str, Any] = {}
        for name in CONTENDERS:
            line = [sys.executable, __file__, "--contender", name, folder]
            done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
            results[name] = json.loads(done.stdout.splitlines()[-1])
    for name, result in results.items():
        off = [_off(result["found"], results["trajsvc"]["found"], k) for k in (0, 1)]
        print(
            f"{name:14} {result['seconds']:7.2f} s {result['MiB']:7.0f} MiB  σ_1 differs by {off[0]:.1e}, α by {off[1]:.1e}"
        )


def _off(one: dict[str, Any], other: dict[str, Any], k: int) -> float:
    """Return the largest relative difference of what both have."""
    pairs = [(one[n][k], other[n][k]) for n in other if n in one and one[n][k] is not None and other[n][k] is not None]
    return max((abs(a / b - 1) for a, b in pairs), default=float("nan"))


if __name__ == "__main__":
    main()
