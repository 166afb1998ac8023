# %% [markdown]
# # Studies over several seeds, and on photographs
#
# The chapters before this one are made to be rerun in minutes, so they train each network once and mostly on rendered
# scenes. What needs several seeds, or photographs, is run once and kept: small tables with a record of what made
# them. This page shows those tables. It computes nothing anew but differences and their intervals, and a table that
# does not fit its record stops it.
#
# `make results` runs the studies again, where they are out of date. They are listed in `notebooks/studies.yaml`, each a
# run of a chapter with the parameters given there. What each was run on, from which commit and how long, stands at the
# end of this page; what they say of the papers' claims in {doc}`10_claims`.

# %% tags=["parameters"]
profile: str = "demo"  # only names the run: this page trains nothing
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-input"]
from neuron_consistency.workflow.parameters import check

parameters = check(globals())

# %% tags=["hide-input"]
import itertools

import pandas as pd
from myst_nb import glue

from neuron_consistency.consistency import figures
from neuron_consistency.consistency.ambiguity import COMMON
from neuron_consistency.representation import figures as representation_figures
from neuron_consistency.show import with_intervals
from neuron_consistency.tracing import figures as tracing_figures
from neuron_consistency.workflow import paper
from neuron_consistency.workflow.results import read_result, read_studies, record_table
from neuron_consistency.workflow.stamps import cited, stamp_outputs

stamp_outputs("09_results", parameters, globals())
pd.set_option("display.max_rows", 500)  # tables are shown whole
pd.set_option("display.max_colwidth", 200)
studies = read_studies()
kept = {name: read_result(name) for name in studies}


def shown(table, *names, decimals=3):
    """A table with its intervals in text; below it the page says of which studies it is."""
    return cited(with_intervals(table, decimals=decimals), *(kept[name].record for name in names))


def together(names, table):
    """One table of several studies, stacked."""
    return pd.concat({name: kept[name].tables[table] for name in names}, names=["study"]).reset_index("study")


# %% [markdown]
# ## P1 on photographs
#
# Tiny ImageNet: forty classes, and twelve with less training. Each network is trained normally, with Eq. 6, and
# with Eq. 6 at $\beta = 0$, and measured as in {doc}`04_evaluation`, on photographs that none was trained on. Where
# there are several seeds an interval covers other images and other seeds, with one it covers other images alone.
#
# Consistency of the last layer on real images and on the controls, under both kinds of label:

# %% tags=["hide-input"]
EVALUATIONS = [name for name in studies if studies[name].notebook == "04_evaluation"]
DISSECTIONS = [name for name in studies if studies[name].notebook == "05_dissection"]
cited(figures.consistency_intervals(kept[EVALUATIONS[0]].tables["consistency"]), kept[EVALUATIONS[0]].record)

# %% [markdown]
# The numbers, network by network, in a long table that opens:

# %% tags=["hide-cell"]
rows = together(EVALUATIONS, "consistency")
rows = rows[rows["set"].isin(["real", "FGSM"])].set_index(["study", "model", "set", "labels"])
shown(rows[["images", "m", "V", "V chance", "U", "U low", "U high", "U chance", "excluded"]], *EVALUATIONS)

# %% [markdown]
# The paper's V, from 1000 classes, before and after training with the consistent loss (*Adv*); its direction can be
# compared, not its size:

# %% tags=["hide-input"]
paper.TABLE_1

# %% [markdown]
# Differences between trainings, in U; where there are several seeds, of their means. *FGSM, common* are the images made
# against the first normally trained network, shown to all:

# %% tags=["hide-input"]
SEVERAL = [name for name in EVALUATIONS if len(kept[name].record["seeds"]) > 1]
rows = together(EVALUATIONS, "differences").sort_values(["study", "first", "second"], kind="stable")
rows = rows[rows["first"].str.endswith("seeds") | ~rows["study"].isin(SEVERAL)]
rows = rows.replace({"set": {COMMON: "FGSM, common"}})
shown(rows.set_index(["study", "first", "second", "set", "labels"]), *EVALUATIONS)

# %% [markdown]
# Is that more than a seed does? Each difference again, as the mean over seeds with the lowest and the highest seed in
# brackets, beside how far the seeds of one and the same training lie apart (the wider of the two):


