"""The command neuron-consistency: the card of your own network, and its training by P1's Eq. 6."""

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
    except (ValueError, ArithmeticError):
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

    place, out = Path(chosen.images).expanduser().resolve(), chosen.out.resolve()
    if place.is_dir() and place in (out, *out.parents):
        raise ParameterError(f"{chosen.out} lies among the images, where it would be a class: name another --out")
    images = load_folder_set(
        chosen.images, split=split, image_size=loaded.image_size, interpolation=loaded.interpolation,
        margin=loaded.margin if chosen.margin is None else chosen.margin, per_class=per_class,
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
    train = commands.add_parser("train", help="fine-tune a network by P1's Eq. 6 and write its cards before and after")
    for command in (score, train):
        add = command.add_argument_group("the network").add_argument
        add("--network", required=True, help="torchvision:NAME, timm:NAME, packaged:NAME, FILE.py:FUNCTION or FILE.pt2")
        add("--weights", type=Path, help=".safetensors, .pth or .pt (else those that are published)")
        for name in ("--mean", "--std"):
            add(name, type=number, nargs=3, metavar=("R", "G", "B"), help="of the pixels (else as is published)")
        add("--image-size", type=int, help="side in pixels (else as is published)")
        add("--num-classes", type=int, help="outputs, where the weights do not say")
        add("--layers", nargs="+", metavar="NAME", help="modules by name or pattern: 'layer*.1' (else they are found)")
        add("--before", action="store_true", help="read each layer before its activation")
        add = command.add_argument_group("the images").add_argument
        add("--images", required=True, help="a folder or zip of classes, or a set of the book")
        add("--labels", help='synsets.csv, a table of distances, a table class,parent, or "flat" (else WordNet)')
        add("--classes", help="those of the outputs, in order: a file, or imagenet, cifar10 ...")
        add("--margin", type=number, help="short side over the square that is cut, 256/224 (else as is published)")
        add("--per-class", type=int, help="the first so many images of each class (else all)")
        add = command.add_argument_group("how it is measured").add_argument
        add(
            "--epsilon",
            type=number,
            default=4 / 255,
            help="of attacks and noise, 4/255 if not given; 0 attacks nothing",
        )
        add("--pgd-steps", type=int, default=10, help="10 if not given; 0 leaves PGD out")
        add("--auto-attack", type=int, default=0, metavar="IMAGES", help="how many images AutoAttack attacks too")
        add("--quantile", type=number, default=0.005, help="share of the real images that activate a neuron, 0.005 ...")
        add("--top-k", type=int, default=20, help="... but at least so many, 20 if not given")
        add("--sigma", type=number, default=2.0, help="of P1's Eq. 2, 2 if not given")
        add = command.add_argument_group("how it runs").add_argument
        out = Path("card" if command is score else "trained")
        add("--out", type=Path, default=out, help=f"a new folder, {out}/ if not given; the same call goes on there")
        add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
        add("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
        add("--batch-size", type=int, default=64, help="images measured at once, 64 if not given")
    score.add_argument(
        "--split", choices=("train", "val"), help="that half of the folder (else val, or all where there are no halves)"
    )
    add = train.add_argument_group("the training").add_argument
    add(
        "--objective",
        choices=("consistent", "adversarial", "normal"),
        default="consistent",
        help="consistent if not given",
    )
    add("--epochs", type=int, default=3, help="3 if not given")
    add("--alpha", type=number, default=0.5, help="weight of the clean loss, 0.5 if not given")
    add("--beta", type=number, default=1.0, help="weight of the consistent loss, 1 if not given")
    add("--attack-label", choices=("true", "predicted", "least-likely"), default="true")
    add("--learning-rate", type=number, default=1e-4, help="its peak, 1e-4 if not given")
    add("--train-batch-size", type=int, default=32, help="images a step, 32 if not given")
    add("--train-per-class", type=int, help="the first so many training images of each class (else all)")
    add(
        "--held-out",
        type=number,
        default=0.1,
        help="share of the training images that checks each epoch, 0.1 if not given",
    )
    add("--seed", type=int, default=0)
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
