"""How often networks are fooled, and how distances to class centroids compare, as tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.statistics import Estimate, mean, share


def against_noise(ratios: pd.DataFrame, ratio: str) -> pd.DataFrame:
    """Means of r1 or r2 over adversarial images and over their noise, and of the difference.

    Args:
        ratios: from `distance_ratios`.
        ratio: "r1" or "r2".

    Returns:
        Three rows, of: "adversarial", "noise", "difference"; columns images, clean images, value, low, high.
    """
    clusters = ratios["clean"].to_numpy()
    attacked, noise = (ratios[name].to_numpy(np.float64) for name in (ratio, f"{ratio} noise"))
    parts = {"adversarial": attacked, "noise": noise, "difference": attacked - noise}
    counts = {"images": len(ratios), "clean images": len(np.unique(clusters))}
    return pd.DataFrame(
        {"of": name} | counts | mean(part, clusters).row("value", bare=True) for name, part in parts.items()
    )


def ratio_means(ratios: pd.DataFrame) -> pd.DataFrame:
    """The rows of `against_noise` for r1 and r2, over all images, those that reach the target in this network, and
    those that reach it in all networks of the set.

    Args:
        ratios: from `distance_ratios`.
    """
    subsets = {"all": ratios, "reached here": ratios[ratios["reached"]]}
    subsets["reached everywhere"] = ratios[ratios["reached everywhere"]]
    return pd.concat(
        [
            against_noise(some, ratio).assign(ratio=ratio, subset=subset)
            for ratio in ("r1", "r2")
            for subset, some in subsets.items()
        ],
        ignore_index=True,
    )


def ratio_claims(ratios: pd.DataFrame, *, tolerance: float) -> pd.DataFrame:
    """The claims of P2 about r1 and r2, over all images, settled by intervals: claim, value, low, high, verdict.

    Against noise the value is the mean difference to the noise of the same norm.

    Args:
        ratios: from `distance_ratios`.
        tolerance: so far from 1 still counts as about 1.
    """
    r1, r2 = ({row["of"]: row for row in against_noise(ratios, name).to_dict("records")} for name in ("r1", "r2"))
    claims = (
        ("r1 above 1", r1["adversarial"], {"above": 1.0}),
        ("r1 above noise", r1["difference"], {"above": 0.0}),
        ("r1 about 1", r1["adversarial"], {"above": 1 - tolerance, "below": 1 + tolerance}),
        ("r2 below 1", r2["adversarial"], {"below": 1.0}),
        ("r2 below noise", r2["difference"], {"below": 0.0}),
    )
    return pd.DataFrame(
        {"claim": claim, **Estimate.read(row, "value", bare=True).settles(**side)} for claim, row, side in claims
    )


def success_table(
    adversarial: AdversarialSet,
    models: Mapping[str, Classifier],
    clean: ImageSet,
    *,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> pd.DataFrame:
    """How often the networks that the set was made on say the target: one row each, and one for all of them at once.

    Columns: network, images; `reached`, `reached low`, `reached high`, in per cent (see `share`); `reached clean`,
    its chance level, how often the clean image is taken for the target already; `RMSD` and `RMSD of 255`, means over
    the images that reached their target.

    Args:
        adversarial: the set, whose stored success is read.
        models: its networks, by key.
        clean: the images it was made from.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes over the clean images.

    Raises:
        ParameterError: `clean` is another set, or a network is missing.

    Source: P2 reports RMSD; chance levels and intervals are ours.
    """
    _check_clean(adversarial, clean)
    if missing := [name for name in adversarial.networks if name not in models]:
        raise ParameterError(f"the set was made on {', '.join(missing)} too: hand in all of its networks")
    names, before = adversarial.networks, []
    for name in names:
        said = _said(models[name], clean, device=device, batch_size=batch_size, precision=precision)
        before.append(said[adversarial.indices] == adversarial.targets)
    reached = [*adversarial.success.unbind(1), adversarial.success.all(1)]
    rows = []
    for name, after, unattacked in zip([*names, "all"], reached, [*before, torch.stack(before).all(0)], strict=True):
        rmsd = float(adversarial.rmsd[after].mean())
        row = {"network": name, "images": len(after), **_shares("reached", after, unattacked, adversarial.indices)}
        rows.append(row | {"RMSD": rmsd, "RMSD of 255": 255 * rmsd})
    return pd.DataFrame(rows)


def transfer_table(
    adversarial: AdversarialSet,
    models: Mapping[str, Classifier],
    clean: ImageSet,
    *,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> pd.DataFrame:
    """What networks say of a set that was made without them: one row each.

    Columns: network, images; `reached` (they say the target), `wrong` (any class but the true one), each in per
    cent with its interval, as `reached low` and `reached high` (see `share`), and with its chance level `reached
    clean`, the share of the clean images.

    Args:
        adversarial: the set.
        models: the networks left out of its ensemble, by key.
        clean: the images it was made from.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Raises:
        ParameterError: `clean` is another set, or a network is one of the ensemble.
    """
    _check_clean(adversarial, clean)
    if own := [name for name in models if name in adversarial.networks]:
        raise ParameterError(f"the set was made on {', '.join(own)}: transfer is to other networks, see success_table")
    rows = []
    for name, model in models.items():
        after, before = (
            _said(model, images, device=device, batch_size=batch_size, precision=precision)
            for images in (adversarial, clean)
        )
        before, aims, labels = before[adversarial.indices], adversarial.targets, adversarial.labels
        reached = _shares("reached", after == aims, before == aims, adversarial.indices)
        wrong = _shares("wrong", after != labels, before != labels, adversarial.indices)
        rows.append({"network": name, "images": len(after), **reached, **wrong})
    return pd.DataFrame(rows)


def _shares(title: str, after: Tensor, before: Tensor, clusters: Tensor) -> dict[str, float]:
    found = share(after, clusters, whole=100).row(title)
    return found | {f"{title} clean": 100 * float(before.float().mean())}


def _said(model: Classifier, images: ImageSet, *, device: torch.device, batch_size: int, precision: str) -> Tensor:
    """What the model says of every image, on the CPU (N,)."""
    passed = respond(model, images, device=device, layers=[], top_k=1, batch_size=batch_size, precision=precision)
    return passed.predictions


def _check_clean(adversarial: AdversarialSet, clean: ImageSet) -> None:
    if clean.fingerprint != adversarial.source:
        raise ParameterError(f"{clean.name} ({clean.split}) is not the set that the adversarial images were made from")