# %% tags=["hide-input"]
def beside_seeds(rows):
    """How every two trainings differ in U, seed by seed, and how far the seeds of one of them lie apart."""
    rows = rows[rows["set"].isin(["real", "FGSM"])].copy()
    rows[["training", "seed"]] = rows["model"].str.rsplit(", seed ", n=1, expand=True)
    found = []
    for (images, labels), same in rows.groupby(["set", "labels"], sort=False):
        by_seed = same.pivot(index="seed", columns="training", values="U")[same["training"].unique()]
        apart = by_seed.max() - by_seed.min()
        for second, first in itertools.combinations(by_seed, 2):
            change = by_seed[first] - by_seed[second]
            row = {"first": first, "second": second, "set": images, "labels": labels, "difference": change.mean()}
            spread = {"difference low": change.min(), "difference high": change.max()}
            found.append(row | spread | {"seeds apart": apart[[first, second]].max()})
    return pd.DataFrame(found)


rows = pd.concat({name: beside_seeds(kept[name].tables["consistency"]) for name in SEVERAL}, names=["study"])
rows = rows.reset_index("study").sort_values(["study", "first", "second"], kind="stable")
shown(rows.set_index(["study", "first", "second", "set", "labels"]), *SEVERAL)

# %% [markdown]
# The paper's Figure 5, the distribution over the neurons of the last layer, of one seed's networks; above on real
# images, below on adversarial ones:

# %% tags=["hide-input"]
counted = kept[EVALUATIONS[0]].tables["histograms"]
neurons = counted.loc[counted.index.repeat(counted["neurons"])]
cited(figures.consistency_histograms(neurons), kept[EVALUATIONS[0]].record)

# %% [markdown]
# Accuracy in per cent. The paper states a fall of about ten points on clean images and a rise under attack.

# %% tags=["hide-input"]
accuracies = with_intervals(together(EVALUATIONS, "accuracy").set_index(["study", "model", "images"]), decimals=1)
cited(accuracies["accuracy"].unstack(sort=False), *(kept[name].record for name in EVALUATIONS))

# %% [markdown]
# Accuracy under one step and under five says little where gradients are masked. Under more steps from several starts,
# and under AutoAttack, whose last part looks at no gradient, on fewer of the images (of each seed's network, with
# Wilson intervals over images):

# %% tags=["hide-input"]
ATTACKS = [name for name in studies if name.startswith("attacks-")]
strong = with_intervals(together(ATTACKS, "strong").set_index(["study", "choice", "seed", "attack"]), decimals=1)
cited(strong["accuracy"].unstack("attack", sort=False), *(kept[name].record for name in ATTACKS))

# %% [markdown]
# Does the measure react? U of the first normally trained network, layer by layer, and of the same with random weights,
# with labels of other images, and on images shown smaller and larger than in training:

# %% tags=["hide-input"]
reactions = kept[EVALUATIONS[0]].tables["reactions"].rename(columns={"case": "model"}).assign(set="true labels")
cited(figures.sweep(reactions, x="layer", y="U"), kept[EVALUATIONS[0]].record)

# %% [markdown]
# The last layer in numbers, of every study's first normally trained network:

# %% tags=["hide-input"]
rows = together(EVALUATIONS, "reactions").groupby(["study", "case"], sort=False).tail(1).set_index(["study", "case"])
shown(rows[["layer", "accuracy", "m", "U", "U low", "U high", "U chance", "excluded"]], *EVALUATIONS)

# %% [markdown]
# The neurons of the same networks against the concepts of a densely labelled set of photographs, as in
# {doc}`05_dissection`: how many in a hundred are aligned with any concept, beside the two chance levels (labels
# shuffled, weights random). Adversarial images are to be compared with *those attacked*, the same images before:

# %% tags=["hide-input"]
aligned = together(DISSECTIONS, "summary").set_index(["study", "model", "images"])["aligned, %"]
cited(aligned.unstack(sort=False).round(1), *(kept[name].record for name in DISSECTIONS))

# %% [markdown]
# The paper's, by category, on Broden:

# %% tags=["hide-input"]
paper.TABLE_2

# %% [markdown]
# What they say of the paper's claims, case by case, is in {doc}`10_claims`.
#
# ## What P1 leaves open, on photographs
#
# The choices of {doc}`11_open_choices`, one changed at a time, on twelve classes and ResNet-18: what each does to the
# consistency of the last layer and to accuracy. Held against training as in chapter 3:

