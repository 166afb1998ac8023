# %% [markdown]
# # P1 over several seeds, and on photographs
#
# Does what the chapters found hold for other seeds, and on photographs? They are made to be rerun in minutes, so they
# train each network once and mostly on rendered scenes. What needs several seeds, or photographs, is run once and kept:
# small tables with a record of what made them. This page shows those of P1. It computes nothing anew but differences
# and their intervals, and a table that does not fit its record stops it.
#
# `make results` runs the studies again, where they are out of date. They are listed in `notebooks/studies.yaml`, each a
# run of a chapter with the parameters given there. What each was run on, from which commit and how long, stands in
# {doc}`13_costs`; what they say of the papers' claims in {doc}`14_claims`.

# %% tags=["parameters"]
# how it runs
profile: str = "demo"  # only names the run: this page trains nothing
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-input"]
import pandas as pd

from neuron_consistency.book.kept import Kept, beside_seeds
from neuron_consistency.book.page import open_page
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.figures import choice_differences
from neuron_consistency.dissection.controls import RANDOM
from neuron_consistency.workflow.results import paper_table

page, kept = open_page("09_results_p1", globals()), Kept.read()
evaluations, dissections, attacks = kept.named("evaluation-"), kept.named("dissection-"), kept.named("attacks-")
main, several = evaluations[0], kept.named("evaluation-", several_seeds=True)
unnamed = "FGSM of one network for all"  # in older studies, and that network is one of those compared

# %% [markdown]
# ## Consistency on photographs
#
# First a competent network: EfficientNet-Lite0, which others trained on ImageNet, trained on for two epochs on forty
# classes of Tiny ImageNet (*warm*). Then networks from random weights, which get fewer images right: the same forty
# classes, and twelve with less training. Each network is trained normally, with Eq. 6, and with Eq. 6 at
# $\beta = 0$, and measured as in {doc}`04_evaluation`, on photographs that none was trained on. For the warm ones Eq. 6
# attacks the least likely label, for the others the true one. Where there are several seeds an interval covers other
# images and other seeds, with one it covers other images alone.
#
# Consistency of the competent networks' last layer on real images and on the controls, under both kinds of label:

# %% tags=["hide-input"]
rows = kept.table(main, "consistency")
kept.cited(figures.consistency_intervals(rows[rows["set"] != unnamed]), main)

# %% [markdown]
# The numbers, network by network, in a long table that opens:

# %% tags=["hide-cell"]
rows = kept.table(evaluations, "consistency")
rows = rows[rows["set"].isin(["real", "FGSM"])].set_index(["study", "model", "set", "labels"])
kept.shown(rows[["images", "m", "V", "V chance", "U", "U low", "U high", "U chance", "excluded"]], *evaluations)

# %% [markdown]
# The paper's V, from 1000 classes, before and after training with the consistent loss (*Adv*); its direction can be
# compared, not its size:

# %% tags=["hide-input"]
paper_table("table_1")

# %% [markdown]
# Differences between trainings, in U; where there are several seeds, of their means. *FGSM of* a network are images
# made against that one, which is not compared, and shown to all. Older studies took them from one of the networks
# compared, for which alone they are an attack that knows it; such rows are left out:

# %% tags=["hide-input"]
rows = kept.table(evaluations, "differences").sort_values(["study", "first", "second"], kind="stable")
rows = rows[rows["first"].str.endswith("seeds") | ~rows["study"].isin(several)]
rows = rows[rows["set"] != unnamed]
kept.shown(rows.set_index(["study", "first", "second", "set", "labels"]), *evaluations)

# %% [markdown]
# Is that more than a seed does? Each difference again, as the mean over seeds with the lowest and the highest seed in
# brackets, beside how far the seeds of one and the same training lie apart (the wider of the two):

# %% tags=["hide-input"]
rows = pd.concat({name: beside_seeds(kept.table(name, "consistency")) for name in several}, names=["study"])
rows = rows.reset_index("study").sort_values(["study", "first", "second"], kind="stable")
kept.shown(rows.set_index(["study", "first", "second", "set", "labels"]), *several)

