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
# The networks are those that {doc}`03_consistent_loss_training` chose last; their names are printed below.

# %% tags=["parameters"]
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
architectures: list[str] = []  # which of the networks; [] takes all
seeds: list[int] = []  # of which seeds; [] takes all
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
per_class: int = 20  # validation images of each class; 0 takes all
epsilon: float = 4 / 255  # size of FGSM, PGD and the noise, in units of the pixel range
quantile: float = 0.005  # share of the real images that activate a neuron ...
top_k: int = 20  # ... but at least so many
sigma: float = 2.0  # how fast correlation decays with WordNet distance
sigmas: list[float] = [1.0, 1.5, 2.0, 2.5, 3.0]  # of the sweep
sizes: list[int] = [48, 96]  # sides of the images beside that of training, to check the measure; AlexNet: at least 63
pgd_steps: int = 5  # steps of PGD in the accuracy table
shown_neurons: int = 4  # rows of the picture of top images
shown_images: int = 5  # real, and as many adversarial, images in a row
batch_size: int = 200  # images a forward pass
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %%
from neuron_consistency.workflow.parameters import check

parameters = check(globals())

# %%
import pandas as pd
import torch
from myst_nb import glue

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.predictions import accuracy_row, pgd_predictions
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.ambiguity import (
    COMMON,
    FGSM,
    NOISE,
    REAL,
    compare_trainings,
    measure_with_controls,
    reaction_table,
    shuffled,
)
from neuron_consistency.consistency.gallery import strongest_neurons, top_image_rows
from neuron_consistency.consistency.measure import neuron_table
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.reading import evaluating
from neuron_consistency.plotting import picture_grid
from neuron_consistency.runtime import resolve_device
from neuron_consistency.show import distinct_titles, with_intervals
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import evaluation_images, obtain, untrained
from neuron_consistency.workflow import paper
from neuron_consistency.workflow.claims import keep_findings
from neuron_consistency.workflow.findings import evaluation_findings
from neuron_consistency.workflow.networks import current_models
from neuron_consistency.workflow.results import keep_result, provenance, start_of
from neuron_consistency.workflow.stamps import stamp_outputs

stamp_outputs("04_evaluation", parameters, globals())
start, where = start_of("04_evaluation", "consistency"), resolve_device(device)
pd.set_option("display.max_rows", 500)  # tables are shown whole
nets = [obtain(recipe, device=device) for recipe in current_models(profile, architectures=architectures, seeds=seeds)]
images = evaluation_images(nets[0].recipe, per_class=per_class)
A = correlation(distance_matrix(images.synsets), sigma=sigma)
titles = distinct_titles(net.recipe for net in nets)
print(f"{len(images)} validation images of {images.num_classes} classes; evaluated here:")
for net in nets:
    print(f"  {titles[net.recipe.key]} [{net.recipe.key}]")
