"""The command neuron-consistency: the card of your own network, and its training by Eq. 6."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from neuron_consistency.errors import NeuronConsistencyError, ParameterError

if TYPE_CHECKING:
    from neuron_consistency.card.measure import Setting
    from neuron_consistency.data.image_set import ImageSet
    from neuron_consistency.networks.load import Loaded


def number(text: str) -> float:
    """A number, or a fraction such as 4/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number: write 0.016 or 4/255") from None


def _network(chosen: argparse.Namespace) -> Loaded:
    from neuron_consistency.networks.load import load_network

    return load_network(
        chosen.network, weights=chosen.weights, num_classes=chosen.num_classes, mean=chosen.mean, std=chosen.std,
        image_size=chosen.image_size, layers=chosen.layers, before=chosen.before,
    )  # fmt: skip


def _images(chosen: argparse.Namespace, loaded: Loaded, split: str | None, per_class: int | None) -> ImageSet:
    from neuron_consistency.data.labels import for_outputs
    from neuron_consistency.data.own import load_folder_set

    images = load_folder_set(
        chosen.images, split=split, image_size=loaded.image_size, margin=chosen.margin or loaded.margin,
        interpolation=loaded.interpolation, per_class=per_class,
    )  # fmt: skip
    return for_outputs(images, loaded.model.num_classes, chosen.classes)


def _setting(chosen: argparse.Namespace) -> Setting:
    from neuron_consistency.card.measure import Setting

    names = ("epsilon", "pgd_steps", "quantile", "top_k", "sigma", "auto_attack")
    return Setting(**{name: getattr(chosen, name) for name in names})


def _score(chosen: argparse.Namespace) -> None:
    from neuron_consistency.card.score import score
    from neuron_consistency.runtime import Runtime

    on, loaded = Runtime.of(chosen.device, chosen.precision, chosen.batch_size), _network(chosen)
    images = _images(chosen, loaded, chosen.split, chosen.per_class)
    score(loaded.model, images, chosen.out, on, setting=_setting(chosen), labels=chosen.labels, source=loaded.source)
    print((chosen.out / "summary.md").read_text("utf-8"))
    print(f"The card: {chosen.out / 'index.html'}")


def _train(chosen: argparse.Namespace) -> None:
    from neuron_consistency.card.train import fine_tune
    from neuron_consistency.runtime import Runtime
    from neuron_consistency.training.objective import Objective
    from neuron_consistency.training.schedule import Schedule

    on, loaded = Runtime.of(chosen.device, chosen.precision, chosen.batch_size), _network(chosen)
    training = _images(chosen, loaded, "train", chosen.train_per_class)
    images = _images(chosen, loaded, "val", chosen.per_class)
    normal = chosen.objective == "normal"
    objective = Objective() if normal else Objective(
        alpha=chosen.alpha, beta=chosen.beta if chosen.objective == "consistent" else 0.0, epsilon=chosen.epsilon,
        attack_label=chosen.attack_label,
    )  # fmt: skip
    schedule = Schedule(
        epochs=chosen.epochs, batch_size=chosen.train_batch_size, learning_rate=chosen.learning_rate, seed=chosen.seed,
        precision=on.precision,
    )  # fmt: skip
    fine_tune(
        loaded, training, images, chosen.out, on, objective=objective, schedule=schedule, held_out=chosen.held_out,
        setting=_setting(chosen), labels=chosen.labels,
    )  # fmt: skip
    print((chosen.out / "summary.md").read_text("utf-8"))
    print(f"The two cards: {chosen.out / 'index.html'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="neuron-consistency", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score", help="measure a network and write its card")
    train = commands.add_parser("train", help="fine-tune a network by Eq. 6 and write its cards before and after")
    for command in (score, train):
        what = command.add_argument_group("the network")
        what.add_argument(
            "--network", required=True, help="torchvision:NAME, timm:NAME, FILE.py:FUNCTION, or an exported FILE.pt2"
        )
        what.add_argument(
            "--weights", type=Path, help=".safetensors, or a state dict as .pth or .pt (else the published ones)"
        )
        what.add_argument(
            "--mean",
            type=float,
            nargs=3,
            metavar=("R", "G", "B"),
            help="of the normalisation, where the network does not say",
        )
        what.add_argument("--std", type=float, nargs=3, metavar=("R", "G", "B"))
        what.add_argument("--image-size", type=int, help="side in pixels, where the network does not say")
        what.add_argument("--num-classes", type=int, help="outputs, where the weights do not say")
        what.add_argument(
            "--layers", nargs="+", metavar="NAME", help="names or patterns of modules (found if not given)"
        )
        what.add_argument("--before", action="store_true", help="read each layer before its activation")
        data = command.add_argument_group("the images")
        data.add_argument("--images", required=True, help="a folder or zip of classes, or a set of the book")
        data.add_argument(
            "--labels", help='synsets.csv, a table of distances, a table class,parent, or "flat" (WordNet if not given)'
        )
        data.add_argument("--classes", help="the classes in the order of the outputs: a file, or imagenet, cifar10 ...")
        data.add_argument(
            "--margin",
            type=number,
            help="the short side is this times the cut square, e.g. 256/224 (as the network says if not given)",
        )
        data.add_argument("--per-class", type=int, help="the first so many images of each class (all if not given)")
        how = command.add_argument_group("how it is measured")
        how.add_argument(
            "--epsilon",
            type=number,
            default=4 / 255,
            help="of attacks and noise, 4/255 if not given; 0 attacks nothing",
        )
        how.add_argument("--pgd-steps", type=int, default=10)
        how.add_argument(
            "--auto-attack", type=int, default=0, metavar="IMAGES", help="how many images AutoAttack attacks too"
        )
        how.add_argument(
            "--quantile", type=number, default=0.005, help="share of the real images that activate a neuron ..."
        )
        how.add_argument("--top-k", type=int, default=20, help="... but at least so many")
        how.add_argument("--sigma", type=number, default=2.0, help="of Eq. 2")
        run = command.add_argument_group("how it runs")
        run.add_argument(
            "--out", type=Path, required=True, help="a new folder; the same call goes on where it was stopped"
        )
        run.add_argument("--device", default="auto")
        run.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
        run.add_argument("--batch-size", type=int, default=64)
    score.add_argument(
        "--split", choices=("train", "val"), help="a half of the images (val if the folder has halves, else all)"
    )
    how = train.add_argument_group("the training")
    how.add_argument("--objective", choices=("consistent", "adversarial", "normal"), default="consistent")
    how.add_argument("--epochs", type=int, default=3)
    how.add_argument("--alpha", type=number, default=0.5, help="weight of the clean loss")
    how.add_argument("--beta", type=number, default=1.0, help="weight of the consistent loss")
    how.add_argument("--attack-label", choices=("true", "predicted", "least-likely"), default="true")
    how.add_argument("--learning-rate", type=number, default=1e-4)
    how.add_argument("--train-batch-size", type=int, default=32)
    how.add_argument("--train-per-class", type=int, help="the first so many training images of each class")
    how.add_argument(
        "--held-out", type=number, default=0.1, help="share of the training images that only checks each epoch"
    )
    how.add_argument("--seed", type=int, default=0)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 for a parameter that cannot work, 1 for any other failure, 130 when stopped."""
    chosen = _parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_rest: print(f"warning: {message}", file=sys.stderr)
    try:
        (_score if chosen.command == "score" else _train)(chosen)
    except NeuronConsistencyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ParameterError) else 1
    except KeyboardInterrupt:
        print("stopped; the same call goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