# %% [markdown]
# The paper's Figure 5, the distribution over the neurons of the last layer, of one seed's networks; above on real
# images, below on adversarial ones:

# %% tags=["hide-input"]
counted = kept.table(main, "histograms")
kept.cited(figures.consistency_histograms(counted.loc[counted.index.repeat(counted["neurons"])]), main)

# %% [markdown]
# ## Accuracy
#
# In per cent. The paper states a fall of about ten points on clean images and a rise under attack.

# %% tags=["hide-input"]
accuracies = kept.shown(
    kept.table(evaluations, "accuracy").set_index(["study", "model", "images"]), *evaluations, decimals=1
)
kept.cited(accuracies["accuracy"].unstack(sort=False), *evaluations)

# %% [markdown]
# Accuracy under one step and under five says little where gradients are masked. Under more steps from several starts,
# and under AutoAttack, whose last part looks at no gradient, on fewer of the images (of each seed's network, with
# Wilson intervals over images):

# %% tags=["hide-input"]
strong = kept.shown(
    kept.table(attacks, "strong").set_index(["study", "choice", "seed", "attack"]), *attacks, decimals=1
)
kept.cited(strong["accuracy"].unstack("attack", sort=False), *attacks)

# %% [markdown]
# ## Does the measure react?
#
# U of the first normally trained network, layer by layer, and of the same with random weights,
# with labels of other images, and on images shown smaller and larger than in training:

# %% tags=["hide-input"]
reactions = kept.table(main, "reactions").rename(columns={"case": "model"}).assign(set="true labels")
kept.cited(figures.sweep(reactions, x="layer", y="U"), main)

# %% [markdown]
# The last layer in numbers, of every study's first normally trained network:

# %% tags=["hide-input"]
rows = kept.table(evaluations, "reactions").groupby(["study", "case"], sort=False).tail(1).set_index(["study", "case"])
kept.shown(rows[["layer", "accuracy", "m", "U", "U low", "U high", "U chance", "excluded"]], *evaluations)

# %% [markdown]
# ## Dissection on photographs
#
# The neurons of the same networks against the concepts of a densely labelled set of photographs, as in
# {doc}`05_dissection`: how many in a hundred are aligned with any concept, beside the chance levels (labels
# shuffled, weights random), and how many have a mask at all. Adversarial images are to be compared with *those
# attacked*, the same images before, each above the chance level of its own. What a study was run without is NaN.
# Random weights of studies that did not count the neurons with a mask are left out: they were not those that training
# starts from, and in VGG-16 most neurons had none:

# %% tags=["hide-input"]
columns = ["study", "model", "images", "aligned, %", "with a mask, %"]
rows = kept.table(dissections, "summary").reindex(columns=columns)
rows = rows[(rows["images"] != RANDOM) | rows["with a mask, %"].notna()]
rows = rows.set_index(["study", "model", "images"]).dropna(axis="columns", how="all")
kept.cited(rows.unstack("images", sort=False).round(1), *dissections)

# %% [markdown]
# The paper's, by category, on Broden:

# %% tags=["hide-input"]
paper_table("table_2")

# %% [markdown]
# What they say of the paper's claims, case by case, is in {doc}`14_claims`.
#
# ## What P1 leaves open, on photographs
#
# The choices of {doc}`11_open_choices`, one changed at a time, on twelve classes and ResNet-18: what each does to the
# consistency of the last layer and to accuracy. Held against training as in chapter 3:

# %% tags=["hide-input"]
choices = kept.table("choices-photographs", "choices").set_index(["choice", "measure"])
values = kept.shown(choices[["value", "low", "high"]], "choices-photographs", decimals=2)["value"]
kept.cited(values.unstack("measure", sort=False), "choices-photographs")

# %% tags=["hide-input"]
kept.cited(choice_differences(choices.reset_index()), "choices-photographs")

# %% [markdown]
# A point is open where its interval holds zero. Each interval is of 95 % for itself, so that one difference in twenty
# leaves zero by chance.
#
# The share of images that activates a neuron:

# %% tags=["hide-input"]
kept.cited(figures.sweep(kept.table("choices-photographs", "shares"), x="quantile", y="U"), "choices-photographs")
