"""Filters in groups: trainings with icCNN's loss, and what chapter 8 shows of groups formed afterwards."""

from __future__ import annotations

from golden.explanation import scenes
from golden.setting import ON, images, networks, recipe
from golden.training import EQ6, beginner, of_one_object, trained
from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.explanation.tables import contrast_table
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.training.objective import Objective


def numbers() -> dict[str, object]:
    """A training with groups alone, one with all of Eq. 6, weights and groups, and two networks' contrasts."""
    colours, objects = images(36, seed=1, noise=0.5), of_one_object(9)
    grouped, weighed = FilterGroups(groups=3, period=1), Weighting(warm_up=1, period=1)
    both = {"weighting": weighed, "filter_groups": grouped}
    recipes = [recipe("normal"), recipe("reweighted")]
    nets, titles = networks(recipes, scenes("train", 10, background_correlation=0.8))
    shown = scenes("val", 4, background_correlation=0.8)
    contrasts, groups = contrast_table(
        {titles[one.key]: nets[one.key] for one in recipes}, shown, "last", ON, groups=3, draws=40
    )
    return {
        "filter groups": trained(beginner(colours), colours, Objective(), filter_groups=grouped),
        "Eq. 6, weights and filter groups": trained(beginner(objects), objects, Objective(**EQ6), **both),
        "contrasts": contrasts,
        "groups": groups,
    }
