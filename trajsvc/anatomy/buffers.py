"""Find the tensors of a checkpoint that are not parameters, by their names and the names beside them. Reads no values.

Three kinds are told apart here:

- *known*: ``no_parameters`` says why (running statistics, masks of attention, vectors of a power iteration, queues with their pointer,
  states of an optimizer, what belongs to quantised weights);
- *tables*: ``table_of`` says what a name usually holds (positions, schedules, masks, scales). They are not parameters if their values
  never change, which only the values can tell;
- *averages*: ``averages`` pairs the copies that a trainer keeps as moving averages (``encoder_k``, ``teacher``, ``ema``) with what they
  are averages of.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final

from storage_schema.format.arrays import FLOAT_TYPES
from trajsvc.anatomy.rule import Rule, ending

Shape = tuple[int, ...]
Tensors = Mapping[str, tuple[Shape, str]]

NAMED: Final[tuple[tuple[str, str], ...]] = (
    ("running_(mean|var|std|min|max)", "running statistics of a normalisation"),
    ("num_batches_tracked", "counter of a normalisation"),
    (r"\w*inv_freq", "rotary frequencies"),
    ("(cos|sin)_cached?", "rotary table"),
    ("(rope|rotary|rotary_emb).freqs|freqs_cis", "rotary table"),
    ("(position|token_type)_ids", "indices"),
    ("relative_position_index", "indices of relative positions"),
    ("relative_coords_table", "table of relative positions"),
    ("_extra_state", "state of a module that is no tensor of parameters"),
    (r"(activation_post_process|\w*fake_quant\w*|\w*observer\w*)\.[\w.]+", "statistics of quantisation-aware training"),
    (r"_amax|_pre_quant_scale|amax_history|\w*_amax_history", "statistics of quantisation"),
    (r"moving_(mean|variance|var)", "running statistics of a normalisation"),
    (r"batch_stats\.[\w.]+|(mean|var)_ema\.(average|hidden|counter)", "running statistics of a normalisation"),
    (r"memory_(v[12]|l|ab)", "bank of features"),
    (
        r"(un)?normali[sz]e_\w+\.buffer_\w+\.\w+|\w*normali[sz]er\.params_dict\.[\w.]+|debiasing_term",
        "statistics of a normaliser",
    ),
    (
        r"e_score_correction_bias|(router|moe|gate|mlp|feed_forward)\.expert_bias",
        "balance of a router, which no gradient moves",
    ),
    (r"(\w+_)?tokens_per_expert(_\w+)?|(\w+_)?expert_(counts?|load|usage|hits|freq\w*)", "counts of a router"),
    (
        r"(\w+_)?(code|codebook|cluster|code_?word|embed|embedding|entry)_(usages?|counts?|hits|hist\w*|freq\w*|prob|used)",
        "counts of a codebook",
    ),
    (r"\w*loss\w*\.center|teacher_center|center_(teacher|ema)", "running centre of a teacher's outputs"),
    (
        r"(?:\w+_)?(?:rms|mean_std|normali[sz]er|(?:obs|observation|state|ret|return|reward|value|input)_norm(?:ali[sz]ation)?)"
        r"\._?(?:running_)?(?:mean|means|var|variance|std|count|sum|sumsq|m2|num_samples)(?:_sq)?",
        "running statistics of a normaliser",
    ),
    ("n_averaged", "counter of an average"),
    ("_?(ema_)?cluster_size|embed_avg|_?ema_w|_?ema_dw|z_avg", "running statistics of a codebook"),
    ("w_avg|dlatent_avg|latent_avg|pl_mean|magnitude_ema", "running average of activations"),
    ("(log_)?(sqrt_)?(one_minus_|recipm?1?_)?alphas_cumprod(_prev|_next)?", "schedule of a diffusion"),
    ("posterior_(variance|log_variance_clipped|mean_coef[12])|lvlb_weights", "schedule of a diffusion"),
    (r"(exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg)(\.[\w.]+)?", "state of an optimizer"),
)
"""(end of the name, what it is): no parameters in any architecture, though many are floats."""

TABLES: Final[tuple[tuple[str, str], ...]] = (
    (r"pe|pos_?table|pos(ition|itional)?_?enc(oding|odings)?(\.weight)?|\w*sinusoid\w*|\w*sin_?cos\w*|_float_tensor", "table of positions"),
    (r"\w*gaussian_matrix", "table of positions"),
    (r"(\w+_)?pos(ition|itional)?_?embed(ding|dings|s)?(\.weight)?", "table of positions"),
    (r"(\w+_)?(alibi\w*|slopes?)", "slopes of attention"),
    (r"(freqs|frequencies|omegas?|periods)(_\w+)?|(sin|cos)(_table|_emb|_pos)?|(\w+_)?(rope|rotary|cos_sin)_cache", "table of frequencies"),
    (r"(?!mask_(token|emb)\w*)(?i:(\w+_)?masks?(_\w+)?|ignore|(\w+_)?(tril|triu)|causal\w*)", "mask"),
    (r"(betas?|alphas?|sigmas|log_sigmas|timesteps|logvar|snr|noise_levels|lambdas)|\w*(schedule|cumprod|posterior)\w*", "schedule"),
    (r"(loss|p2|class)\w*_weights?", "weights of a loss"),
    (r"(\w+_)?(alpha|scaling|scale_factor)", "scale"),
    (r"(\w+_)?(index|indices|idx|ids)", "indices"),
    (r"((pixel|image|input|data|obs|latents?)_)?(mean|std|means|stds)", "statistics of the data"),
    (r"anchors?|anchor_(grid|points)|strides?", "anchors"),
    (r"resample_filter|noise_const|(\w+_)?window|mel_\w+|fbanks?|dft_\w+|(blur|fir)\w*", "filter"),
    (r"(\w+_)?(temperature|eps|epsilon|momentum|decay)", "setting"),
    (r"(\w+_)?(inited|initted|initiali[sz]ed|enabled|is_init)", "setting"),
)  # fmt: skip
"""(end of the name, what such a name usually holds): no parameters where their values never change."""

_COUNTER: Final = ending(
    r"(\w+_)?(counter|(global_?|num_|n_)?(steps?|iters?|iterations?|updates?|epochs?)|(samples|tokens|examples|batches|frames)_seen)(_count|_seen|_done)?"
)
"""A number that counts how far the training is; a tensor of one element."""
_OPTIMIZER: Final = re.compile(
    r"(?:optimizers?|optim|lr_schedulers?|grad_scaler)(?:_states?)?\."
    r"|(?:.+\.)?(?:opt(?:im(?:izer)?)?_states?|optimizer_\d+|chained_\d+\.optimizer)\."
    r"|(?:.+\.)?(?:optimizers?|optim|opt)\.(?:\w+\.)?(?:state|param_groups|fp32_param|exp_avg\w*)\."
    r"|(?:adam|adamw|nadam|sgd|rmsprop|adagrad|adadelta|adafactor|muon)(?:_\d+)?\."
)
"""State of an optimizer: at the top, deeper where its own word or that of its state follows, under its own name."""
_POINTER: Final = re.compile(r"(?:\w+_)?(?:ptr|pointer)(?:_\w+)?\Z")
_QUEUE: Final = ending(r"(?:\w+_)?queue(?:_\w+)?|memory_bank")
_POWER: Final = re.compile(r"(?P<module>.+)\.parametrizations\.(?P<parameter>\w+)\.[0-9]+\._[uv]\Z")
_KEPT_BESIDE: Final = re.compile(r"(.+)[._](grad|main_grad|momentum|momentum_buffer|exp_avg|exp_avg_sq)\Z")
"""What is kept for a tensor under its name and a word."""
_KEPT_UNDER: Final = re.compile(
    r"(?P<word>opt|optim|optimizer|mu|nu|master(?:_params?|_weights?)?|fp32_params?)\.(?P<rest>.+)\Z"
)
"""What is kept for a tensor under a word and its name."""
_SINGULAR: Final = ending(r"u[0-9]+|sv[0-9]+")
_OF_CODEBOOK: Final = frozenset(("N", "ema_count", "ema_weight", "ema_embed", "inited", "usage"))
_MARKS_OF_CODEBOOK: Final = ("z_avg", "cluster_size", "embed_avg", "ema_count", "ema_cluster_size")
"""Statistics of a codebook that are known by those beside them."""
_OF_POPART: Final = frozenset(("mean", "mean_sq", "stddev", "running_mean", "running_mean_sq"))
_COMPANIONS: Final = (
    "absmax", "nested_absmax", "quant_map", "nested_quant_map", "quant_state", "SCB", "weight_format", "scales", "qzeros",
    "g_idx", "weight_scale", "weight_scale_inv", "scale_inv", "weight_scale_2", "input_scale", "weight_zero_point", "scale",
    "zero_point", "scale_weight", "scale_input", "output_scale", "_scale", "k_scale", "v_scale",
)  # fmt: skip
"""What stands beside a quantised matrix: its scales and offsets."""
NOT_FLOATING: Final = "not a floating type"
SCALE: Final = "scale of a quantised matrix"
QUANTISED: Final = ("int8", "uint8", "int16", "uint16", "int32", "uint32")
"""Types in which weights are kept packed or quantised; int64 and bool are indices and masks."""
_PARAMETER: Final = re.compile(
    r"(?:\w+_)?(?:weights?|bias|kernel|gamma|beta|gain|alpha|embeddings?|embed|token|tokens|weight_[gv]|original\d?|lora_\w+|log_std)"
    r"|A_log|D|dt_bias|(?:logit|layer|res|output)_scale|time_\w+|w\d?|b\d?|(?:weight|bias)_(?:[ih]h\w*|orig)"
)
_LIKE_BUFFERS: Final = frozenset(
    ("buffer", "queue", "bank", "running", "moving", "ema", "momentum", "cache", "counter", "history", "avg", "average",
     "averaged", "shadow", "stats")
)  # fmt: skip


def no_parameters(rule: Rule, tensors: Tensors) -> dict[str, str]:
    """Return tensor → reason, for those of ``tensors`` (name → (shape, stored type)) that are known not to be
    parameters.

    These are buffers, tensors of a type that is not floating, and tensors without elements.
    """
    quantised = quantised_modules(tensors)
    found = {name: _reason(rule, name, shape, kind, tensors, quantised) for name, (shape, kind) in tensors.items()}
    return {name: why for name, why in found.items() if why is not None}


def _reason(rule: Rule, name: str, shape: Shape, kind: str, tensors: Tensors, quantised: Collection[str]) -> str | None:
    if (why := buffer_reason(rule, name, shape, tensors)) is not None:
        return f"buffer: {why}"
    if kind not in FLOAT_TYPES:
        return f"{NOT_FLOATING}: {kind}"
    if 0 in shape:
        return "no elements"
    return SCALE if _companion(name, quantised) else None


def buffer_reason(rule: Rule | None, name: str, shape: Shape, beside: Collection[str] = ()) -> str | None:
    """Return what kind of buffer a tensor is by its name, or None; ``beside`` are the names of the checkpoint.

    A causal mask is known by its rule's anchored name, or in any network by a shape that no parameter has: [1, 1, T, T]
    (``attn.bias``, ``attn.mask``).
    """
    plain = name.replace("~/", "").replace("/", ".")
    for text, what in NAMED:
        if ending(text).match(plain):
            return what
    if _OPTIMIZER.match(plain):
        return "state of an optimizer"
    if rule is not None and any(ending(text).match(name) for text in rule.buffers):
        return "mask of attention"
    if _size(shape) == 1 and _COUNTER.match(name):
        return "counter of the training"
    square = len(shape) == 4 and shape[0] == shape[1] == 1 and shape[2] == shape[3] > 1
    if square and ending("bias|mask").match(name):
        return "mask of attention"
    return _by_neighbours(name, beside)


def _by_neighbours(name: str, beside: Collection[str]) -> str | None:
    if (kept := _KEPT_BESIDE.match(name)) and kept[1] in beside:
        return "gradient" if kept[2].endswith("grad") else "state of an optimizer"
    if (under := _KEPT_UNDER.match(name)) and (under["rest"] in beside or under["rest"].rpartition(".")[0] in beside):
        return "master copy of a parameter" if under["word"].startswith(("master", "fp32")) else "state of an optimizer"
    stem, _, last = name.rpartition("_")
    if last in ("u", "v") and (f"{stem}_orig" in beside or f"{stem}_bar" in beside):
        return "vector of spectral normalisation"
    if last == "mask" and f"{stem}_orig" in beside:
        return "mask of pruning"
    if (power := _POWER.match(name)) and f"{power['module']}.parametrizations.{power['parameter']}.original" in beside:
        return "vector of spectral normalisation"
    module, dot, leaf = name.rpartition(".")
    if leaf in _OF_CODEBOOK and any(f"{module}{dot}{n}" in beside for n in _MARKS_OF_CODEBOOK if n != leaf):
        return "running statistics of a codebook"
    if leaf in _OF_POPART and f"{module}{dot}debiasing_term" in beside:
        return "running statistics of a normaliser"
    if _SINGULAR.match(name) and f"{module}{dot}{_other_singular(leaf)}" in beside:
        return "vector of spectral normalisation"
    if leaf == "alpha" and module in _adapted(frozenset(beside)):
        return "scale of an adapter"
    if _QUEUE.match(name) and any(
        _POINTER.match(n.rpartition(".")[2]) for n in beside if n.rpartition(".")[0] == module
    ):
        return "queue of keys"
    return None


def _other_singular(leaf: str) -> str:
    """Return the other vector of a power iteration: ``u0`` ↔ ``sv0``."""
    return f"u{leaf[2:]}" if leaf.startswith("sv") else f"sv{leaf[1:]}"


@lru_cache(maxsize=8)
def _adapted(names: frozenset[str]) -> frozenset[str]:
    """Return the modules that hold an adapter: what precedes ``.lora_down.weight``, ``.lora_A.default.weight``,
    ``.hada_w1_a`` …
    """
    found = (re.match(r"(.+?)\.(?:lora_|hada_|lokr_|oft_|dora_|diff\b|glora_)", n) for n in names)
    return frozenset(m[1] for m in found if m)


def quantised_modules(tensors: Tensors) -> frozenset[str]:
    """Return the modules whose matrices are quantised or packed: of an integer type, or of an 8-bit float."""
    return frozenset(
        name.rpartition(".")[0] for name, (shape, kind) in tensors.items() if is_quantised(name, shape, kind)
    )


def is_quantised(name: str, shape: Shape, kind: str) -> bool:
    """Return whether a tensor whose type is not floating is a matrix of weights rather than a mask, an index or a
    counter.
    """
    if kind in FLOAT_TYPES or 0 in shape or len(shape) < 2 or table_of(name, shape) or _QUEUE.match(name):
        return False
    square = len(shape) == 4 and shape[0] == shape[1] == 1 and shape[2] == shape[3]
    return (kind in QUANTISED or kind.startswith(("float8", "float4", "float6"))) and not square


def companions(tensors: Tensors) -> dict[str, str]:
    """Return tensor → reason, for the scales and offsets that belong to quantised matrices and so are not parameters."""
    quantised = quantised_modules(tensors)
    return {n: SCALE for n in tensors if quantised and _companion(n, quantised)}


def _companion(name: str, quantised: Collection[str]) -> bool:
    """Return whether a tensor is a scale or an offset of a quantised matrix: ``q_proj.scales``,
    ``q_proj.weight.absmax``.
    """
    module, _, leaf = name.rpartition(".")
    return leaf in _COMPANIONS and (module in quantised or module.rpartition(".")[0] in quantised)


def table_of(name: str, shape: Shape) -> str | None:
    """Return what a tensor of this name usually holds if it is one that is no parameter while its values never change;
    else None.
    """
    for text, what in TABLES:
        if ending(text).match(name):
            if what in ("scale", "setting") and _size(shape) != 1:
                continue
            return what
    return None


def _size(shape: Shape) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def like_a_buffer(name: str) -> bool:
    """Return whether the last part of a name reads like that of a buffer (``memory_bank``, ``running_scale``) that is
    not a known one.
    """
    leaf = name.rpartition(".")[2]
    return leaf not in ("weight", "bias") and not _LIKE_BUFFERS.isdisjoint(leaf.lower().split("_"))


def parameter_by_name(name: str) -> bool:
    """Return whether the last part of a name is one that parameters have, also those that are few and large."""
    return _PARAMETER.fullmatch(name.rpartition(".")[2]) is not None
