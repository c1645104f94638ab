"""Send a stored run's results to a tracker of experiments.

::

    push(trajsvc.open("pythia-70m"), "tensorboard", project="logs")
    push(trajsvc.open("pythia-70m"), "wandb", project="trajectories", names=["update_norm", "mds"])
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from trajsvc.errors import UsageError
from trajsvc.integrations.content import Content, content_of

if TYPE_CHECKING:
    from trajsvc.results.run import Run

PROJECT: Final = "trajsvc"
TRACKERS: Final[Mapping[str, str]] = {
    "tensorboard": "trajsvc.integrations.to_tensorboard",
    "wandb": "trajsvc.integrations.to_wandb",
    "mlflow": "trajsvc.integrations.to_mlflow",
    "trackio": "trajsvc.integrations.to_trackio",
}
"""each one's name is that of its package and of the extra that installs it; the module has ``send``"""


def push(
    run: Run,
    to: str,
    project: str = PROJECT,
    groups: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> str:
    """Send curves by step, numbers and figures of ``run`` to a tracker, as a run of its own, and return where it is.

    Args:
        to: ``tensorboard``, ``wandb``, ``mlflow`` or ``trackio``. Where its server is, and its key, the tracker knows from its own
            settings (``WANDB_MODE``, ``MLFLOW_TRACKING_URI`` …).
        project: W&B's or trackio's project, MLflow's experiment, TensorBoard's log folder.
        groups: ids or globs of groups; by default the network and the layers.
        names: measures that are numbers or curves over training; by default those of norms, angles and directions.

    Raises:
        UsageError: ``bad-option``, ``extra-missing``, ``no-curve``.
        NotFound: ``group-not-found``, ``measure-not-found``.
    """
    if to not in TRACKERS:
        raise UsageError("bad-option", f"no tracker {to!r}", hint=f"Choose from {', '.join(TRACKERS)}.")
    if importlib.util.find_spec(to) is None:
        hint = f"pip install 'trajsvc[{to}]' installs it."
        raise UsageError("extra-missing", f"the package {to} is not installed", hint=hint)
    send: Callable[[Content, str], str] = import_module(TRACKERS[to]).send
    return send(content_of(run, groups, names), project)
