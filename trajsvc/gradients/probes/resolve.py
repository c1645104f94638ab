"""Find a probe by its name: those that are built in, those that are installed, and on the command line any ``module:object``."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, cast

from trajsvc.errors import NotFound, UsageError
from trajsvc.gradients.probes.base import Probe, ProbeContext, ProbeFactory

GROUP: Final = "trajsvc.probes"
_MEMBERS: Final = ("digest", "examples", "network", "losses")
BUILT_IN: Final = {
    "causal-lm": "trajsvc.gradients.probes.causal_lm:CausalLM",
    "image-classifier": "trajsvc.gradients.probes.image_classifier:ImageClassifier",
}


def probe_names() -> list[str]:
    """Names of the probes that are built in or installed."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def find_probe(name: str, *, by_path: bool = False) -> ProbeFactory:
    """Return what makes the probe ``name``. ``module:object`` is imported only where ``by_path`` allows it: never for a request.

    Raises NotFound (``probe-not-found``) with the names that there are, UsageError (``bad-probe``) where it cannot be imported.
    """
    if name in BUILT_IN:
        return _loaded(name, BUILT_IN[name])
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name in installed:
        return _loaded(name, installed[name].value)
    if ":" in name and by_path:
        return _loaded(name, name, here=True)
    raise _not_found(name, by_path)


def made_by(factory: ProbeFactory, context: ProbeContext) -> Probe:
    """Make a probe. Raises UsageError (``bad-probe``) where what was made is none, and what making it raises."""
    probe = factory(context)
    lacking = [name for name in _MEMBERS if not hasattr(probe, name)]
    if lacking:
        words = f"probe {context.options.probe} has no {', '.join(lacking)}"
        hint = f"A probe has {', '.join(_MEMBERS)} (trajsvc.gradients.probes.base)."
        raise UsageError("bad-probe", words, hint=hint)
    if context.options.per_token and not getattr(probe, "per_token", False):
        words = f"the probe {context.options.probe} has no tokens: --per-token is for probes whose examples are windows of text"
        raise UsageError(
            "bad-option", words, hint="Leave it out; a probe of your own sets per_token to True where it does so."
        )
    return probe


def _loaded(name: str, value: str, *, here: bool = False) -> ProbeFactory:
    try:
        found = _imported(value) if here else EntryPoint(name, value, GROUP).load()
    except Exception as error:  # whatever the module does when it is imported
        hint = "Is the module importable from the current folder, and does it have this object?"
        raise UsageError("bad-probe", f"probe {name} cannot be imported: {error!r}", hint=hint) from error
    if not callable(found):
        hint = "A probe is a class or function that takes a ProbeContext (trajsvc.gradients.probes.base)."
        raise UsageError("bad-probe", f"probe {name} is no class and no function", hint=hint)
    return cast(ProbeFactory, found)


def _imported(value: str) -> object:
    """Import the object that ``module:object`` names; modules of the current folder are found, as ``python -m`` finds them."""
    module, _, attribute = value.partition(":")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        found: object = importlib.import_module(module)
    finally:
        sys.path.remove(folder)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _not_found(name: str, by_path: bool) -> NotFound:
    names = probe_names()
    close = get_close_matches(name, names, n=2)
    hint = f"Did you mean {' or '.join(close)}? " if close else f"There are {', '.join(names)}. "
    own = "A probe of your own is --probe module:object." if by_path else "Others are installed by who runs the server."
    return NotFound("probe-not-found", f"no probe {name!r}", hint=hint + own)
