# %% [markdown]
# # Evaluation: what the consistent loss changes
#
# P1 evaluates its three networks, each trained normally and with the consistent loss, on clean images and on FGSM
# images made against each network {cite}`dong2019towards`: the mean consistency of the last convolutional layer's
# neurons (its Table 1 and Figure 5), the images that fire them (Figure 4), and accuracy (Table 3). This page remakes
# all of that, with what the paper lacks: a chance level and an interval beside every number, the controls that tell
# ambiguity from a neuron that merely follows a wrong decision, and adversarial training *without* the consistent
# loss, so that its own share can be seen.
#
# The networks are those that {doc}`03_consistent_loss_training` chose last.

# %% tags=["parameters", "hide-input"]
# what is looked at
architectures: list[str] = []  # which of the networks; [] takes all
seeds: list[int] = []  # of which seeds; [] takes all
per_class: int = 20  # validation images of each class; 0 takes all
sizes: list[int] = [48, 96]  # sides of the images beside that of training, to check the measure; AlexNet: at least 63
shown_neurons: int = 4  # rows of the picture of top images
shown_images: int = 5  # real, and as many adversarial, images in a row
# how it is measured
epsilon: float = 4 / 255  # size of FGSM, PGD and the noise, in units of the pixel range
quantile: float = 0.005  # share of the real images that activate a neuron ...
top_k: int = 20  # ... but at least so many
sigma: float = 2.0  # how fast correlation decays with WordNet distance
sigmas: list[float] = [1.0, 1.5, 2.0, 2.5, 3.0]  # of the sweep
pgd_steps: int = 5  # steps of PGD in the accuracy table
# seed of one more normally trained network, which is not compared: its FGSM images are shown to all; -1 leaves them out
attacker_seed: int = 100
# how it runs
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
batch_size: int = 200  # images a forward pass
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %% tags=["hide-cell"]
from dataclasses import replace

import pandas as pd

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.book.knobs import counted, sigma_knob
from neuron_consistency.book.page import open_page
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.ambiguity import (
    FGSM,
    NOISE,
    PGD,
    REAL,
    accuracy_table,
    common,
    compare_trainings,
    consistency_table,
    measure_networks,
    neuron_values,
    value_counts,
    view,
)  # fmt: skip
from neuron_consistency.consistency.gallery import strongest_neurons, top_image_rows
from neuron_consistency.consistency.reactions import check_sizes, null_passes, reaction_table, shuffled
from neuron_consistency.plotting import picture_grid
from neuron_consistency.show import in_words, with_intervals
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import evaluation_images, obtain, untrained
from neuron_consistency.workflow.findings import evaluation_findings
from neuron_consistency.workflow.results import paper_table

page = open_page("04_evaluation", globals(), "consistency")
nets = page.current()
recipes, titles = [net.recipe for net in nets], page.titles
plain = next((net for net in nets if net.recipe.objective == "normal"), nets[0])
check_sizes(plain.model, sizes, title=plain.title)  # now, and not when everything else has been measured
images = evaluation_images(nets[0].recipe, per_class=per_class)
A = correlation(distance_matrix(images.synsets), sigma=sigma)
print(f"{len(images)} validation images of {images.num_classes} classes")

# %% tags=["hide-input", "remove-output"]
attackers = {}
if attacker_seed >= 0:
    recipe = plain.recipe
    recipe = replace(recipe, seed=attacker_seed, schedule=replace(recipe.schedule, seed=attacker_seed))
    attackers[f"{recipe.title}, seed {attacker_seed}"] = obtain(recipe, page.on.device).model  # trained where missing
how = {"quantile": quantile, "top_k": top_k}
models = {titles[net.recipe.key]: net.model for net in nets}
passes = measure_networks(models, images, page.on, epsilon=epsilon, pgd_steps=pgd_steps, attackers=attackers, **how)

