"""Spectra of a run on a server: its answers, whose numbers JSON carries without loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage_schema.models.spectra import (
    Of,
    SpectrumLayersAnswer,
    SpectrumMeasuresAnswer,
    SpectrumRow,
    SpectrumSetAnswer,
    SpectrumValuesAnswer,
)
from trajsvc.client import Client
from trajsvc.results.measure_methods import Steps


class ServerSpectra:
    """The spectra of the run ``run`` on a server, as ``SpectrumAnswers``."""

    def __init__(self, client: Client, run: str) -> None:
        self.client, self.path = client, f"runs/{run}/spectra"

    def rows(self) -> list[SpectrumRow]:
        return [SpectrumRow.model_validate(row) for row in self.client.get(self.path)]

    def details(self, of: Of) -> SpectrumSetAnswer:
        return SpectrumSetAnswer.model_validate(self.client.get(f"{self.path}/{of}"))

    def measures(
        self, tensor: str, of: Of, names: Sequence[str] | None = None, steps: Steps = None
    ) -> SpectrumMeasuresAnswer:
        asked = _asked(names, steps, tensor=tensor, of=of)
        return SpectrumMeasuresAnswer.model_validate(self.client.get(f"{self.path}/measures", **asked))

    def values(self, tensor: str, of: Of, steps: Steps = None) -> SpectrumValuesAnswer:
        asked = _asked(None, steps, tensor=tensor, of=of)
        return SpectrumValuesAnswer.model_validate(self.client.get(f"{self.path}/values", **asked))

    def layers(
        self, of: Of, names: Sequence[str] | None = None, steps: Steps = None, *, heads: bool = False
    ) -> SpectrumLayersAnswer:
        asked = _asked(names, steps, of=of, heads="true" if heads else None)
        return SpectrumLayersAnswer.model_validate(self.client.get(f"{self.path}/layers", **asked))


def _asked(names: Sequence[str] | None, steps: Steps, **more: Any) -> dict[str, Any]:
    chosen = steps if steps is None or isinstance(steps, str) else ",".join(str(int(s)) for s in steps)
    words = {"names": None if names is None else ",".join(names), "steps": chosen, **more}
    return {name: value for name, value in words.items() if value is not None}