# %% tags=["hide-input"]
choices = kept["choices-photographs"].tables["choices"].set_index(["choice", "measure"])
cited(
    with_intervals(choices[["value", "low", "high"]], decimals=2)["value"].unstack("measure", sort=False),
    kept["choices-photographs"].record,
)

# %% tags=["hide-input"]
cited(figures.choice_differences(choices.reset_index()), kept["choices-photographs"].record)

# %% [markdown]
# A point is open where its interval holds zero. Each interval is of 95 % for itself, so that one difference in twenty
# leaves zero by chance.
#
# The share of images that activates a neuron:

# %% tags=["hide-input"]
cited(
    figures.sweep(kept["choices-photographs"].tables["shares"], x="quantile", y="U"), kept["choices-photographs"].record
)

# %% [markdown]
# ## P2's adversarial set on photographs
#
# Ten targets, the least likely ones, for each of 204 photographs, made on three normally trained networks at once: how
# many per cent reach their target on each network, with an interval over photographs; how strongly pixels change (root
# mean square, in grey levels of 255); and how the networks that had no part in it see the set.

# %% tags=["hide-input"]
LARGE = "adversarial-photographs"
made = kept[LARGE].tables
shown(made["success"].set_index(["set", "network"]).drop(columns="RMSD"), LARGE, decimals=1)

# %% tags=["hide-input"]
shown(made["transfer"].set_index(["set", "network"]), LARGE, decimals=1)

# %% tags=["hide-input"]
full_size = made["full-size"].set_index(["device", "devices"]).round(2)
glue("full-size", full_size, display=False)
cited(full_size, kept[LARGE].record)

# %% [markdown]
# What the paper's half a million images of 224 pixels would take at that rate, scaled by the number of pixels.
#
# ## P2's measures on photographs
#
# What {doc}`06_representations` measures with this set: CS1 and CS2 over LC,

# %% tags=["hide-input"]
OWN, TRACING = "representation-photographs", "tracing-photographs"
traced = kept[TRACING].tables
cited(representation_figures.cs_curves(kept[LARGE].tables["curves"]), kept[LARGE].record)


# %% tags=["hide-input"]
def with_own_sets(table):
    """The rows of the large set, and below them those of a smaller set that are of networks attacked themselves."""
    rows = together([LARGE, OWN], table)
    return rows[(rows["study"] == LARGE) | rows["network"].str.endswith("own set")].drop(columns="study")


# %% [markdown]
# the means over neurons, and those of the distances in feature space, beside the same images under noise and the
# paper's means. Lines marked *own set* are of a second, smaller set, made on the consistently trained networks
# themselves.

# %% tags=["hide-input"]
neurons = with_own_sets("neurons")
columns = [name for name in neurons if name.split()[0] in ("U", "CS1", "CS2", "shows", "merely")]
shown(neurons.set_index(["network", "layer"])[columns], LARGE, OWN)

# %% tags=["hide-input"]
ratios = with_own_sets("ratios")
ratios = ratios[(ratios["of"] != "difference") & (ratios["clean images"] > 1)]
ratios = with_intervals(ratios.set_index(["network", "subset", "images", "clean images", "ratio", "of"]), decimals=2)
cited(ratios["value"].unstack(["ratio", "of"], sort=False), kept[LARGE].record, kept[OWN].record)

# %% tags=["hide-input"]
paper.DISTANCE_RATIOS

# %% [markdown]
# And how well the influential neurons tell adversarial images from honest ones, as in {doc}`07_tracing`, beside two
# rivals; then under an attacker who knows them.

# %% tags=["hide-input"]
cited(tracing_figures.auroc_intervals(traced["detections"]), kept[TRACING].record)

# %% tags=["hide-input"]
cited(tracing_figures.auroc_intervals(traced["adaptive"]), kept[TRACING].record)

# %% [markdown]
# ## P3 on photographs
#
# Forty classes of Tiny ImageNet, three seeds, ResNet-18: trained normally, with the paper's weights, with the same
# weights divided by their mean, with Eq. 6 of P1, and with both papers' methods together (each image's Eq. 6 times its
# weight). First each measure's mean over seeds, with the lowest and the highest seed in brackets, then the differences
# to the normally trained networks. The unit is the seed: an interval of three seeds is wide, and the intervals of one
# table share their 95 % among the measures (each is wider, by Bonferroni). A difference counts where its interval
# leaves zero out, so half an interval's width is the least difference that could have been seen: with three seeds only
# a large one. The spread over seeds, in the first table, says more about how the trainings went.


