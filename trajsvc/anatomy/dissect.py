"""Divide a checkpoint's tensors into blocks: which are parameters, their layer and component, and their parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from trajsvc.anatomy.architectures import Choice, Rules
from trajsvc.anatomy.blocks import TIED, Anatomy, Block
from trajsvc.anatomy.buffers import NOT_FLOATING, no_parameters
from trajsvc.anatomy.layouts import Heads, Shape, part_extents, whole
from trajsvc.anatomy.module_paths import Place, layer_labels, place
from trajsvc.anatomy.patterns import excluded
from trajsvc.anatomy.rule import LEAF, Fused, Rule, ending
from trajsvc.errors import Refused, UsageError

Tensors = Mapping[str, tuple[Shape, str]]


def dissect(
    tensors: Tensors,
    config: Mapping[str, Any] | None = None,
    *,
    rules: Rules | None = None,
    heads: int | None = None,
    tied: Mapping[str, str] | None = None,
    aside: Mapping[str, str] | None = None,
    own: Collection[str] = (),
) -> Anatomy:
    """Divide the tensors of a checkpoint into blocks.

    Every floating tensor that is neither a buffer nor tied to another is in exactly one block, or in the blocks of its
    parts, which partition it.

    Args:
        tensors: name → (shape, stored type), in checkpoint order.
        config: The model's config.json.
        rules: The user's own rules.
        heads: The number of attention heads, if no config says it.
        tied: tensor → the tensor whose bytes it shares.
        aside: tensor → why it is not a parameter, as found from its values or said by the user.
        own: Tensors whose values are their own, whatever the config ties them to.

    Raises Refused (``heads-unknown``, ``layout-mismatch``) and UsageError (``heads-conflict``: ``heads`` is not what
    the config says).
    """
    choice = (rules or Rules()).choose(tensors, config)
    known = _heads(choice.rule, config or {}, heads)
    left_out = _reasons(no_parameters(choice.rule, tensors), aside or {})
    left_out |= {name: f"left out by the rules: {p}" for name, p in excluded(choice.rule.exclude, tensors).items()}
    places = {name: place(choice.rule, name) for name in tensors if name not in left_out}
    repeated = _tied(choice.rule, config, {n: at for n, at in places.items() if n not in own}, tensors, tied or {})
    left_out |= {name: f"{TIED}{other}" for name, other in repeated.items()}
    kept = [at for name, at in places.items() if name not in repeated]
    labels = layer_labels(kept)
    blocks: list[Block] = []
    unsplit: list[str] = []
    assumed: dict[Fused, list[str]] = {}
    for at in kept:
        split = isinstance(at.role, Fused) and _may_be_split(at.role, at.name, choice, tensors, known)
        if isinstance(at.role, Fused):
            (assumed.setdefault(at.role, []) if split else unsplit).append(at.name)
        blocks.extend(_blocks(at, labels[at.name], split, tensors, known))
    layouts = (*(_assumed(n, f, choice, known) for f, n in assumed.items() if choice.by_names), *_note_unsplit(unsplit))
    return Anatomy(
        architecture=choice.rule.key,
        blocks=tuple(blocks),
        left_out={name: left_out[name] for name in tensors if name in left_out},
        notes=choice.notes + layouts,
        layouts=layouts,
        heads=known.heads,
        head_dim=known.head_dim,
    )


def _reasons(named: Mapping[str, str], aside: Mapping[str, str]) -> dict[str, str]:
    """Merge the reasons why tensors are not parameters.

    A reason known from the name goes before one found from the values, except that a type that is not floating goes
    last.
    """
    return {**aside, **{n: why for n, why in named.items() if n not in aside or not why.startswith(NOT_FLOATING)}}


def _heads(rule: Rule, config: Mapping[str, Any], given: int | None) -> Heads:
    text = config.get("text_config")
    places = [config, text] if isinstance(text, Mapping) else [config]
    stated = next((n for where in places for key in rule.heads_keys if (n := _count(where.get(key)))), None)
    dim = next((n for where in places if (n := _count(where.get("head_dim")))), None)
    if given is not None and stated is not None and given != stated and rule.heads is None:
        raise UsageError(
            "heads-conflict",
            f"--heads is {given}, and the config of this model says {stated}",
            hint="Leave --heads out, or correct config.json; `heads` in a file for --rules overrides both.",
        )
    return Heads(rule.heads or given or stated, dim)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _tied(
    rule: Rule,
    config: Mapping[str, Any] | None,
    places: Mapping[str, Place],
    tensors: Tensors,
    shared: Mapping[str, str],
) -> dict[str, str]:
    """Return tensor → the tensor counted in its place: the embedding if one of them is, else the one that ``shared``
    gives.
    """
    found: dict[str, str] = {}
    sets: dict[str, list[str]] = {}
    for name in places:
        sets.setdefault(shared.get(name, name), []).append(name)
    for root, names in sets.items():
        first = root if root in names else names[0]
        counted = next((n for n in names if places[n].role == "embedding"), first)
        found |= {name: counted for name in names if name != counted}
    if config is not None and config.get("tie_word_embeddings", rule.tied_by_default):
        for text, source in rule.tied:
            found |= _pairs(text, source, [n for n in places if n not in found], tensors)
    return found


def _pairs(text: str, source: str, names: Iterable[str], tensors: Tensors) -> dict[str, str]:
    names = list(names)
    sources = [n for n in names if ending(source).match(n)]
    heads = [n for n in names if ending(text).match(n)]
    alike = {h: next((s for s in sources if tensors[s][0] == tensors[h][0]), None) for h in heads}
    return {head: other for head, other in alike.items() if other is not None}


def _may_be_split(role: Fused, name: str, choice: Choice, tensors: Tensors, heads: Heads) -> bool:
    """Return whether a fused tensor is divided into its parts: where a config or the user names the architecture, or names alone do and the
    shapes are those of its layout.
    """
    if not choice.trusted or not choice.by_names:
        return choice.trusted
    if role.axis == "expert-rows":  # others keep [experts, in, features], or gate and up in turn, under this name
        query = tensors.get(f"{name.partition('.mlp.')[0]}.self_attn.q_proj.weight", ((), ""))[0]
        return len(query) == 2 and tensors[name][0][2:] == query[1:] != tensors[name][0][1:2]
    weight = LEAF.sub(".weight", name)
    of = weight if weight in tensors else name
    if role.layout == "concatenated":
        try:
            part_extents(role, of, tensors[of][0], tensors[of][0], heads)
        except Refused:
            return False
    return True


def _blocks(at: Place, layer: str, split: bool, tensors: Tensors, heads: Heads) -> Iterable[Block]:
    shape = tensors[at.name][0]
    if not isinstance(at.role, Fused):
        return [Block(at.name, at.name, "", layer, at.role, whole(shape))]
    if not split:
        return [Block(at.name, at.name, "", layer, "", whole(shape))]
    weight = tensors.get(LEAF.sub(".weight", at.name), ((), ""))[0]
    extents = part_extents(at.role, at.name, shape, weight, heads)
    return [
        Block(f"{at.name}[{part}]", at.name, part, layer, component, extent)
        for (part, component), extent in zip(at.role.parts, extents, strict=True)
    ]


_SIDE_BY_SIDE: Final = {
    "concatenated": "one after the other",
    "interleaved": "head by head",
    "grouped-concatenated": "one after the other",
    "grouped-interleaved": "group by group of heads",
}


def _assumed(names: list[str], fused: Fused, choice: Choice, heads: Heads) -> str:
    """Say which layout tensors are taken to have by their names alone."""
    of_heads = "" if fused.layout == "concatenated" else f", {heads.heads} heads"
    parts = f"{', '.join(part for part, _ in fused.parts)} {_SIDE_BY_SIDE[fused.layout]}{of_heads}"
    return (
        f"{_first_weight(names)}: taken to hold {parts}, as in {choice.rule.key}, by the names alone, since no config.json says which "
        "model this is; a file for --rules says otherwise"
    )


def _note_unsplit(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (
        f"{_first_weight(names)}: left whole, as the layout of fused tensors in this architecture is not known; "
        "a file for --rules can say it",
    )


def _first_weight(names: list[str]) -> str:
    """Return the first of some names that is not a bias's, and how many more there are."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return next((n for n in names if not n.endswith("bias")), names[0]) + more