# %% [markdown]
# ## Table 1: consistency of the last convolutional layer
#
# V is the paper's $p^\top A\,p$; what it reads for neurons that fire at random is beside it, and depends on how many
# images $m$ activate a neuron, which an attack changes. U is the unbiased form, whose chance level does not. The
# last two columns take the strongest `top_k` images of each set, so that $m$ is equal. Intervals are 95 % over images
# (a jackknife over groups of images). Neurons that fewer than two images activate are left out, and their
# share is in the column *excluded*.

# %% tags=["hide-input"]
tables = consistency_table(passes, A, equal_m=top_k)
page.table(
    view(tables, "paper"),
    "consistency",
    "Mean consistency of the last convolutional layer's neurons on real and on FGSM images, under the true labels "
    "(P1's Table 1). Compare U with U chance in the same line: only what stands above chance is consistency. "
    "V, U: from 0 to 1; m: active images a neuron; excluded: share of the neurons. Intervals: 95 %, over images.",
    decimals=2,
)

# %% [markdown]
# The paper's own numbers, from ImageNet's 1000 classes, are not comparable in size: chance depends on the
# number of classes and on how the tree joins them. Their direction is.

# %% tags=["hide-input"]
page.table(
    paper_table("table_1"),
    "paper-consistency",
    "The paper's own means of V over neurons, on real images, consis(n), and on FGSM images, consis_adv(n): in every "
    "network consistency is lower under attack.",
    decimals=4,
)

# %% [markdown]
# ### The controls
#
# Every network sees the real images once; each neuron's threshold is set there and kept for all other sets. Then
# come its own FGSM images, and the controls of {doc}`02_ambiguity_discovery`: noise of the same size, only the attacks
# that succeeded, and real images that the network gets wrong unaided. One more set is shown to all alike: the FGSM
# images of one further network, trained as the first normal one with another seed, which is itself not compared. Were
# it one of those compared, its images would know that one alone, and reach all others by transfer.
#
# If consistency falls under attack because neurons have become *ambiguous*, it must fall also when images are filed
# under the label the network gave them. If it falls only under the true labels, the neurons followed the wrong
# decision.

# %% tags=["hide-input"]
by_labels = {kind: rows.set_index(["model", "set"])["U"] for kind, rows in tables.groupby("labels")}
page.figure(
    figures.consistency_intervals(tables),
    "controls",
    "Mean U of the last layer's neurons, a panel a network, a line a set of images, with 95 % intervals over images. "
    "Dots file images under their true labels, squares under the labels that the network gave them; grey strokes are "
    "chance. Neurons that have become ambiguous have both low under FGSM; of neurons that follow the wrong decision, "
    "the dots alone are low.",
    alt="Dots and squares with intervals on an axis of U. "
    f"Under true labels, {in_words(by_labels['true'])}. Under predicted labels, {in_words(by_labels['predicted'])}.",
)

# %% tags=["hide-input"]
page.table(
    view(tables, "controls"),
    "controls",
    "The numbers of the figure above: every set of images under true and predicted labels. U top takes each neuron's "
    "strongest images of the set, equally many in all sets. V, U: from 0 to 1; m: active images a neuron.",
    decimals=2,
)

# %% [markdown]
# ### What the consistent loss adds
#
# Differences between two networks on the same images, with intervals from paired replicates. One seed tells how far
# images alone could have moved the difference; a claim about the *method* needs the spread over seeds too.

# %% tags=["hide-input"]
pairs = [("consistent", "adversarial"), ("consistent", "normal"), ("adversarial", "normal")]
sets = [(REAL, "true"), (FGSM, "true"), (FGSM, "predicted"), *((common(title), "true") for title in attackers)]
differences = compare_trainings(passes, recipes, titles, A, pairs, sets)
page.table(
    differences.set_index(["first", "second", "set", "labels"]).sort_index(level=[0, 1], sort_remaining=False),
    "differences",
    "Mean U of the first network, of the second, and the first less the second on the same images. An interval (95 %, "
    "over images; over seeds as well where several are named) that leaves out 0 shows a difference.",
)

# %% [markdown]
# ## Figure 5: the distribution over neurons

