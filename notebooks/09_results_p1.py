# %% [markdown]
# # P1 over several seeds, and on photographs
#
# :::{admonition} In short
# :class: in-short
# **Question.** Does what the chapters found hold for other seeds, and on photographs?
#
# **Answer.** Under attack, neurons are less consistent where images go by what they show: U changes by
# {glue:text}`fall`. That most networks show it, *{glue:text}`fall-verdict`*. Where images go by what the network
# says, U changes by {glue:text}`obedient`; that most networks show it, *{glue:text}`obedient-verdict`*. The consistent
# loss adds {glue:text}`adds` to plain adversarial training; that most networks show a gain,
# *{glue:text}`adds-verdict`*.
#
# **The number that decides** stands in {ref}`the table of verdicts <p1-verdicts>`, claim by claim; the
# {doc}`ledger <14_claims>` shows every case behind it.
# :::

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:  # there the book and its packages come first; elsewhere this does nothing
    import os
    import subprocess

    if not os.path.exists("Snakefile"):
        address = "https://github.com/consistent-neurons/consistent-neurons"
        if not os.path.exists("consistent-neurons"):
            subprocess.run(["git", "clone", "--quiet", "--depth", "1", address], check=True)
        os.chdir("consistent-neurons")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", ".[book]"], check=True)
        if getattr(sys.modules.get("pandas"), "__version__", "3") < "3":
            raise SystemExit("The packages are installed. Restart the session (menu Runtime), then run all cells.")

# %% tags=["parameters", "hide-input"]
# how it runs
profile: str = "demo"  # only names the run: this page trains nothing
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-cell"]
import pandas as pd

from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept, beside_seeds
from neuron_consistency.book.page import open_page
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.figures import choice_differences
from neuron_consistency.dissection.controls import RANDOM
from neuron_consistency.show import in_words
from neuron_consistency.workflow.results import paper_table

page, kept = open_page("09_results_p1", globals()), Kept.read()
evaluations, dissections, attacks = kept.named("evaluation-"), kept.named("dissection-"), kept.named("attacks-")
main, several = evaluations[0], kept.named("evaluation-", several_seeds=True)
unnamed = "FGSM of one network for all"  # in older studies, and that network is one of those compared
found = Found(kept)
asked = {"fall": "less-consistent-under-attack", "obedient": "ambiguous-not-obedient", "adds": "consistent-loss-adds"}
page.say({name: found.numbers[claim].bare for name, claim in asked.items()})
page.say({f"{name}-verdict": found.ledger.loc[claim, "verdict"] for name, claim in asked.items()})

# %% [markdown]
# (p1-verdicts)=
# ## The verdicts

# %% tags=["hide-input"]
judged = found.ledger[found.ledger["chapter"].isin(["04_evaluation", "05_dissection"])]
page.table(
    kept.cited(found.evidence(judged["claim"]), *evaluations, *dissections),
    "verdicts",
    "The verdicts on P1's claims, and on our own questions beside them: in how many cases each holds and fails, the "
    "pooled number with its 95 % interval, and the least difference that the median case could have shown.",
)

# %% [markdown]
# The chapters are made to be rerun in minutes, so they train each network once and mostly on rendered scenes. What
# needs several seeds, or photographs, is run once and kept: small tables with a record of what made them. This page
# computes nothing anew but differences and their intervals, and a table that does not fit its record stops it. `make
# results` runs again the studies that are out of date. What each was run on, and for how long, stands in
# {doc}`13_costs`.
#
# ## Consistency on photographs
#
# First comes a competent network: others trained EfficientNet-Lite0 on ImageNet, and we trained it on for two epochs
# on forty classes of Tiny ImageNet (*warm*). Then come networks that start from random weights, and get fewer images
# right: on the same forty classes, and on twelve classes with less training. Each network is trained normally, with
# P1's Eq. 6, and with Eq. 6 at $\beta = 0$. It is measured as in {doc}`04_evaluation`, on photographs that no network
# was trained on. For the warm networks Eq. 6 attacks the least likely label, for the others the true label. Where
# there are several seeds an interval covers other images and other seeds; where there is one, it covers other images
# alone.

