"""The probes that are built in: what an example is and what its loss, which network a checkpoint gets, and what is refused."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trajsvc
from storage_schema.runs.reader import StoredRun
from trajsvc.errors import NotFound, Refused, TrajsvcError, UsageError
from trajsvc.gradients.checkpoint import Checkpoints
from trajsvc.gradients.compute import compute_gradients
from trajsvc.gradients.network import Network, network_at
from trajsvc.gradients.options import GradientOptions
from trajsvc.gradients.probes import resolve
from trajsvc.gradients.probes.base import Probe, ProbeContext
from trajsvc.gradients.probes.causal_lm import CausalLM
from trajsvc.gradients.probes.image_classifier import ImageClassifier
from trajsvc.gradients.sets.base import SetJob
from trajsvc.gradients.sets.moved_weights import weights_set
from trajsvc.gradients.sets.of_examples import example_set
from trajsvc.gradients.sets.of_inputs import inputs_set

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = EXAMPLES / "genesis.txt"
NANO = EXAMPLES / "pythia-nano"
VOCABULARY = 40


def options(data: Path, **more: Any) -> GradientOptions:
    return GradientOptions(**{"probe": "causal-lm", "data": str(data), "length": 8, "examples": 4, "batch": 2, **more})


def language_model(data: Path, folder: Path | None = None, config: Any = None, **more: Any) -> CausalLM:
    return CausalLM(ProbeContext(data, options(data, **more), config, folder))


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    np.save(path, np.random.default_rng(0).integers(0, VOCABULARY, size=8 * 8 + 5).astype(np.uint16))
    return path


def test_examples_are_consecutive_windows_and_a_rest_is_left_out(ids: Path) -> None:
    tokens = np.load(ids)
    probe = language_model(ids)
    assert len(probe.examples) == 8
    assert np.concatenate(probe.examples).tolist() == tokens[:64].tolist()
    assert language_model(ids, length=32).digest == probe.digest
    changed = tokens.copy()
    changed[-1] += 1
    np.save(ids.parent / "changed.npy", changed)
    assert language_model(ids.parent / "changed.npy").digest != probe.digest


def test_text_is_tokenised_whole_without_special_tokens_whatever_the_tokenizer_would_cut(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    text = TEXT.read_bytes()[:999] + b"\r\n\xe2\x80\x9cwords\xe2\x80\x9d\r\n"
    (tmp_path / "text.txt").write_bytes(text)
    described = json.loads((NANO / "tokenizer.json").read_text())
    described["truncation"] = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    whole = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    found = np.concatenate(language_model(tmp_path / "text.txt", tmp_path / "step0", length=2).examples)
    assert whole.decode(found.tolist()).encode() in (text, text[:-1], text[:-2], text[:-3])
    named = language_model(tmp_path / "text.txt", tokenizer=str(NANO / "tokenizer.json"), length=2)
    assert np.concatenate(named.examples).tolist() == found.tolist()


def test_a_tokenizer_that_is_not_one_file_is_read_too(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_file=str(NANO / "tokenizer.json"), bos_token="<|endoftext|>").save_pretrained(
        tmp_path
    )
    found = language_model(TEXT, tmp_path)
    expected = language_model(TEXT, NANO)
    assert found.digest == expected.digest


def test_bytes_are_ids_when_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "any.bin").write_bytes(bytes(range(256)))
    probe = language_model(tmp_path / "any.bin", tokenizer="bytes", length=16)
    assert np.concatenate(probe.examples).tolist() == list(range(256))


def test_what_is_no_text_for_the_network_is_refused_with_what_to_do(tmp_path: Path, ids: Path) -> None:
    latin, floats, archive, short = (tmp_path / name for name in ("latin.txt", "f.npy", "z.npy", "s.npy"))
    latin.write_bytes("ä".encode("latin-1") * 20)
    np.save(floats, np.ones(30))
    np.savez(tmp_path / "z.npz", a=np.arange(30))
    (tmp_path / "z.npz").rename(archive)
    np.save(short, np.arange(7))
    cases: list[tuple[Path, dict[str, Any], str, str]] = [
        (tmp_path / "none.txt", {}, "data-not-found", "none.txt"),
        (latin, {}, "bad-data", "not UTF-8"),
        (TEXT, {"folder": tmp_path / "step0"}, "tokenizer-not-found", "no tokenizer in"),
        (TEXT, {"tokenizer": str(tmp_path / "nowhere")}, "tokenizer-not-found", "nowhere"),
        (floats, {}, "bad-data", "no token ids but float64"),
        (archive, {}, "bad-data", "no token ids"),
        (short, {}, "bad-data", "7 tokens, fewer than one window of 8"),
        (ids, {"config": {"vocab_size": 39}}, "bad-data", "a vocabulary of 39"),
        (ids, {"config": {"max_position_embeddings": 4}}, "bad-data", "at most 4"),
    ]  # fmt: skip
    for path, given, kind, words in cases:
        with pytest.raises(TrajsvcError) as caught:
            language_model(path, **given)
        assert (caught.value.kind, words in caught.value.message) == (kind, True), caught.value
        assert caught.value.hint


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt_neox": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "llama": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 32, "tie_word_embeddings": True,
    },
}  # fmt: skip


def saved(folder: Path, kind: str, steps: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Checkpoints as the library writes them."""
    from transformers import AutoConfig, AutoModelForCausalLM

    given = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, **ARCHITECTURES[kind]}
    for step in steps:
        torch.manual_seed(step)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **given)).save_pretrained(folder / f"step{step}")
    return folder