# %% tags=["hide-input"]
neurons = neuron_values(passes, A)
page.figure(
    figures.consistency_histograms(neurons),
    "distribution",
    "How many neurons of the last layer have which consistency V (P1's Figure 5), a row a network: left real images, "
    "right FGSM images, under the true labels. The vertical line is the mean; an attack that makes neurons less "
    "consistent moves it to the left.",
    alt=f"Histograms over neurons. Mean V: {in_words(neurons.groupby(['model', 'measure'], sort=False)['V'].mean())}.",
)

# %% [markdown]
# ## Table 3: accuracy
#
# The paper gives clean and FGSM accuracy. FGSM alone can be resisted by hiding the gradient, so PGD with several steps
# from a random start stands beside it. Wilson intervals of 95 %, over images, in per cent.

# %% tags=["hide-input"]
attacked = {REAL: "clean", FGSM: "FGSM", PGD: f"PGD, {pgd_steps} steps", NOISE: "noise"}
accuracies = accuracy_table(passes, attacked)
page.say({f"clean accuracy, {title}": f"{one.right(REAL).mean():.0f} %" for title, one in passes.items()})
shown = with_intervals(accuracies.set_index(["model", "images"]), decimals=1)["accuracy"].unstack(sort=False)
page.table(
    shown.rename_axis(columns=None),
    "accuracy",
    "Accuracy in per cent on clean and attacked images (P1's Table 3), with 95 % intervals over images. What PGD "
    "breaks and FGSM does not, only hides its gradient.",
    exact=accuracies,
)

# %% [markdown]
# Chance is one in the number of classes. The paper states in words that clean accuracy falls by about ten points
# after adversarial training, and that accuracy under attack rises; its table's values are not available to us.
#
# ## Figure 4: what fires the neurons of the trained network
#
# The most consistent neurons of a network trained with the consistent loss: their strongest real and adversarial
# images, darkened where hiding a patch does not lower the neuron's response (a discrepancy map {cite}`zhou2015object`).

# %% tags=["hide-input"]
shown = next((net for net in nets if net.recipe.objective == "consistent"), nets[-1])
one = passes[titles[shown.recipe.key]]
own = lambda model, x, y: fgsm(model, x, y, epsilon=epsilon)  # noqa: E731
sets = [("real", images, one.sets[REAL], None), ("FGSM", images, one.sets[FGSM], own)]
chosen = strongest_neurons(one.sets[REAL], one.layer, A, count=shown_neurons)
pictures = top_image_rows(
    shown.model, sets, page.on, layer=one.layer, neurons=chosen, correlation=A, count=shown_images
)
page.figure(
    picture_grid(pictures),
    "top-images",
    f"What fires the most consistent neurons of {titles[shown.recipe.key]} (P1's Figure 4): a row a neuron, first its "
    "strongest real images, then its strongest FGSM images. Bright is what the response needs. Below stands the true "
    "class, and the predicted one where it differs: see whether the adversarial images are of the same classes as the "
    "real ones, by what they show or by what they are taken for.",
    alt="Rows of small pictures. "
    + " ".join(
        f"{title.replace(chr(10), ' ')}: {', '.join(' '.join(each.caption.split()) for each in row)}."
        for title, row in pictures.rows
    ),
)

# %% [markdown]
# ## How much depends on sigma
#
# $\sigma$ decides how fast correlation decays along the tree. The chance level moves with it, so a mean is
# worth reading only against its own chance.

# %% tags=["hide-input"]
distances = distance_matrix(images.synsets)
by_sigma = {value: consistency_table(passes, correlation(distances, sigma=value), equal_m=top_k) for value in sigmas}
sweep = pd.concat(view(table, "paper").assign(sigma=value) for value, table in by_sigma.items())
page.figure(
    figures.sweep(sweep.reset_index(), x="sigma", y="U"),
    "sigma",
    "Mean U of the last layer over sigma, in edges of the WordNet tree, left on real images, right on FGSM images: a "
    "line a network, with bands of 95 % over images; the line without dots is chance. See whether the distance from "
    "chance, and the order of the networks, stay as sigma grows.",
    alt="Lines of U over sigma. " + in_words(sweep.reset_index().set_index(["model", "set", "sigma"])["U"]) + ".",
)

