"""What the papers trained: data, network, optimizer, epochs and checkpoints of every experiment, and where it can be run here.

The copies of the papers at hand state some of these and not others: what is not stated is said to be, and where a training can be run
here, it has the usual recipe of its network for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trajsvc.experiments.training import Training

IMAGENET: Final = Training(
    epochs=90, batch=256, learning_rate=0.1, weight_decay=1e-4, first_drop=1 / 3, second_drop=2 / 3, data="imagenet",
    network="resnet50",
)  # fmt: skip
CIFAR10: Final = Training(epochs=200, batch=128, learning_rate=0.1, data="cifar10", network="resnet18")
IMAGENET_DATA: Final = "--data DIR with train/CLASS/*.JPEG and val/CLASS/*.JPEG (ImageNet 2012, from image-net.org)"
CIFAR10_DATA: Final = (
    "--data DIR with CIFAR-10's binary version, data_batch_1.bin … test_batch.bin (cifar-10-binary.tar.gz)"
)
NEEDED: Final = "nothing beside torch and Pillow, which trajsvc and matplotlib install; a GPU"
UNKNOWN: Final = "not stated in the copy at hand"
NO_RECIPE: Final = "no recipe at this scale: a training of your own can be registered with `at_scale`"


@dataclass(frozen=True)
class PaperScale:
    """The settings of a paper's experiment, a line each."""

    data: str
    network: str
    optimizer: str
    epochs: str
    checkpoints: str
    run_here: str = NO_RECIPE
    """what a run with ``--scale paper`` trains, where there is a recipe"""
    needs: str = "nothing: there is no recipe at this scale"
    data_at: str = "nowhere: there is no recipe at this scale"

    def lines(self) -> list[tuple[str, str]]:
        """Return what is said of it: (what, text)."""
        return [
            ("data", self.data), ("network", self.network), ("optimizer", self.optimizer), ("epochs", self.epochs),
            ("checkpoints", self.checkpoints), ("run here", self.run_here), ("to install", self.needs),
            ("data goes to", self.data_at),
        ]  # fmt: skip


def described(training: Training) -> str:
    """Describe a training of a residual network in a line."""
    drops = f"{round(training.epochs * training.first_drop)} and {round(training.epochs * training.second_drop)}"
    return (
        f"{training.network}, {training.epochs} epochs, batches of {training.batch}, SGD {training.learning_rate:g}, momentum "
        f"{training.momentum:g}, weight decay {training.weight_decay:g}, a tenth of the rate from epochs {drops} on, random crops and "
        "flips, a checkpoint an epoch: the usual recipe"
    )


def _imagenet(
    varied: str, network: str = "ResNet50", optimizer: str = "SGD with momentum and weight decay"
) -> PaperScale:
    return PaperScale(
        "ImageNet", network, f"{optimizer}; varied: {varied}", UNKNOWN, "one an epoch", f"{described(IMAGENET)}; {varied}", NEEDED,
        IMAGENET_DATA,
    )  # fmt: skip