# %% tags=["hide-input"]
rows = kept.table(main, "consistency")
rows = rows[rows["set"] != unnamed]
page.figure(
    kept.cited(figures.consistency_intervals(rows), main),
    "consistency",
    "U of the competent networks' last layer on real images and on the controls, under both kinds of label, with "
    "intervals of 95 %. Compare how far U falls under attack where images go by what they show, and where they go by "
    "what the network says.",
    alt="U by network, set and labels. " + in_words(rows.set_index(["model", "set", "labels"])["U"]),
)

# %% [markdown]
# The numbers, network by network, of all studies:

# %% tags=["hide-input"]
rows = kept.table(evaluations, "consistency")
rows = rows[rows["set"].isin(["real", "FGSM"])].set_index(["study", "model", "set", "labels"])
columns = ["images", "m", "V", "V chance", "U", "U low", "U high", "U chance", "excluded"]
page.table(
    kept.cited(rows[columns], *evaluations),
    "networks",
    "Consistency of the last layer on real and on FGSM images, of every network. V is the paper's measure, "
    "whose chance "
    "level depends on the number m of active images; U is the unbiased one. Compare each with its own chance.",
)

# %% tags=["hide-input"]
page.table(
    paper_table("table_1"),
    "paper-consistency",
    "The paper's V, from 1000 classes, before and after training with the consistent loss (Adv). Its direction can be "
    "compared, not its size.",
    decimals=4,
)

# %% [markdown]
# ### Differences between trainings
#
# Where a set is called *FGSM of* a network, its images were made against that one network and shown to all. The network
# itself is not compared. In older studies it was one of those compared, for which alone such images are an attack that
# knows the network; rows of that kind are left out.

# %% tags=["hide-input"]
rows = kept.table(evaluations, "differences").sort_values(["study", "first", "second"], kind="stable")
rows = rows[rows["first"].str.endswith("seeds") | ~rows["study"].isin(several)]
rows = rows[rows["set"] != unnamed]
page.table(
    kept.cited(rows.set_index(["study", "first", "second", "set", "labels"]), *evaluations),
    "differences",
    "Difference in U between two trainings, the first less the second; where there are several seeds, between their "
    "means. The interval tells whether zero is left out.",
)

# %% [markdown]
# Is that more than another seed does?

# %% tags=["hide-input"]
rows = pd.concat({name: beside_seeds(kept.table(name, "consistency")) for name in several}, names=["study"])
rows = rows.reset_index("study").sort_values(["study", "first", "second"], kind="stable")
page.table(
    kept.cited(rows.set_index(["study", "first", "second", "set", "labels"]), *several),
    "seeds",
    "The differences again, as the mean over seeds with the lowest and the highest seed in brackets, beside "
    "how far the "
    "seeds of one and the same training lie apart (the wider of the two trainings).",
)

# %% [markdown]
# ### Neuron by neuron

# %% tags=["hide-input"]
counted = kept.table(main, "histograms")
page.figure(
    kept.cited(figures.consistency_histograms(counted.loc[counted.index.repeat(counted["neurons"])]), main),
    "histograms",
    "How consistent the single neurons of the last layer are, of one seed's networks, on real images and on "
    "adversarial "
    "ones (the paper's Figure 5).",
    alt="Histograms of U over the neurons of the last layer, a panel a set of images, a colour a training.",
)

# %% [markdown]
# ## Accuracy
#
# The paper states that accuracy falls by about ten points on clean images and rises under attack.

# %% tags=["hide-input"]
accuracies = kept.table(evaluations, "accuracy").set_index(["study", "model", "images"])
shown = kept.shown(accuracies, *evaluations, decimals=1)["accuracy"].unstack(sort=False)
page.table(
    kept.cited(shown, *evaluations),
    "accuracy",
    "Images that each network gets right, in per cent, clean, under attack and under noise of the same size. Intervals "
    "of 95 % (Wilson), over images.",
    exact=accuracies,
)

# %% [markdown]
# Accuracy under one step and under five steps says little where gradients are masked. So a part of the images meets a
# stronger attack, of more steps and from several starts, and AutoAttack, whose last part looks at no gradient.

# %% tags=["hide-input"]
strong = kept.table(attacks, "strong").set_index(["study", "choice", "seed", "attack"])
shown = kept.shown(strong, *attacks, decimals=1)["accuracy"].unstack("attack", sort=False)
page.table(
    kept.cited(shown, *attacks),
    "strong",
    "Images that each seed's network gets right under the stronger attacks, in per cent, with Wilson "
    "intervals over images.",
    exact=strong,
)

