"""The table of architectures, one row each. Add a row to add an architecture.

The names and layouts are those that the libraries' own modules write; ``tests/anatomy`` compares every fused row with the queries,
keys and values that the module computes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trajsvc.anatomy.adapters import base_name
from trajsvc.anatomy.rule import CROSS_QKV, GATE_UP, LEAF, Fused, Rule, ending, layer_pattern, pattern

_LM_HEAD: Final = ("lm_head", "unembedding")
_NUMBER: Final = re.compile(r"(?<![^.])[0-9]+(?![^.])")
_MASKS: Final = ("attn.bias", "attn.masked_bias", "crossattention.bias", "crossattention.masked_bias")

TABLE: Final[tuple[Rule, ...]] = (
    Rule(
        key="gpt-neox",
        model_types=("gpt_neox",),
        architectures=("GPTNeoX",),
        marks=("layers.#.attention.query_key_value.weight",),
        layers="layers.#",
        inside=(
            ("attention.query_key_value", Fused("interleaved")),
            ("attention.dense", "attention.out"),
            ("mlp.dense_h_to_4h", "mlp.in"),
            ("mlp.dense_4h_to_h", "mlp.out"),
            ("(input|post_attention)_layernorm", "norm"),
        ),
        outside=(("embed_in", "embedding"), ("embed_out", "unembedding"), _LM_HEAD, ("final_layer_norm", "norm")),
        buffers=("attention.bias", "attention.masked_bias"),
        tied=(("(embed_out|lm_head).weight", "embed_in.weight"),),
    ),
    Rule(
        key="bloom",
        model_types=("bloom",),
        architectures=("Bloom",),
        marks=("h.#.self_attention.query_key_value.weight", "word_embeddings_layernorm.weight"),
        layers="h.#",
        inside=(
            ("self_attention.query_key_value", Fused("interleaved")),
            ("self_attention.dense", "attention.out"),
            ("mlp.dense_h_to_4h", "mlp.in"),
            ("mlp.dense_4h_to_h", "mlp.out"),
            ("(input|post_attention)_layernorm", "norm"),
        ),
        outside=(("word_embeddings", "embedding"), _LM_HEAD, ("word_embeddings_layernorm|ln_f", "norm")),
        tied=(("lm_head.weight", "word_embeddings.weight"),),
        tied_by_default=True,
    ),
    Rule(
        # Multi-head, multi-query and the new decoder are one layout with kv = heads, 1 and num_kv_heads; the shape tells which.
        # The config's num_kv_heads does not: it is the number of heads in a multi-query model.
        key="falcon",
        model_types=("falcon", "RefinedWeb", "RefinedWebModel"),
        architectures=("Falcon", "RW"),
        marks=("h.#.self_attention.query_key_value.weight",),
        layers="h.#",
        inside=(
            ("self_attention.query_key_value", Fused("grouped-interleaved")),
            ("self_attention.dense", "attention.out"),
            ("mlp.dense_h_to_4h", "mlp.in"),
            ("mlp.dense_4h_to_h", "mlp.out"),
            ("(input|post_attention)_layernorm|ln_attn|ln_mlp", "norm"),
        ),
        outside=(("word_embeddings", "embedding"), _LM_HEAD, ("ln_f", "norm")),
        tied=(("lm_head.weight", "word_embeddings.weight"),),
        tied_by_default=True,
    ),
    Rule(
        # A Conv1D keeps [in, 3 out]; scripts that rewrote the model with Linear layers keep [3 out, in] under the same names.
        key="gpt-2",
        model_types=("gpt2",),
        architectures=("GPT2",),
        marks=("h.#.attn.c_attn.weight",),
        layers="h.#",
        inside=(
            ("attn.c_attn", Fused("concatenated", axis="either")),
            ("attn.c_proj", "attention.out"),
            ("crossattention.q_attn", "cross-attention.q"),
            ("crossattention.c_attn", Fused("concatenated", CROSS_QKV[1:], axis="either")),
            ("crossattention.c_proj", "cross-attention.out"),
            ("mlp.c_fc", "mlp.in"),
            ("mlp.c_proj", "mlp.out"),
            (r"ln_\d|ln_cross_attn", "norm"),
        ),
        outside=(("wte|wpe", "embedding"), _LM_HEAD, ("ln_f", "norm")),
        buffers=_MASKS,
        tied=(("lm_head.weight", "wte.weight"),),
        tied_by_default=True,
    ),
    Rule(
        key="gpt-j",
        model_types=("gptj",),
        architectures=("GPTJ",),
        marks=("h.#.attn.q_proj.weight", "h.#.mlp.fc_in.weight"),
        layers="h.#",
        inside=(
            ("attn.q_proj", "attention.q"),
            ("attn.k_proj", "attention.k"),
            ("attn.v_proj", "attention.v"),
            ("attn.out_proj", "attention.out"),
            ("mlp.fc_in", "mlp.in"),
            ("mlp.fc_out", "mlp.out"),
            (r"ln_\d", "norm"),
        ),
        outside=(("wte", "embedding"), _LM_HEAD, ("ln_f", "norm")),
        buffers=_MASKS,
        tied=(("lm_head.weight", "wte.weight"),),
    ),
    Rule(
        key="gpt-neo",
        model_types=("gpt_neo",),
        architectures=("GPTNeo",),
        marks=("h.#.attn.attention.q_proj.weight",),
        layers="h.#",
        inside=(
            ("attn.attention.q_proj", "attention.q"),
            ("attn.attention.k_proj", "attention.k"),
            ("attn.attention.v_proj", "attention.v"),
            ("attn.attention.out_proj", "attention.out"),
            ("mlp.c_fc", "mlp.in"),
            ("mlp.c_proj", "mlp.out"),
            (r"ln_\d", "norm"),
        ),
        outside=(("wte|wpe", "embedding"), _LM_HEAD, ("ln_f", "norm")),
        buffers=("attn.attention.bias", "attn.attention.masked_bias"),
        tied=(("lm_head.weight", "wte.weight"),),
        tied_by_default=True,
    ),
    Rule(
        key="phi-3",
        model_types=("phi3",),
        architectures=("Phi3",),
        marks=("layers.#.self_attn.qkv_proj.weight", "layers.#.mlp.gate_up_proj.weight"),
        layers="layers.#",
        inside=(
            ("self_attn.qkv_proj", Fused("grouped-concatenated")),
            ("self_attn.o_proj", "attention.out"),
            ("mlp.gate_up_proj", Fused("concatenated", GATE_UP)),
            ("mlp.down_proj", "mlp.out"),
            ("(input|post_attention)_layernorm", "norm"),
        ),
        outside=(("embed_tokens", "embedding"), _LM_HEAD, ("norm", "norm")),
        tied=(("lm_head.weight", "embed_tokens.weight"),),
    ),
    Rule(
        # LLaMA and those that kept its names: Mistral, Qwen, OLMo, SmolLM, Gemma …, and mixtures of experts among them.
        key="llama",
        model_types=(
            "llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "olmo", "olmo2", "olmo3", "olmoe",
            "smollm3", "gemma", "gemma2", "gemma3_text", "stablelm", "granite", "cohere",
        ),
        architectures=("Llama", "Mistral", "Mixtral", "Qwen2", "Qwen3", "Olmo", "Olmo2", "Olmo3", "SmolLM3", "Gemma", "Gemma2"),
        marks=("layers.#.self_attn.q_proj.weight", "layers.#.self_attn.o_proj.weight"),
        layers="layers.#",
        inside=(
            ("self_attn.q_proj", "attention.q"),
            ("self_attn.k_proj", "attention.k"),
            ("self_attn.v_proj", "attention.v"),
            ("self_attn.o_proj", "attention.out"),
            ("mlp.(experts.#.|shared_expert.)?gate_proj|block_sparse_moe.experts.#.w1", "mlp.gate"),
            ("mlp.(experts.#.|shared_expert.)?up_proj|block_sparse_moe.experts.#.w3", "mlp.in"),
            ("mlp.(experts.#.|experts.|shared_expert.)?down_proj|block_sparse_moe.experts.#.w2", "mlp.out"),
            ("mlp.experts.gate_up_proj", Fused("concatenated", GATE_UP, axis="expert-rows")),
            (r"(\w+_layernorm)|self_attn.[qk]_(norm|layernorm)", "norm"),
        ),
        outside=(("embed_tokens", "embedding"), _LM_HEAD, ("norm", "norm")),
        tied=(("lm_head.weight", "embed_tokens.weight"),),
    ),
    Rule(
        key="phi",
        model_types=("phi",),
        architectures=("Phi",),
        marks=("layers.#.self_attn.q_proj.weight", "layers.#.self_attn.dense.weight"),
        layers="layers.#",
        inside=(
            ("self_attn.q_proj", "attention.q"),
            ("self_attn.k_proj", "attention.k"),
            ("self_attn.v_proj", "attention.v"),
            ("self_attn.dense", "attention.out"),
            ("mlp.fc1", "mlp.in"),
            ("mlp.fc2", "mlp.out"),
            ("input_layernorm|self_attn.[qk]_layernorm", "norm"),
        ),
        outside=(("embed_tokens", "embedding"), _LM_HEAD, ("final_layernorm", "norm")),
        tied=(("lm_head.weight", "embed_tokens.weight"),),
    ),
    Rule(
        # OPT, and the encoders and decoders of BART, Whisper and CLIP, which kept its names.
        key="opt",
        model_types=("opt",),
        architectures=("OPT",),
        marks=("layers.#.self_attn.q_proj.weight", "layers.#.self_attn.out_proj.weight", "layers.#.(mlp.)?fc1.weight"),
        layers="layers.#",
        inside=(
            ("self_attn.q_proj", "attention.q"),
            ("self_attn.k_proj", "attention.k"),
            ("self_attn.v_proj", "attention.v"),
            ("self_attn.out_proj", "attention.out"),
            ("encoder_attn.q_proj", "cross-attention.q"),
            ("encoder_attn.k_proj", "cross-attention.k"),
            ("encoder_attn.v_proj", "cross-attention.v"),
            ("encoder_attn.out_proj", "cross-attention.out"),
            ("(mlp.)?fc1", "mlp.in"),
            ("(mlp.)?fc2", "mlp.out"),
            (r"\w*layer_norm\d?", "norm"),
        ),
        outside=(("embed_tokens|embed_positions|shared", "embedding"), _LM_HEAD, (r"\w*layer_?norm\w*", "norm")),
        tied=(("lm_head.weight", "(embed_tokens|shared).weight"),),
        tied_by_default=True,
    ),
    Rule(
        key="bert",
        model_types=("bert", "roberta", "xlm-roberta", "camembert", "electra"),
        architectures=("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra"),
        marks=("layer.#.attention.self.query.weight",),
        layers="encoder.layer.#",
        inside=(
            ("attention.self.query", "attention.q"),
            ("attention.self.key", "attention.k"),
            ("attention.self.value", "attention.v"),
            ("attention.output.dense", "attention.out"),
            ("crossattention.self.query", "cross-attention.q"),
            ("crossattention.self.key", "cross-attention.k"),
            ("crossattention.self.value", "cross-attention.v"),
            ("crossattention.output.dense", "cross-attention.out"),
            ("intermediate.dense", "mlp.in"),
            ("output.dense", "mlp.out"),
            ("((cross)?attention.)?output.LayerNorm", "norm"),
        ),
        outside=(
            ("embeddings.(word|position|token_type)_embeddings", "embedding"),
            ("cls.predictions(.decoder)?|lm_head(.decoder)?", "unembedding"),
            ("LayerNorm|lm_head.layer_norm", "norm"),
        ),
        tied=(
            ("(cls.predictions|lm_head).decoder.weight", "embeddings.word_embeddings.weight"),
            ("cls.predictions.decoder.bias", "cls.predictions.bias"),
            ("lm_head.decoder.bias", "lm_head.bias"),
        ),
        tied_by_default=True,
    ),
    Rule(
        # The two halves of Wi are the activated branch and the one it is multiplied with: gate and up by their role.
        key="modernbert",
        model_types=("modernbert", "modernbert-decoder"),
        architectures=("ModernBert",),
        marks=("layers.#.attn.Wqkv.weight", "layers.#.mlp.Wi.weight"),
        layers="layers.#",
        inside=(
            ("attn.Wqkv", Fused("concatenated")),
            ("attn.Wo", "attention.out"),
            ("mlp.Wi", Fused("concatenated", GATE_UP)),
            ("mlp.Wo", "mlp.out"),
            ("attn_norm|mlp_norm", "norm"),
        ),
        outside=(
            ("embeddings.tok_embeddings", "embedding"),
            ("decoder", "unembedding"),
            ("embeddings.norm|final_norm|head.norm", "norm"),
        ),
        tied=(("decoder.weight", "embeddings.tok_embeddings.weight"),),
        tied_by_default=True,
    ),
    Rule(
        # Files of transformers' ViT have BERT-like names; its modules, since version 5, those of the second alternatives.
        key="vit",
        model_types=("vit", "deit", "vit_mae"),
        architectures=("ViT", "DeiT"),
        marks=("encoder.layer.#.attention.attention.query.weight|layers.#.attention.q_proj.weight",),
        layers="(encoder.layer|layers).#",
        inside=(
            ("attention.attention.query|attention.q_proj", "attention.q"),
            ("attention.attention.key|attention.k_proj", "attention.k"),
            ("attention.attention.value|attention.v_proj", "attention.v"),
            ("attention.output.dense|attention.o_proj", "attention.out"),
            ("intermediate.dense|mlp.fc1", "mlp.in"),
            ("output.dense|mlp.fc2", "mlp.out"),
            ("layernorm_(before|after)", "norm"),
        ),
        outside=(
            (r"embeddings.(\w+_token|position_embeddings|patch_embeddings.projection)", "embedding"),
            ("layernorm", "norm"),
        ),
    ),
    Rule(
        key="vit-timm",
        model_types=(),
        marks=("blocks.#.attn.(qkv|q).weight", "blocks.#.mlp.fc1.weight"),
        layers="blocks.#",
        inside=(
            ("attn.qkv", Fused("concatenated")),
            ("attn.q", "attention.q"),
            ("attn.k", "attention.k"),
            ("attn.v", "attention.v"),
            ("attn.proj", "attention.out"),
            ("mlp.fc1", "mlp.in"),
            ("mlp.fc2", "mlp.out"),
            (r"norm\d|attn.[qk]_norm|attn.norm|mlp.norm", "norm"),
        ),
        outside=((r"(cls|reg|dist)_token|pos_embed|patch_embed.proj", "embedding"), (r"norm|fc_norm|norm_pre", "norm")),
    ),
    Rule(
        # TransformerLens: a tensor has an axis of heads, [heads, d_model, d_head] for Q, K and V; of shared keys and values
        # the stored ones begin with an underscore.
        key="transformer-lens",
        marks=("(blocks|encoder|decoder).#.attn.W_Q",),
        layers="(blocks|encoder|decoder).#",
        inside=(
            ("attn.[Wb]_Q", "attention.q"),
            ("attn._?[Wb]_K", "attention.k"),
            ("attn._?[Wb]_V", "attention.v"),
            ("attn.[Wb]_O", "attention.out"),
            ("cross_attn.[Wb]_Q", "cross-attention.q"),
            ("cross_attn._?[Wb]_K", "cross-attention.k"),
            ("cross_attn._?[Wb]_V", "cross-attention.v"),
            ("cross_attn.[Wb]_O", "cross-attention.out"),
            ("mlp.(experts.#.)?([Wb]_in)", "mlp.in"),
            ("mlp.(experts.#.)?([Wb]_gate)", "mlp.gate"),
            ("mlp.(experts.#.)?([Wb]_out)", "mlp.out"),
            (r"(ln\d\w*|(mlp|attn).ln|attn.[qk]_norm).(w|b)", "norm"),
        ),
        outside=(
            ("embed.W_E|pos_embed.W_pos|embed.(ln.)?(w|b)|token_type_embed.W_token_type", "embedding"),
            ("unembed.[Wb]_U|unembed.[Wb]_D", "unembedding"),
            (r"\w*ln_final.(w|b)", "norm"),
        ),
        buffers=("attn.(mask|IGNORE|rotary_(sin|cos)|alibi)",),
    ),
    Rule(
        # torch.nn.MultiheadAttention wherever it stands, and the layers of torch.nn.Transformer.
        key="torch-mha",
        marks=("in_proj_weight|q_proj_weight",),
        layers="layers.#",
        inside=(
            ("multihead_attn.in_proj_(weight|bias)", Fused("concatenated", CROSS_QKV)),
            ("multihead_attn.q_proj_weight", "cross-attention.q"),
            ("multihead_attn.k_proj_weight", "cross-attention.k"),
            ("multihead_attn.v_proj_weight", "cross-attention.v"),
            ("multihead_attn.out_proj", "cross-attention.out"),
            (r"(\w+.)*in_proj_(weight|bias)", Fused("concatenated")),
            (r"(\w+.)*q_proj_weight", "attention.q"),
            (r"(\w+.)*k_proj_weight", "attention.k"),
            (r"(\w+.)*v_proj_weight", "attention.v"),
            (r"(\w+.)*out_proj", "attention.out"),
            ("linear1", "mlp.in"),
            ("linear2", "mlp.out"),
            (r"norm\d", "norm"),
        ),
        outside=(
            ("in_proj_(weight|bias)", Fused("concatenated")),
            ("q_proj_weight", "attention.q"),
            ("k_proj_weight", "attention.k"),
            ("v_proj_weight", "attention.v"),
            ("out_proj", "attention.out"),
        ),
    ),
)  # fmt: skip

GENERIC: Final = Rule(key="generic", layers="", inside=())
"""Any other network, by module path: no components, no parts."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The rule for a checkpoint. ``trusted`` says whether the config names it: then its layouts are those of the tensors."""

    rule: Rule
    trusted: bool
    notes: tuple[str, ...] = ()
    by_names: bool = False
    """whether the names alone speak for the rule, and no config says anything"""