plain = next((net for net in nets if net.recipe.spec["objective"] == "normal"), nets[0])
for size in sizes:  # now, and not when everything else has been measured
    try:
        with torch.no_grad(), evaluating(plain.model):
            plain.model.cpu()(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise ParameterError(
            f"sizes={sizes}: images of {size} px leave {plain.title} no maps; use larger ones"
        ) from error

# %% [markdown]
# ## One pass for each set
#
# Every network sees the real images once; each neuron's threshold is set there and kept for all other sets. Then
# come its own FGSM images, and the controls of {doc}`02_ambiguity_discovery`: noise of the same size, FGSM images
# of one network shown to all, only the attacks that succeeded, and real images that the network gets wrong unaided.

# %%
measured, pgd = {}, {}
for net in nets:
    attacker = next(
        (other for other in nets if other.recipe.spec["objective"] == "normal"), nets[0]
    )  # the common adversarial images come from the first normally trained network
    title = titles[net.recipe.key]
    print(f"measuring {title}", flush=True)
    measured[title] = measure_with_controls(
        net.model,
        images,
        epsilon=epsilon,
        device=where,
        attacker=attacker.model,
        quantile=quantile,
        top_k=top_k,
        batch_size=batch_size,
        precision=precision,
    )
    pgd[title] = pgd_predictions(
        net.model, images, epsilon=epsilon, steps=pgd_steps, device=where, batch_size=batch_size, precision=precision
    )

# %% [markdown]
# ## Table 1: consistency of the last convolutional layer
#
# V is the paper's $p^\top A\,p$; what it reads for neurons that fire at random is beside it, and depends on how many
# images $m$ activate a neuron, which an attack changes. U is the unbiased form, whose chance level does not. The
# last two columns take the strongest `top_k` images of each set, so that $m$ is equal. Intervals are 95 % over images
# (a jackknife over groups of images). Neurons that fewer than two images activate are left out, and their
# share is in the column *excluded*.

# %%
tables = pd.concat(
    {title: one.table(A, equal_m=top_k) for title, one in measured.items()}, names=["model"]
).reset_index("model")
paper_table = tables[tables["set"].isin([REAL, FGSM]) & (tables["labels"] == "true")]
with_intervals(paper_table.drop(columns=["labels", "images"]).set_index(["model", "set"]))

# %% [markdown]
# The paper's own numbers, from ImageNet's 1000 classes, are not comparable in size: chance depends on the
# number of classes and on how the tree joins them. Their direction is.

# %%
paper.TABLE_1

# %% [markdown]
# ### The controls
#
# If consistency falls under attack because neurons have become *ambiguous*, it must fall also when images are filed
# under the label the network gave them. If it falls only under the true labels, the neurons followed the wrong
# decision.

# %%
figures.consistency_intervals(tables)

# %%
with_intervals(
    tables.set_index(["model", "set", "labels"])[
        ["images", "m", "V", "V chance", "U", "U low", "U high", "U chance", "U top", "excluded"]
    ]
)

# %% [markdown]
# ### What the consistent loss adds
#
# Differences between two networks on the same images, with intervals from paired replicates. One seed tells how far
# images alone could have moved the difference; a claim about the *method* needs the spread over seeds too.

# %%
differences = compare_trainings(
    measured,
    [net.recipe for net in nets],
    titles,
    A,
    [("consistent", "adversarial"), ("consistent", "normal"), ("adversarial", "normal")],
    [(REAL, "true"), (FGSM, "true"), (FGSM, "predicted"), (COMMON, "true")],
)
with_intervals(differences.set_index(["first", "second", "set", "labels"]))

# %% [markdown]
# ## Figure 5: the distribution over neurons

# %%
histograms = pd.concat(
    [
        neuron_table(responses, one.layer, A).assign(model=title, measure=measure)
        for title, one in measured.items()
        for measure, responses in one.real_and_adversarial()
    ]
)
figures.consistency_histograms(histograms)

# %% [markdown]
# ## Table 3: accuracy
#
# The paper gives clean and FGSM accuracy. FGSM alone can be resisted by hiding the gradient, so PGD with several steps
# from a random start stands beside it. Wilson intervals of 95 %, over images, in per cent.

# %%
accuracies = pd.DataFrame(
    {"model": title, "images": name} | accuracy_row(predictions, images.labels)
    for title, one in measured.items()
    for name, predictions in [
        ("clean", one.passes[REAL].predictions),
        ("FGSM", one.passes[FGSM].predictions),
        (f"PGD, {pgd_steps} steps", pgd[title]),
        ("noise", one.passes[NOISE].predictions),
    ]
)
for title in measured:
    part = accuracies[accuracies["model"] == title].set_index("images")["accuracy"]
    glue(f"clean accuracy, {title}", f"{part['clean']:.0f} %", display=False)
with_intervals(accuracies.set_index(["model", "images"]), decimals=1)["accuracy"].unstack(sort=False)

# %% [markdown]
# Chance is one in the number of classes. The paper states in words that clean accuracy falls by about ten points
# after adversarial training, and that accuracy under attack rises; its table's values are not available to us.
#
# ## Figure 4: what fires the neurons of the trained network
#
# The most consistent neurons of a network trained with the consistent loss: their strongest real and adversarial
# images, darkened where hiding a patch does not lower the neuron's response (a discrepancy map {cite}`zhou2015object`).

# %%
shown = next((net for net in nets if net.recipe.spec["objective"] == "consistent"), nets[-1])
view = measured[titles[shown.recipe.key]]
sets = [
    ("real", images, view.passes[REAL], None),
    ("FGSM", images, view.passes[FGSM], lambda model, x, y: fgsm(model, x, y, epsilon=epsilon)),
]
neurons = strongest_neurons(view.passes[REAL], view.layer, A, count=shown_neurons)
print(titles[shown.recipe.key])
picture_grid(
    top_image_rows(shown.model, view.layer, neurons, sets, A, count=shown_images, device=where, precision=precision)
)

# %% [markdown]
# ## How much depends on sigma
#
# $\sigma$ decides how fast correlation decays along the tree. The chance level moves with it (dotted), so a mean is
# worth reading only against its own chance.

# %%
distances = distance_matrix(images.synsets)
sweep = pd.concat(
    [
        one.table(correlation(distances, sigma=value), equal_m=top_k).assign(model=title, sigma=value)
        for title, one in measured.items()
        for value in sigmas
    ]
)
sweep = sweep[sweep["set"].isin([REAL, FGSM]) & (sweep["labels"] == "true")]
figures.sweep(sweep, x="sigma", y="U")

# %% [markdown]
# ## Does the measure react?
#
# A measure that stays where it is when the weights are random, or when labels have nothing to do with images, measures
# something else {cite}`adebayo2018sanity`. The first normally trained network, layer by layer: as it is; with every
# image under the label of another; with random weights; and on the same images shown smaller and larger than in
# training, which changes how fine the maps are that a neuron's response is the maximum of.

# %%
cases = {
    "as trained": (plain.model, images),
    "labels shuffled": (plain.model, shuffled(images)),
    "random weights": (untrained(plain), images),
}
for size in sizes:
    cases[f"shown at {size} px"] = (plain.model, evaluation_images(plain.recipe, per_class=per_class, image_size=size))
reactions = reaction_table(
    cases, A, device=where, quantile=quantile, top_k=top_k, batch_size=batch_size, precision=precision
)
print(titles[plain.recipe.key])
figures.sweep(reactions.rename(columns={"case": "model"}).assign(set="true labels"), x="layer", y="U")

# %%
last_layer = reactions[reactions["layer"] == plain.model.last_layer].set_index("case")
with_intervals(last_layer[["accuracy", "m", "V", "V chance", "U", "U low", "U high", "U chance", "excluded"]])

# %% [markdown]
# Shuffled labels have to end at the chance level, in every layer. Random weights may stand above it: untrained
# filters see colour, and colour goes with class. What training adds is the distance between the two curves.
#
# ## What this says of the claims
#
# The rows of this chapter in the ledger of all claims ({doc}`10_claims`). A claim *holds* for a network where the whole
# interval lies on its side, and *fails* where it lies on the other.

# %%
findings = keep_findings(
    profile,
    start.notebook,
    evaluation_findings([net.recipe for net in nets], titles, measured, pgd, images.labels, A),
)
if study:
    kept_tables = {"consistency": tables, "differences": differences, "accuracy": accuracies, "reactions": reactions}
    first = {titles[net.recipe.key] for net in nets if net.recipe.spec["seed"] == nets[0].recipe.spec["seed"]}
    counted = histograms[histograms["model"].isin(first)].round({"V": 3}).groupby(["model", "measure", "V"], sort=False)
    kept_tables["histograms"] = counted.size().rename("neurons").reset_index()
    keep_result(study, start, kept_tables | {"findings": findings}, parameters=parameters, nets=nets)
with_intervals(findings.set_index(["claim", "case"]))

# %%
provenance(profile, nets)
