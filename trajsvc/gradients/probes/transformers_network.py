"""Networks of the transformers library, from a checkpoint's config.json alone. The library is an optional extra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from trajsvc.errors import Refused, UsageError

if TYPE_CHECKING:
    import torch

Task = Literal["causal language model", "image classifier"]


def network_of(config: Mapping[str, Any] | None, task: Task) -> torch.nn.Module:
    """Build the network that ``config`` describes, with a head for ``task``; its parameters are not set.

    Raises UsageError (``extra-missing``) without transformers, Refused (``network-unknown``) where the configuration is missing or names
    no network of this kind. No code of a repository is run.
    """
    library = transformers()
    if not config or "model_type" not in config:
        hint = "Put the config.json beside the checkpoints, or name a probe of your own with --probe module:object."
        raise Refused(
            "network-unknown", "the checkpoint has no config.json that says which network it is of", hint=hint
        )
    auto = library.AutoModelForCausalLM if task == "causal language model" else library.AutoModelForImageClassification
    facts = {k: v for k, v in config.items() if k not in ("model_type", "auto_map")}
    try:
        described = library.AutoConfig.for_model(str(config["model_type"]), **facts)
        found: torch.nn.Module = auto.from_config(described)
    except Exception as error:  # the library raises what it likes about a configuration
        hint = f"transformers {library.__version__} makes it; another version, or --probe module:object, may."
        words = f"no {task} can be made from this config.json (model_type {config['model_type']!r}): {error}"
        raise Refused("network-unknown", words.partition("\n")[0], hint=hint) from error
    return found


def transformers() -> Any:
    """Return the library. Raises UsageError (``extra-missing``) where it is not installed."""
    try:
        import transformers as library
    except ImportError as error:
        hint = "Install it: pip install 'trajsvc[gradients]'"
        raise UsageError("extra-missing", "this probe needs the transformers library", hint=hint) from error
    return library


def in_float64() -> Any:
    """Make a context in which a network of float64 computes in float64 throughout.

    The library's normalisations and attention cast to float32, which raises the precision of half types; of a float64 network it would
    take half the digits, and differences of gradients need them. Such casts of what depends on the parameters are left out. Constants
    (the angles of rotary embeddings) are those that the library computes, and other types are as they were.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    casts = {torch.Tensor.to, torch.Tensor.type, torch.Tensor.float}

    class InFloat64(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if args and isinstance(args[0], torch.Tensor) and args[0].dtype is torch.float64 and _varies(args[0]):
                if func is torch.Tensor.float:
                    return args[0]
                if func in casts:
                    args = tuple(torch.float64 if a is torch.float32 else a for a in args)
                if kwargs.get("dtype") is torch.float32:
                    kwargs["dtype"] = torch.float64
            return func(*args, **kwargs)

    return InFloat64()


def _varies(tensor: torch.Tensor) -> bool:
    """Return whether a tensor depends on what is differentiated, under ``torch.func`` too."""
    import torch

    return tensor.requires_grad or bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))