@dataclass(frozen=True, slots=True)
class Rules:
    """The user's own rows, which come before those of the table."""

    rows: tuple[Rule, ...] = ()
    origin: str = ""
    text: str = ""
    """the TOML they were read from"""

    def choose(self, names: Collection[str], config: Mapping[str, Any] | None = None) -> Choice:
        """Choose the rule for a checkpoint with these tensors.

        The user's first rule that fits comes first, then the one that the config names, then the first whose marks the
        names have.

        A rule of the user's fits by its marks or by what it says of a config, or always when it says neither. Of the
        table's rules, one found by names alone is trusted if no config contradicts it: a ``model_type`` that is not in
        the table may reuse a name for another layout.
        """
        kinds = {_NUMBER.sub("0", base_name(name)) for name in names}
        config = config or {}
        for rule in self.rows:
            always = not (rule.model_types or rule.architectures)
            if _marked(rule, kinds) and (rule.marks or always or _named(rule, config)):
                return Choice(rule, True)
        notes = [f"no rule of {self.origin} fits these tensors"] if self.rows else []
        for rule in TABLE:
            if _named(rule, config) and _marked(rule, kinds):
                return Choice(rule, True, tuple(notes))
        model_type = config.get("model_type")
        if model_type is not None:
            notes.append(f"no rule for model_type {model_type!r} fits these tensors")
        for rule in TABLE:
            if _marked(rule, kinds):
                notes.append(f"rule {rule.key} was chosen by the tensors' names")
                return Choice(rule, model_type is None, tuple(notes), model_type is None)
        adapted = _of_adapters(names, config)
        if adapted is not None:
            notes.append(f"rule {adapted.key} was chosen by the names of the adapted modules")
            return Choice(adapted, model_type is None, tuple(notes), model_type is None)
        return Choice(GENERIC, True, tuple(notes))