# %% tags=["hide-input"]
def over_seeds(study: str) -> pd.DataFrame:
    """By measure and objective the mean over seeds, lowest and highest in brackets; chance; untrained."""
    measures = kept[study].tables["measures"]
    seeds = measures.dropna(subset="seed").groupby(["measure", "objective"], sort=False)["mean"]
    spread = seeds.agg(["mean", "min", "max"]).rename(columns={"min": "low", "max": "high"})
    spread = with_intervals(spread, decimals=2)  # of five trainings, side by side
    others = measures[measures["seed"].isna()].set_index("measure")[["mean", "chance"]].round(2)
    others.columns = ["untrained", "chance"]
    others = others.astype(object).fillna("")
    whole = others[["chance"]].join(spread["mean"].unstack("objective", sort=False), how="right")
    return cited(whole.join(others["untrained"]), kept[study].record)


over_seeds("explanation-photographs")


# %% tags=["hide-input"]
def verdicts(study: str) -> pd.DataFrame:
    """The differences of a study, as they are shown."""
    return shown(kept[study].tables["verdicts"].set_index(["objective", "measure"]).drop(columns="architecture"), study)


photographs = kept["explanation-photographs"].tables
reweighted = photographs["verdicts"][photographs["verdicts"]["objective"].str.startswith("reweighted")]
counts = reweighted["verdict"].value_counts()
for word in ("better", "worse", "not shown"):
    glue(f"photographs-{word.replace(' ', '-')}", f"{counts.get(word, 0)}", display=False)
glue("photographs-differences", f"{len(reweighted)}", display=False)
verdicts("explanation-photographs")

# %% [markdown]
# Of the {glue:text}`photographs-differences` differences that P3's own two trainings make, shown to be for the better:
# {glue:text}`photographs-better`, for the worse: {glue:text}`photographs-worse`, not shown:
# {glue:text}`photographs-not-shown`. The paper claims better accuracy, localisation and robustness.
#
# What the weights add to Eq. 6, networks trained with both less those trained with Eq. 6 alone:

# %% tags=["hide-input"]
shown(photographs["added"].set_index("measure").drop(columns="architecture"), "explanation-photographs")

# %% [markdown]
# And do P3's networks have more consistent neurons, which is what P1 asks? U of the last layer, under true labels, on
# real images and on each network's own FGSM images, then its differences, of the means over seeds:

# %% tags=["hide-input"]
rows = photographs["neurons"][photographs["neurons"]["labels"] == "true"].set_index(["model", "set"])
shown(rows[["images", "m", "V", "V chance", "U", "U low", "U high", "U chance", "excluded"]], "explanation-photographs")

# %% tags=["hide-input"]
rows = photographs["changes"][photographs["changes"]["first"].str.endswith("seeds")]
shown(rows.set_index(["first", "second", "set"]).drop(columns="labels"), "explanation-photographs")

# %% [markdown]
# The same on twelve classes, with less to learn from:

# %% tags=["hide-input"]
over_seeds("explanation-twelve-photographs")

# %% tags=["hide-input"]
verdicts("explanation-twelve-photographs")

# %% [markdown]
# ## Does reweighting wean a network from backgrounds?
#
# Rendered scenes in which each class has a background of its own, before which it stands in 50, 80 or 95 % of the
# training images. The *gap* is the accuracy before backgrounds of the object's own class, less that before those of
# another one: what the background is worth to the network. Three seeds each; the smaller the gap the better. In the
# studies called *truth* the attack behind the weights spares the true object: there E does see the use of backgrounds,
# which with the network's own mask it cannot ({doc}`08_explanation_consistency`).

# %% tags=["hide-input"]
COLUMNS = [
    "accuracy",
    "accuracy, same background",
    "accuracy, other background",
    "background gap",
    "E",
    "E, object spared",
]
debiasing = {name: kept[name].tables for name in studies if "debiasing" in name}
rows = pd.concat(
    {name.removeprefix("explanation-debiasing-"): tables["measures"] for name, tables in debiasing.items()},
    names=["study"],
)
rows = rows[rows["seed"].notna() & rows["measure"].isin(COLUMNS)]
means = rows.groupby(["study", "objective", "measure"], sort=False)["mean"].mean().unstack("measure")
shown(means[COLUMNS], *debiasing)