# %% [markdown]
# ## Does the measure react?

# %% tags=["hide-input"]
reactions = kept.table(main, "reactions").rename(columns={"case": "model"}).assign(set="true labels")
page.figure(
    kept.cited(figures.sweep(reactions, x="layer", y="U"), main),
    "reactions",
    "U of the first normally trained network, layer by layer; of the same network with random weights; with labels of "
    "other images, which has to end at chance (dashed); and on images shown smaller and larger than in training.",
    alt="Lines of U over layers, one a case. " + in_words(reactions.set_index(["model", "layer"])["U"]),
)

# %% tags=["hide-input"]
rows = kept.table(evaluations, "reactions").groupby(["study", "case"], sort=False).tail(1).set_index(["study", "case"])
page.table(
    kept.cited(rows[["layer", "accuracy", "m", "U", "U low", "U high", "U chance", "excluded"]], *evaluations),
    "reactions",
    "The last layer in numbers, of every study's first normally trained network.",
)

# %% [markdown]
# ## Dissection on photographs
#
# The same networks are held against the concepts of a densely labelled set of photographs, as in {doc}`05_dissection`.
# Adversarial images are to be compared with *those attacked*, the same images before, each above the chance level of
# its own. Random weights of studies that did not count the neurons with a mask are left out: they were not the weights
# that training starts from, and in VGG-16 most neurons had no mask.

# %% tags=["hide-input"]
columns = ["study", "model", "images", "aligned, %", "with a mask, %"]
rows = kept.table(dissections, "summary").reindex(columns=columns)
rows = rows[(rows["images"] != RANDOM) | rows["with a mask, %"].notna()]
rows = rows.set_index(["study", "model", "images"]).dropna(axis="columns", how="all")
page.table(
    kept.cited(rows.unstack("images", sort=False), *dissections),
    "dissection",
    "How many neurons in a hundred are aligned with any concept, beside the chance levels (labels shuffled, weights "
    "random), and how many have a mask at all.",
    decimals=1,
)

# %% tags=["hide-input"]
page.table(
    paper_table("table_2"),
    "paper-dissection",
    "The paper's numbers, by category, on Broden: neurons aligned with a concept, in per cent.",
    decimals=2,
)

# %% [markdown]
# ## What P1 leaves open, on photographs
#
# The choices of {doc}`11_open_choices` are changed one at a time, on twelve classes and ResNet-18, and held against
# training as in {doc}`03_consistent_loss_training`.

# %% tags=["hide-input"]
choices = kept.table("choices-photographs", "choices").set_index(["choice", "measure"])
values = kept.shown(choices[["value", "low", "high"]], "choices-photographs", decimals=2)["value"]
page.table(
    kept.cited(values.unstack("measure", sort=False), "choices-photographs"),
    "choices",
    "What each choice does to the consistency of the last layer and to accuracy (in per cent).",
    exact=choices,
)

# %% tags=["hide-input"]
page.figure(
    kept.cited(choice_differences(choices.reset_index()), "choices-photographs"),
    "choice-differences",
    "The same as differences from the standing choice. A point is open where its interval holds zero. Each interval is "
    "of 95 % for itself, so one difference in twenty leaves zero out by chance.",
    alt="Differences from the standing choice, a panel a measure, a line a choice; the numbers stand in the "
    "table above.",
)

# %% tags=["hide-input"]
shares = kept.table("choices-photographs", "shares")
page.figure(
    kept.cited(figures.sweep(shares, x="quantile", y="U"), "choices-photographs"),
    "shares",
    "U for several shares of the images that activate a neuron.",
    alt="Lines of U over the share of images that activates a neuron. "
    + in_words(shares.set_index(["model", "set", "quantile"])["U"]),
)

# %% [markdown]
# ## Summary
#
# - An attack lowers the consistency of neurons in every network here, where images go by what they show.
# - Whether something of that is left where images go by what the network says, and what the consistent loss adds,
#   stands in {ref}`the verdicts <p1-verdicts>`, with the least difference that could have been seen.
# - Training with attacked images costs clean accuracy and gains accuracy under attack.