def run_of(folder: Path, store: Path) -> StoredRun:
    trajsvc.analyze(folder, store=store, name="run", threads=1)
    found = trajsvc.open(store, "run").stored
    assert isinstance(found, StoredRun)
    return found


def network(run: StoredRun, probe: Probe, step: int) -> Network:
    reader = Checkpoints(run)
    return network_at(probe, reader.read(step), reader.options)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_language_model_has_the_runs_blocks_and_the_librarys_losses(kind: str, ids: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = saved(tmp_path / "checkpoints", kind)
    run = run_of(folder, tmp_path / "store")
    probe = language_model(ids)
    found = network(run, probe, 1)
    assert sorted(b.name for b in found.blocks) == sorted(run.blocks.name)
    assert {b.name: b.component for b in found.blocks} == dict(zip(run.blocks.name, run.blocks.component, strict=True))
    library = AutoModelForCausalLM.from_pretrained(folder / "step1", dtype=torch.float64).eval()
    losses = probe.losses(found.module, probe.examples[:3]).detach().numpy()
    for loss, window in zip(losses, probe.examples, strict=False):
        logits = library(input_ids=torch.as_tensor(window)[None]).logits[0, :-1].detach().double().log_softmax(dim=1)
        expected = -logits[range(7), window[1:]].mean()
        assert loss == pytest.approx(float(expected), rel=1e-6)  # parts of the library alone compute in float32
    x = probe.inputs(found.module, probe.examples[:3])
    at = probe.losses_at(found.module, x, probe.examples[:3]).detach().numpy()
    assert at == pytest.approx(losses, rel=1e-13)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_language_model_of_float64_computes_in_float64(kind: str, ids: Path, tmp_path: Path) -> None:
    """The library casts to float32 in norms and in the attention, which would leave 1e-7 of a gradient as noise."""
    run = run_of(saved(tmp_path / "checkpoints", kind), tmp_path / "store")
    probe = language_model(ids)
    job = SetJob(network(run, probe, 1), probe, options(ids, directions=1, eta=1e-5))
    found = weights_set(job)
    assert found.facts["noise_floor"] < 1e-13
    coarse, fine = np.sqrt(np.diagonal(found.gram.sum(axis=0))[1:])
    assert coarse / fine == pytest.approx(10.0, rel=1e-2)  # a move this small is answered linearly


def test_gradients_at_moved_embeddings_have_the_embeddings_own(ids: Path, tmp_path: Path) -> None:
    run = run_of(saved(tmp_path / "checkpoints", "gpt_neox"), tmp_path / "store")
    probe = language_model(ids)
    job = SetJob(network(run, probe, 1), probe, options(ids, directions=1, examples=2, batch=1))
    found = inputs_set(job)
    embedding = next(i for i, b in enumerate(found.blocks) if b.component == "embedding")
    plain = job.gradient([0])
    squares = job.squares(plain)
    assert np.diagonal(found.gram[:, :1, :1], axis1=1, axis2=2)[:, 0] == pytest.approx(squares, rel=1e-10)
    assert found.gram[embedding, 1, 1] > 0.0


@pytest.mark.slow
def test_the_example_that_ships_is_computed_as_its_readme_says(tmp_path: Path) -> None:
    trajsvc.analyze(NANO, store=tmp_path, name="nano", threads=1)
    chosen = GradientOptions(probe="causal-lm", data=str(TEXT), examples=6, batch=2, length=32, steps="64,1500,5000")
    assert compute_gradients(tmp_path, "nano", chosen).computed == (64, 1500, 5000)
    found = trajsvc.open(tmp_path, "nano").gradients("example")
    names = set(found.stored.blocks.name)
    assert {"embed_out.weight", "gpt_neox.layers.0.attention.query_key_value.weight[q]"} <= names
    losses = [found.stored.facts(step)["loss"] for step in (64, 1500, 5000)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 3.0  # nats of a token: the text is of the book it was trained on


def images(path: Path, count: int = 6, **more: Any) -> Path:
    rng = np.random.default_rng(1)
    np.savez(path, **{"x": rng.normal(size=(count, 3, 8, 8)).astype(np.float32), "y": np.arange(count) % 4, **more})
    return path


def test_an_image_classifier_of_the_library_has_the_cross_entropies_of_its_logits(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    given = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    for step in (0, 1):
        torch.manual_seed(step)
        config = ViTConfig(**given, image_size=8, patch_size=4, num_labels=4)
        ViTForImageClassification(config).save_pretrained(tmp_path / "checkpoints" / f"step{step}")
    run = run_of(tmp_path / "checkpoints", tmp_path / "store")
    data = images(tmp_path / "images.npz")
    probe = ImageClassifier(ProbeContext(data, options(data)))
    found = network(run, probe, 1)
    assert sorted(b.name for b in found.blocks) == sorted(run.blocks.name)
    x, y = np.load(data)["x"], np.load(data)["y"]
    logits = found.module(torch.as_tensor(x).double()).logits.log_softmax(dim=1).detach().numpy()
    losses = probe.losses(found.module, probe.examples).detach().numpy()
    assert losses == pytest.approx(-logits[range(6), y], rel=1e-12)
    job = SetJob(found, probe, options(data, directions=1))
    assert inputs_set(job).scalars["input_squares"][0] == pytest.approx((x[:4].astype(float) ** 2).sum((1, 2, 3)))


def test_a_residual_network_is_evaluated_by_the_running_statistics_of_its_files(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=4)
    for step in (0, 1):
        torch.manual_seed(step)
        made = ResNetForImageClassification(config)
        made(torch.randn(9, 3, 8, 8))  # in training mode: the running statistics move
        made.eval().save_pretrained(tmp_path / "checkpoints" / f"step{step}")
    run = run_of(tmp_path / "checkpoints", tmp_path / "store")
    data = images(tmp_path / "images.npz")
    probe = ImageClassifier(ProbeContext(data, options(data)))
    found = network(run, probe, 1)
    assert sorted(b.name for b in found.blocks) == sorted(run.blocks.name)
    logits = made.double()(torch.as_tensor(np.load(data)["x"]).double()).logits.log_softmax(dim=1).detach().numpy()
    losses = probe.losses(found.module, probe.examples).detach().numpy()
    assert losses == pytest.approx(-logits[range(6), np.load(data)["y"]], rel=1e-12)
    job = SetJob(found, probe, options(data))
    made_grams = example_set(job).gram.sum(axis=0)
    rows = np.stack([np.concatenate([g.reshape(-1).numpy() for g in job.gradient([i]).values()]) for i in range(4)])
    assert made_grams == pytest.approx(rows @ rows.T, rel=1e-10)


def test_files_that_hold_no_images_are_refused_with_what_they_hold(tmp_path: Path) -> None:
    bad = {
        "labels": {"y": np.arange(5)}, "whole": {"x": np.ones((6, 3, 8, 8), int)}, "wrong": {"y": np.ones(6)},
        "nan": {"x": np.full((6, 3, 8, 8), np.nan)}, "negative": {"y": np.arange(6) - 1},
    }  # fmt: skip
    for name, change in bad.items():
        data = images(tmp_path / f"{name}.npz", **change)
        with pytest.raises(Refused) as caught:
            ImageClassifier(ProbeContext(data, options(data)))
        assert caught.value.kind == "bad-data"
        assert "numpy.savez" in (caught.value.hint or "")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(Refused, match=r"text.npz"):
        ImageClassifier(ProbeContext(tmp_path / "text.npz", options(tmp_path)))


def test_a_checkpoint_without_a_description_of_its_network_is_refused(ids: Path) -> None:
    for config, words in ((None, "no config.json"), ({"model_type": "unheard-of"}, "unheard-of")):
        with pytest.raises(Refused) as caught:
            language_model(ids).network(config)
        assert caught.value.kind == "network-unknown"
        assert words in caught.value.message


def test_without_the_library_one_is_told_how_to_install_it(ids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError) as caught:
        language_model(ids).network({"model_type": "gpt2"})
    assert caught.value.kind == "extra-missing"
    assert "pip install 'trajsvc[gradients]'" in (caught.value.hint or "")


def test_probes_are_found_by_name_and_by_path_only_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve.find_probe("causal-lm") is CausalLM
    assert resolve.find_probe("tiny_runs:TinyProbe", by_path=True).__name__ == "TinyProbe"  # type: ignore[attr-defined]
    installed = EntryPoint("mine", "tiny_runs:TinyProbe", resolve.GROUP)
    monkeypatch.setattr(resolve, "entry_points", lambda group: [installed])
    assert resolve.find_probe("mine").__name__ == "TinyProbe"  # type: ignore[attr-defined]
    assert resolve.probe_names() == ["causal-lm", "image-classifier", "mine"]


@pytest.mark.parametrize(
    ("name", "by_path", "kind", "words"),
    [
        ("tiny_runs:TinyProbe", False, "probe-not-found", "tiny_runs"),
        ("os:system", False, "probe-not-found", "os:system"),
        ("causal", True, "probe-not-found", "causal"),
        ("no_such_module:Probe", True, "bad-probe", "no_such_module"),
        ("tiny_runs:Missing", True, "bad-probe", "Missing"),
        ("tiny_runs:STEPS", True, "bad-probe", "STEPS"),
        (":", True, "bad-probe", ":"),
    ],
)
def test_a_name_that_is_no_probe_is_refused(name: str, by_path: bool, kind: str, words: str) -> None:
    with pytest.raises((NotFound, UsageError)) as caught:
        resolve.find_probe(name, by_path=by_path)
    assert caught.value.kind == kind
    assert words in caught.value.message
    assert "causal-lm" in (caught.value.hint or "") or kind == "bad-probe"


def test_images_that_the_network_does_not_take_are_refused_with_their_shape(tmp_path: Path) -> None:
    from transformers import ViTConfig

    given = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = ViTConfig(**given, image_size=8, patch_size=4, num_labels=3).to_dict()
    wide = np.ones((4, 3, 8, 12), np.float32)
    for change, words in (({"x": wide, "y": np.arange(4) % 3}, r"shape \(3, 8, 12\)"), ({}, "label 3, the network 3")):
        data = images(tmp_path / f"{len(words)}.npz", **change)
        with pytest.raises(Refused, match=words) as caught:
            ImageClassifier(ProbeContext(data, options(data))).network(config)
        assert caught.value.kind == "bad-data"