def _of_adapters(names: Collection[str], config: Mapping[str, Any]) -> Rule | None:
    """Return the rule that knows most of the modules that hold adapters; None without adapters or such a rule.

    Adapters stand in few of the model's modules, so that a rule's marks may be missing. A rule that the config names
    comes first.
    """
    modules = {_NUMBER.sub("0", base_name(name)) for name in names if base_name(name) != name}
    known = {rule.key: sum(bool(_role(rule, module)) for module in modules) for rule in TABLE}
    best = max(TABLE, key=lambda rule: (known[rule.key] > 0 and _named(rule, config), known[rule.key]))
    return best if modules and known[best.key] else None


def _role(rule: Rule, name: str) -> str | Fused:
    found = layer_pattern(rule.layers).match(name) if rule.layers else None
    inside = LEAF.sub("", found["inside"]) if found else ""
    return next((role for text, role in rule.inside if found and pattern(text).match(inside)), "")


def _named(rule: Rule, config: Mapping[str, Any]) -> bool:
    if config.get("model_type") in rule.model_types:
        return True
    classes = config.get("architectures")
    known = [c for c in classes if isinstance(c, str)] if isinstance(classes, list | tuple) else []
    return any(re.fullmatch(rf"(?:{'|'.join(map(re.escape, rule.architectures))})(?:For|Model|LMHead|PreTrained)\w*", c)
               for c in known if rule.architectures)  # fmt: skip


def _marked(rule: Rule, kinds: Collection[str]) -> bool:
    return all(any(ending(mark).match(kind) for kind in kinds) for mark in rule.marks)


def rows() -> Iterator[Rule]:
    """Yield the table's rules, the generic one last."""
    yield from TABLE
    yield GENERIC
