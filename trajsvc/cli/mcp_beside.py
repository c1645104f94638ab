"""Tools of ``trajsvc mcp`` for what is computed beside trajectories: spectra, gradients, and two runs against each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from trajsvc.cli.mcp_tools import of_run, told

if TYPE_CHECKING:
    from trajsvc.client import Client

Of = Literal["weights", "displacement", "updates"]
Origin = Literal["first", "shared", "none"]


def beside_tools(client: Client) -> tuple[Callable[..., Any], ...]:
    """Return the tools that change nothing."""

    def spectra(run: str) -> list[dict[str, Any]]:
        """List what a run has spectra of: weights, displacement, updates; how many matrices, at which steps."""
        with told():
            return list(client.get(of_run(run, "spectra")))

    def spectrum_measures(
        run: str, tensor: str, of: Of = "weights", names: str | None = None, steps: str | None = None
    ) -> dict[str, Any]:
        """Return measures of the singular values of one matrix against the step: norms, ranks, power law. tensor: a name as
        spectrum_layers has it, NAME[q] for the Q part of a fused one, NAME[q.3] for a head. names: between commas."""
        with told():
            asked = {"tensor": tensor, "of": of, "names": names, "steps": steps}
            return dict(client.get(of_run(run, "spectra/measures"), **asked))

    def spectrum_layers(
        run: str,
        of: Of = "weights",
        names: str = "sigma_1,stable_rank",
        steps: str | None = None,
        heads: bool = False,
        qkv: bool = False,
    ) -> dict[str, Any]:
        """Return measures of every matrix against the step, in the order of the network. qkv: those of Q, K and V alone."""
        with told():
            asked = {"of": of, "names": names, "steps": steps, "heads": heads, "qkv": qkv}
            return dict(client.get(of_run(run, "spectra/layers"), **asked))

    def gradients(run: str) -> list[dict[str, Any]]:
        """List a run's sets of gradients (example, batch, ...): how many vectors, at which steps, and what they depend on."""
        with told():
            return list(client.get(of_run(run, "gradients")))

    def gradient_measures(
        run: str,
        set: str,
        group: str = "network",
        names: str | None = None,
        steps: str | None = None,
        batch: int | None = None,
    ) -> dict[str, Any]:
        """Return measures of a set of gradients against the step: variance, noise to signal, coherence, confusion, conditioning.
        set: a name that the tool gradients lists. batch: the size of batch whose variance is asked for."""
        with told():
            asked = {"group": group, "names": names, "steps": steps, "batch": batch}
            return dict(client.get(of_run(run, f"gradients/{quote(set, safe='')}/measures"), **asked))

    def gradient_layers(run: str, set: str, names: str | None = None, steps: str | None = None) -> dict[str, Any]:
        """Return measures of a set of gradients for every layer against the step."""
        with told():
            asked = {"names": names, "steps": steps}
            return dict(client.get(of_run(run, f"gradients/{quote(set, safe='')}/layers"), **asked))

    def cross(
        a: str,
        b: str,
        group: str = "network",
        origin: Origin = "first",
        steps: str | None = None,
        rename: list[str] | None = None,
        common: bool = False,
    ) -> dict[str, Any]:
        """Return two runs of one network against each other: cosines and distances of their displacements at all pairs of checkpoints,
        and whether they began at the same point. origin: from each run's own start (first), from that of a for both (shared), or from
        zero (none). It must have been computed (submit_cross), with the same rename and common."""
        with told():
            asked = {"a": a, "b": b, "group": group, "origin": origin, "steps": steps, "rename": rename or []}
            return dict(client.get("cross", **asked, common=common))

    def bases() -> list[dict[str, Any]]:
        """List the runs that begin with the same parameters."""
        with told():
            return list(client.get("cross/bases"))

    return (
        spectra, spectrum_measures, spectrum_layers, gradients, gradient_measures, gradient_layers, cross, bases,
    )  # fmt: skip


def beside_work_tools(client: Client) -> tuple[Callable[..., Any], ...]:
    """Return the tools that make work, and what is asked for that."""

    def probes() -> dict[str, Any]:
        """List the probes (a network with its loss) and the data that gradients can be computed with, by name."""
        with told():
            return dict(client.get("probes"))

    def submit_spectra(
        run: str,
        of: list[Of] | None = None,
        steps: str | None = None,
        groups: list[str] | None = None,
        heads: bool = False,
    ) -> dict[str, Any]:
        """Submit a job of the singular values of a run's matrices (those of groups) at its checkpoints; return the job. What is
        stored is not computed again."""
        with told():
            return client.submit_spectra(run, of=of, steps=steps, groups=groups, heads=heads)

    def submit_gradients(
        run: str,
        probe: str,
        data: str,
        sets: list[str] | None = None,
        examples: int | None = None,
        batch: int | None = None,
        length: int | None = None,
        steps: str | None = None,
    ) -> dict[str, Any]:
        """Submit a job of sets of gradients of a run, with a probe and data by the names that the tool probes lists; return the
        job. sets: example, batch, full, path, points, anchored, weights, inputs, input_gradients."""
        with told():
            asked: dict[str, Any] = {
                "sets": sets,
                "examples": examples,
                "batch": batch,
                "length": length,
                "steps": steps,
            }
            return client.submit_gradients(run, probe=probe, data=data, **asked)

    def submit_cross(a: str, b: str, rename: list[str] | None = None, common: bool = False) -> dict[str, Any]:
        """Submit a comparison of two stored runs of one network; return the job. rename: names of b's tensors as a has them,
        FROM=TO. common: compare the tensors that both have."""
        with told():
            return client.submit_cross(a, b, rename=rename, common=common)

    return probes, submit_spectra, submit_gradients, submit_cross