_CORRELATIONS: Final = "convolutions of 20 and 50 channels (5 × 5), pooling, 200 and 10 units"
_THESIS: Final = "CIFAR-10"
_GENERATED: Final = "generated: the small version differs in its sizes only"
PAPER_SCALES: Final = {
    "h1": _imagenet("both, no-decay, no-momentum, neither"),
    "h2": _imagenet("base, no-momentum, no-decay, neither"),
    "h3": _imagenet("AdamW 1e-3, weight decay 1e-3 … 1", "ViT and ResNet50 (here ResNet50)", "AdamW, and SGD"),
    "h4": _imagenet("rates 0.005, 0.02, 0.1"),
    "h5": _imagenet("ρ 0, 0.05, 0.2", optimizer="sharpness-aware minimisation over SGD"),
    "h6": PaperScale(
        "CIFAR-10 with a share of its labels at random", "ResNet18", "SGD; varied: label noise 0 … 1", UNKNOWN, "one an epoch",
        f"{described(CIFAR10)}; label noise 0, 0.25, 0.5, 1 without weight decay", NEEDED, CIFAR10_DATA,
    ),
    "h7": PaperScale("a ∘ b mod p", "one-layer transformer", "AdamW, full batch", UNKNOWN, UNKNOWN),
    "h8": _imagenet("only normalisation from epoch 0, 1, 2, 5, 10; only the last layer; all"),
    "h9": PaperScale(
        "The Pile (Pythia); ImageNet and CIFAR-10", "Pythia family, ResNets of several widths", "each family's own", UNKNOWN,
        "the published revisions of Pythia (`trajsvc batch` reads them from the Hub)",
        f"{described(CIFAR10)}; widths 0.5, 1, 2, 4", NEEDED, CIFAR10_DATA,
    ),
    "h10": PaperScale("quadratics", "none: a lemma", "heavy ball", "two steps", "three points"),
    "h11": PaperScale("none: random walks", "as many dimensions as ResNet50 and others have", "step sizes of a training", UNKNOWN,
                      "one a step"),
    "c1": PaperScale("CIFAR-10, the same with shuffled labels, white noise", _CORRELATIONS, "none: random points", "none", "none"),
    "c2": PaperScale("CIFAR-10", _CORRELATIONS, "SGD, SGD with Nesterov momentum, Adadelta, Adam; rates not stated", UNKNOWN,
                     "gradient and update of every step"),
    "c3": PaperScale("CIFAR-10", _CORRELATIONS, "Adam; SGD in 1,000 dimensions, each at its best rate", UNKNOWN,
                     "the first d gradients"),
    "c4": PaperScale("CIFAR-10", _CORRELATIONS, "SGD", UNKNOWN, "gradient of every step"),
    "l1": PaperScale("CIFAR-10", "ResNet-18, 34 and 50", "SGD 0.05, batches of 128, without and with momentum 0.9", UNKNOWN,
                     "gradient of every step; three seeds"),
    "v1": PaperScale(
        "MNIST; CIFAR-10; CIFAR-100; ImageNet", "MLP 784-1024-1024-10; ResNet8 without normalisation; ResNet32; ResNet18",
        "SGD, batches of 128: 0.02, momentum 0.5, decay 5e-4; 0.01, 0.9, 5e-4; 0.1; 0.1, 0.9, 1e-4",
        "80,000 steps, a tenth of the rate from 40,000 and 60,000 on", "gradients every 500 steps (ImageNet 1,000)",
    ),
    "v2": PaperScale(_GENERATED, "random features, h_s = 1,000, N/h_s of 0.1 to 10", "SGD, batches of 10, rates 1e-3 to 1e-1",
                     "till the loss is flat", "over the last 70 % of the steps"),
    "v3": PaperScale(_GENERATED, "random features, h_s = 1,000", "SGD 0.01, batches of 10", "till the loss is flat",
                     "over the last 70 % of the steps"),
    "v4": PaperScale("generated: two separable classes", "linear classifier", "none: one point", "none", "none"),
    "d1": PaperScale(_THESIS, "orthogonal ReLU, CReLU, looks-linear, convolutional with and without residuals, 2 to 200 layers",
                     "SGD, batches of 64, one rate, lowered on a plateau", UNKNOWN, "metrics about twice an epoch"),
    "d2": PaperScale(_THESIS, "11-layer convolutional network", "SGD, batches of 64", UNKNOWN, "64 directions of each kind"),
    "d3": PaperScale(_THESIS, "26-layer residual network of 7.5 M parameters", "SGD, batches of 64", UNKNOWN,
                     "five runs, three masks of a size"),
    "d4": PaperScale(_THESIS, "networks of 10⁴ to 10⁷ parameters", "none: times of every metric", "none", "none"),
    "e1": PaperScale("modular arithmetic; text", "small transformers", "AdamW", UNKNOWN, "rolling windows of updates"),
}  # fmt: skip