# %% [markdown]
# Move sigma yourself. Every number rises with it, and chance rises too. Compare a bar with its own line of chance, and
# not with itself at another sigma. See whether the order of the lines stays: then the choice of sigma does not matter
# for it.

# %% tags=["hide-input"]
consistent = next((net for net in nets if net.recipe.objective == "consistent"), nets[-1])
turned = {titles[net.recipe.key]: passes[titles[net.recipe.key]] for net in (plain, consistent)}
page.knob(
    sigma_knob(
        {
            f"{title}: {name}, {kind} labels": counted(one.sets[name], one.layer, kind)
            for title, one in turned.items()
            for name, kind in [(REAL, "true"), (FGSM, "true"), (FGSM, "predicted")]
        },
        distances,
        sigma=sigma,
        of="network, images and labels",
        caption="V and U of the last layer, means over neurons.",
    )
)

# %% [markdown]
# ## Does the measure react?
#
# A measure that stays where it is when the weights are random, or when labels have nothing to do with images, measures
# something else {cite}`adebayo2018sanity`. The first normally trained network, layer by layer: as it is; with every
# image under the label of another; with random weights; and on the same images shown smaller and larger than in
# training, which changes how fine the maps are that a neuron's response is the maximum of.

# %% tags=["hide-input"]
cases = {
    "as trained": (plain.model, images),
    "labels shuffled": (plain.model, shuffled(images)),
    "random weights": (untrained(plain), images),
}
for size in sizes:
    cases[f"shown at {size} px"] = (plain.model, evaluation_images(plain.recipe, per_class=per_class, image_size=size))
reactions = reaction_table(cases, page.on, A, **how)
last = view(reactions[reactions["layer"] == plain.model.last_layer], "reactions")
page.figure(
    figures.sweep(reactions.rename(columns={"case": "model"}).assign(set="true labels"), x="layer", y="U"),
    "reactions",
    f"Mean U of {titles[plain.recipe.key]}, layer by layer, on real images under the true labels, with bands of 95 % "
    "over images; the line without dots is chance. With shuffled labels the curve has to lie at chance; what "
    "training adds is the distance between the curve as trained and that of random weights.",
    alt=f"Lines of U over the layers. In the last layer, {in_words(last['U'])}.",
)

# %% tags=["hide-input"]
page.table(
    last,
    "reactions",
    f"The last layer of {titles[plain.recipe.key]} in numbers: accuracy in per cent, and consistency under the true "
    "labels. V, U: from 0 to 1; m: active images a neuron.",
    decimals=2,
)

# %% [markdown]
# Shuffled labels have to end at the chance level, in every layer. Random weights may stand above it: untrained
# filters see colour, and colour goes with class. What training adds is the distance between the two curves. So that the
# ledger can judge that distance, each normally trained network's last layer is held against the same with the random
# weights of its seed.
#
# ## What this says of the claims
#
# The rows of this chapter in the ledger of all claims ({doc}`14_claims`). A claim *holds* for a network where the whole
# interval lies on its side, and *fails* where it lies on the other. A case that names a *null* is the same number where
# nothing was learned, or where nobody attacked: a claim that holds there too says little. *At equal number* means each
# neuron's `top_k` strongest images of each set: an attack that drives more images above a threshold, or fewer, cannot
# move that.

# %% tags=["hide-input"]
first = {titles[recipe.key] for recipe in recipes if recipe.seed == recipes[0].seed}
kept = {"consistency": tables, "differences": differences, "accuracy": accuracies, "reactions": reactions}
kept["histograms"] = value_counts(neurons[neurons["model"].isin(first)])
nulls = {
    titles[net.recipe.key]: null_passes(net.model, untrained(net), images, page.on, **how)
    for net in nets
    if net.recipe.objective == "normal"
}
findings = page.keep(kept, evaluation_findings(recipes, titles, passes, A, nulls))
page.findings(findings)

# %% tags=["hide-input"]
page.table(
    page.provenance().set_index("network"),
    "networks",
    "The networks behind this page: their data, seed, commits and machine.",
)
