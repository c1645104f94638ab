"""``--scale paper``: what it says of every experiment, and a training of a residual network on files as the papers' data has them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import in_process
import numpy as np
import pytest

from trajsvc.errors import NotFound, Refused, UsageError
from trajsvc.experiments import scaled_training
from trajsvc.experiments.base import Setting
from trajsvc.experiments.images import RECORD, TEST, TRAIN, Cifar10, ImageFolder
from trajsvc.experiments.paper_scale import CIFAR10, IMAGENET, PAPER_SCALES
from trajsvc.experiments.registry import PAPERS
from trajsvc.experiments.resnet import resnet
from trajsvc.experiments.scaled_training import trained_at_scale

HALLMARKS = {"h1", "h2", "h3", "h4", "h5", "h6", "h8", "h9"}


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    """A folder as the archive of CIFAR-10's binary version unpacks to, of four images a file."""
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k, name in enumerate((*TRAIN, TEST)):
        records = rng.integers(0, 256, (4, RECORD), dtype=np.uint8)
        records[:, 0] = (np.arange(4) + k) % 10
        records.tofile(folder / name)
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 1)):
        for label, name in enumerate(("n01", "n02")):
            folder = tmp_path / "imagenet" / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 256, (60 + 10 * k, 90, 3), dtype=np.uint8)
                pixels[..., 0] = 255 * label
                Image.fromarray(pixels).save(folder / f"{k}.JPEG")
    return tmp_path / "imagenet"


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the networks an eighth as wide, so that a training takes seconds."""

    def made(depth: int, classes: int, *, small_images: bool, width: float) -> object:
        return resnet(depth, classes, small_images=small_images, width=width / 8)

    monkeypatch.setattr(scaled_training, "resnet", made)


def test_every_experiment_of_a_paper_has_its_settings() -> None:
    assert set(PAPER_SCALES) == {e.name for e in PAPERS}
    assert {e.name for e in PAPERS if e.at_scale} == HALLMARKS
    for name, scale in PAPER_SCALES.items():
        assert all(text for _, text in scale.lines()), name
        assert ("--data DIR" in scale.data_at) == (name in HALLMARKS)


@pytest.mark.parametrize(("depth", "classes", "small", "parameters"), [
    (18, 1000, False, 11_689_512), (34, 1000, False, 21_797_672), (50, 1000, False, 25_557_032), (18, 10, True, 11_173_962),
])  # fmt: skip
def test_networks_have_as_many_parameters_as_published_ones(
    depth: int, classes: int, small: bool, parameters: int
) -> None:
    network = resnet(depth, classes, small_images=small)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_a_bottleneck_network_answers_for_every_class() -> None:
    import torch

    for depth in (18, 50):
        found = resnet(depth, 7, small_images=False, width=0.125)(torch.zeros(2, 3, 64, 64))
        assert found.shape == (2, 7)


def test_parameters_have_the_names_of_torchvisions() -> None:
    found = {name: tuple(t.shape) for name, t in resnet(50, 1000, small_images=False).state_dict().items()}
    published = {
        "conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 1, 1), "layer2.0.downsample.0.weight": (512, 256, 1, 1),
        "layer2.0.downsample.1.running_mean": (512,), "layer3.5.conv3.weight": (1024, 256, 1, 1), "layer4.2.bn3.weight": (2048,),
        "fc.bias": (1000,),
    }  # fmt: skip
    assert {name: found.get(name) for name in published} == published
    assert len(found) == 320


def test_cifar10_is_read_as_its_authors_lay_it_out(cifar10: Path) -> None:
    images = Cifar10(cifar10.parent)
    assert (Cifar10(cifar10).labels == images.labels).all()
    assert images.labels.tolist() == [(i + k) % 10 for k in range(5) for i in range(4)]
    record = np.fromfile(cifar10 / TEST, dtype=np.uint8)[RECORD : 2 * RECORD]
    ((x, y),) = images.test(8)
    assert y.tolist() == [5, 6, 7, 8]
    blue = (record[1 + 2048 + 32 * 3 + 7] / 255 - 0.4465) / 0.2616  # of row 3, column 7
    assert float(x[1, 2, 3, 7]) == pytest.approx(blue, rel=1e-5)


def test_training_images_are_shifted_and_mirrored_ones(cifar10: Path) -> None:
    images = Cifar10(cifar10)
    whole = np.pad(images._normal(images.pixels), ((0, 0), (0, 0), (4, 4), (4, 4)))
    seen, mirrored = [], 0
    for x, y in images.train(8, np.random.default_rng(1)):
        for image, label in zip(x.numpy(), y.tolist(), strict=True):
            found = [
                (i, flip)
                for i in range(20)
                if images.labels[i] == label
                for flip in (False, True)
                for down in range(9)
                for across in range(9)
                if (whole[i, :, down : down + 32, across : across + 32][..., :: -1 if flip else 1] == image).all()
            ]
            assert len(found) == 1
            seen.append(found[0][0])
            mirrored += found[0][1]
    assert sorted(seen) == list(range(20))
    assert 2 <= mirrored <= 18


@pytest.mark.parametrize("damage", ["short", "label", "missing"])
def test_what_is_not_cifar10_is_refused_with_the_file(cifar10: Path, damage: str) -> None:
    file = cifar10 / "data_batch_3.bin"
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if damage == "short" else b"\x0a" + data[1:])
    with pytest.raises((NotFound, Refused), match=r"data_batch_3\.bin") as caught:
        Cifar10(cifar10)
    assert caught.value.kind == ("data-not-found" if damage == "missing" else "bad-data")


def test_folders_of_images_are_classes(image_folder: Path) -> None:
    images = ImageFolder(image_folder)
    assert images.classes == 2
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    ((x, y),) = images.test(4)
    assert x.shape == (2, 3, 224, 224)
    red = x[:, 0].mean(dim=(1, 2))
    assert float(red[0]) < -1.5
    assert float(red[1]) > 1.5
    labels = []
    for x, y in images.train(4, np.random.default_rng(0)):
        assert x.shape[1:] == (3, 224, 224)
        assert ((x[:, 0].mean(dim=(1, 2)) > 0).long() == y).all()
        labels += y.tolist()
    assert sorted(labels) == [0, 0, 0, 1, 1, 1]
    (image_folder / "val" / "n01" / "0.JPEG").write_bytes(b"no image")
    with pytest.raises(Refused, match=r"0\.JPEG cannot be read"):
        list(images.test(4))
    with pytest.raises(NotFound, match="train"):
        ImageFolder(image_folder / "val")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cifar10", "imagenet"])
def test_a_checkpoint_an_epoch(
    kind: str, cifar10: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file

    narrow(monkeypatch)
    training = replace(CIFAR10 if kind == "cifar10" else IMAGENET, epochs=2)
    setting = Setting(tmp_path, tmp_path / "store", (0,), data=cifar10 if kind == "cifar10" else image_folder)
    out = tmp_path / "run"
    out.mkdir()
    result = trained_at_scale(training, out, setting)
    assert sorted(f.name for f in out.iterdir()) == [f"epoch_{k}.safetensors" for k in range(3)]
    before, after = (load_file(out / f"epoch_{k}.safetensors") for k in (0, 2))
    assert all((before[n] != after[n]).any() for n in ("conv1.weight", "fc.weight", "layer4.0.conv1.weight"))
    assert 0.0 <= result["accuracy"] <= 1.0
    assert np.isfinite(result["loss"])
    with pytest.raises(UsageError, match="needs"):
        trained_at_scale(training, out, replace(setting, data=None))


@pytest.mark.slow
def test_an_experiment_is_run_at_the_scale_of_its_paper(
    cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    run = partial(in_process.trajsvc, "experiment", "run", "h6", "-o", "out", "--seeds", "1", cwd=tmp_path)
    ran = run("--scale", "paper", "--data", str(cifar10.parent), "--epochs", "2", "--format", "json")
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert set(answer["measured"]["mean"]) == {"noise-0", "noise-0.25", "noise-0.5", "noise-1"}
    kept = json.loads((tmp_path / "out" / "h6" / "result.json").read_text())
    assert kept["scale"] == "paper"
    assert "2 epochs only" in kept["notes"]
    assert "resnet18, 200 epochs" in kept["settings"]
    assert len(kept["runs"]) == 4


def test_settings_are_printed_and_data_is_asked_for(tmp_path: Path) -> None:
    said = in_process.trajsvc("experiment", "run", "h6", "--scale", "paper", "-o", "out", cwd=tmp_path)
    assert said.returncode == 4
    for word in ("CIFAR-10", "ResNet18", "optimizer", "epochs", "checkpoints", "to install", "data_batch_1.bin"):
        assert word in said.stdout
    assert "--data" in said.stderr
    gone = in_process.trajsvc(
        "experiment", "run", "h1", "--scale", "paper", "--data", "nowhere", "-o", "out", cwd=tmp_path
    )
    assert gone.returncode == 4
    assert "nowhere/train" in gone.stderr
    other = in_process.trajsvc("experiment", "run", "h1", "--data", "nowhere", "-o", "out", cwd=tmp_path)
    assert other.returncode == 2
    assert "--scale paper" in other.stderr