# %% tags=["hide-input"]
gaps = pd.concat(
    {name.removeprefix("explanation-debiasing-"): tables["verdicts"] for name, tables in debiasing.items()},
    names=["study"],
)
gaps = gaps.reset_index("study")
gaps = gaps[gaps["measure"].isin(["accuracy", "accuracy, other background", "background gap"])]
words = gaps.loc[gaps["measure"] == "background gap", "verdict"].value_counts()
for word in ("better", "worse", "not shown"):
    glue(f"gap-{word.replace(' ', '-')}", f"{words.get(word, 0)}", display=False)
shown(gaps.set_index(["study", "objective", "measure"]).drop(columns="architecture"), *debiasing)

# %% [markdown]
# Of these comparisons of the gap, {glue:text}`gap-better` show reweighting to narrow it, {glue:text}`gap-worse` to
# widen it, and {glue:text}`gap-not-shown` neither.
#
# ## The open choices
#
# What the paper leaves open, changed one at a time, on the rendered scenes of chapter 8 and with weights of mean one:
# the distance between two explanations, how much of a map counts as background, how often weights are renewed, and
# whose mask the attack spares. One seed each, so the unit is the image, and a verdict is of these two networks alone. E
# is measured as it was trained with: with the distance and threshold of its row.

# %% tags=["hide-input"]
CHOICES = ["accuracy", "accuracy, FGSM", "background gap", "pointing game", "box IoU", "E", "E, object spared"]
ablation = {name: kept[name].tables["verdicts"] for name in studies if "ablation" in name}
rows = pd.concat(
    {name.removeprefix("explanation-ablation-"): table for name, table in ablation.items()}, names=["changed"]
)
rows = rows.reset_index("changed")
rows = rows[rows["measure"].isin(CHOICES)].set_index(["measure", "changed"])
shown(rows.drop(columns=["architecture", "objective"]).sort_index(), *ablation)

# %% [markdown]
# ## What is fast
#
# `make bench` times every fast path of the library beside a plain way to the same result, in turns. {doc}`/scaling`
# says how to read it.

# %% tags=["hide-input"]
benchmarks = read_result("benchmarks")
print(f"{benchmarks.record['device']}, PyTorch {benchmarks.record['torch']}, commit {benchmarks.record['commit']}")
timed = benchmarks.tables["table"].drop(columns="apart").set_index(["work", "against", "on"])
timed = with_intervals(timed, decimals=2)
glue("benchmarks", timed, display=False)
cited(timed, benchmarks.record)

# %% [markdown]
# Where the time of a training step goes, in per cent, as the profiler sees it. What an optimiser does in many small
# operations counts among the sums and the rest; kinds that no step has are left out.

# %% tags=["hide-input"]
profiled = benchmarks.tables["profile"].set_index("operation").round(1)
profiled = profiled[(profiled > 0).any(axis=1)]
glue("step-profile", profiled, display=False)
cited(profiled, benchmarks.record)

# %% tags=["hide-input"]
grown = read_result("growth")
growth = grown.tables["growth"].set_index(["grows", "images", "channels"]).round(2)
glue("growth", growth, display=False)
cited(growth, grown.record)

# %% [markdown]
# The streaming pass over one layer on one thread: seconds and memory as images and channels grow, and the exponents of
# the power law fitted to each (1 is linear).

# %% [markdown]
# ## The studies, and what they cost
#
# *Library* says whether what the study uses of this library still computes the same as when it ran. *Training s* are
# the seconds of training of all its networks on the device named, *run s* those of the notebook, with the trainings
# that it found undone; blank: run before that was recorded.

# %% tags=["hide-input"]
overview = record_table({name: one.about for name, one in studies.items()}, kept)
overview

# %% [markdown]
# In hours. A study whose networks an earlier one had trained counts their training again, so the column does not add
# up to what was spent:

# %% tags=["hide-input"]
hours = (overview[["training s", "run s"]] / 3600).round(2).set_axis(["training h", "run h"], axis=1)
spent = overview[["on"]].join(hours.astype(object).fillna(""))
glue("spent", spent, display=False)
spent
