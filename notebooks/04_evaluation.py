# %% [markdown]
# # What the consistent loss changes
#
# :::{admonition} In short
# :class: in-short
# **Question.** Do neurons stay consistent under attack in a network that is trained with P1's {term}`consistent loss`,
# and is it that loss that does it?
#
# **Answer.** U on FGSM images, in networks trained with the loss, held against normally trained ones:
# {glue:text}`keeps-counts`. Held against the same adversarial training without the loss:
# {glue:text}`adds-counts`. The ledger says of the kept studies, on photographs:
# <a href="14_claims.html#claim-training-keeps-consistency">neurons are more consistent under attack after this
# training</a>: {glue:text}`ledger-keeps`; <a href="14_claims.html#claim-consistent-loss-adds">it is the consistent loss
# that does it</a>: {glue:text}`ledger-adds`.
#
# **The number that decides.** U on FGSM images with the loss, less U without it, held against 0:
# {glue:text}`adds-numbers`.
#
# **Change it yourself.** `make notebook N=04 PARAMS="sigma=1.5"` lets relatives count for less
# ({ref}`change-a-parameter`). Every V and U falls, and chance falls with them.
# :::
#
# P1 trains three networks normally and with the consistent loss {cite}`dong2019towards`. This page repeats that with
# the networks that {doc}`03_consistent_loss_training` chose last, and adds a {term}`chance level`, an interval,
# controls, and the same training *without* the loss.

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

# %% tags=["hide-input", "remove-output"]
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.knobs import counted, sigma_knob
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
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
from neuron_consistency.consistency.measure import chance
from neuron_consistency.consistency.reactions import check_sizes, null_passes, reaction_table, shuffled
from neuron_consistency.plotting import picture_grid
from neuron_consistency.show import in_words, interval_text, number_text, with_intervals
from neuron_consistency.statistics import FAILS, HOLDS, OPEN
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
attackers = {}
if attacker_seed >= 0:
    recipe = plain.recipe
    recipe = replace(recipe, seed=attacker_seed, schedule=replace(recipe.schedule, seed=attacker_seed))
    attackers[f"{recipe.title}, seed {attacker_seed}"] = obtain(recipe, page.on.device).model  # trained where missing
how = {"quantile": quantile, "top_k": top_k}
models = {titles[net.recipe.key]: net.model for net in nets}
passes = measure_networks(models, images, page.on, epsilon=epsilon, pgd_steps=pgd_steps, attackers=attackers, **how)

# %% [markdown]
# ## Consistency before and after training

# %% tags=["hide-input"]
tables = consistency_table(passes, A, equal_m=top_k)
page.table(
    view(tables, "paper"),
    "consistency",
    "Mean consistency of the last convolutional layer's neurons on real and on FGSM images, under the true labels "
    "(P1's Table 1). Compare U with U chance in the same line: only what stands above chance is consistency. "
    f"V, U: from 0 to 1; V top, U top: of each neuron's {top_k} strongest images; m: active images a neuron; excluded: "
    "share of the neurons, which fewer than two images activate. Intervals: 95 %, over images.",
    decimals=2,
)

# %% [markdown]
# V is the paper's $p^\top A\,p$, {eq}`eq-consistency`. Its chance level depends on how many images $m$ activate a
# neuron, which an attack changes, {eq}`eq-chance`. The chance level of U, {eq}`eq-unbiased`, does not depend on $m$.
#
# The paper's own numbers are from ImageNet's 1000 classes. Their size cannot be compared with ours, since chance
# depends on the number of classes and on how the tree joins them. Their direction can.

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
# Every network sees the real images once. Each neuron's threshold is set there and kept for all other sets: the
# network's own FGSM images, and the controls of {doc}`02_ambiguity_discovery`, which are noise of the same size, only
# the attacks that succeeded, and real images that the network gets wrong unaided. One more set is shown to all networks
# alike. It holds FGSM images of one further network, trained as the first normal one but with another seed. That
# network is not compared itself: its images would know it alone, and reach all others by {term}`transfer`.
#
# If neurons have become {term}`ambiguous` under attack, U also falls when images are filed under the label that the
# network gave them. If U falls under the true labels alone, the neurons follow the wrong decision.

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

# %% [markdown]
# The folded table has the numbers of this figure.

# %% tags=["hide-cell"]
page.table(
    view(tables, "controls"),
    "controls",
    "Every set of images under true and predicted labels. U top takes each neuron's strongest images of the set, "
    "equally many in all sets. V, U: from 0 to 1; m: active images a neuron.",
    decimals=2,
)

# %% [markdown]
# ## What the consistent loss adds
#
# P1's Eq. 6, {eq}`eq-consistent-loss`, adds two things to normal training at once: attacked images, and with weight
# $\beta$ a loss that keeps their features near to those of the clean image. To see what the second one adds, we compare
# with the same training at $\beta = 0$, which is called *adversarial* here. Two networks see the same images, so each
# difference is taken again without each group of images, for both networks together:

# %%
pairs = [("consistent", "adversarial"), ("consistent", "normal"), ("adversarial", "normal")]
sets = [(REAL, "true"), (FGSM, "true"), (FGSM, "predicted"), *((common(title), "true") for title in attackers)]
differences = compare_trainings(passes, recipes, titles, A, pairs, sets)

# %% tags=["hide-input"]
shown = differences.rename(columns={"U": "U of first", "U there": "U of second", "U is": "first is"})
page.table(
    shown.set_index(["first", "second", "set", "labels"]).sort_index(level=[0, 1], sort_remaining=False),
    "differences",
    "Mean U of the first network, of the second, and the first less the second on the same images. An interval (95 %, "
    "over images; over seeds as well where several are named) that leaves out 0 shows a difference.",
)

# %% [markdown]
# With one seed, an interval tells how far other images could have moved the difference. A claim about the *method*
# needs other seeds too: {doc}`09_results_p1` has them.
#
# ## The distribution over neurons
#
# A mean may hide that a few neurons lose everything and the others nothing. P1's Figure 5 shows all neurons:

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
# ## Accuracy
#
# The paper gives clean and FGSM accuracy. A network can resist FGSM alone by hiding its gradient, so PGD, with several
# steps from a random start, stands beside it.

# %% tags=["hide-input"]
attacked = {REAL: "clean", FGSM: "FGSM", PGD: f"PGD, {pgd_steps} steps", NOISE: "noise"}
accuracies = accuracy_table(passes, attacked)
page.say({f"clean accuracy, {title}": f"{one.right(REAL).mean():.0f} %" for title, one in passes.items()})
shown = with_intervals(accuracies.set_index(["model", "images"]), decimals=1)["accuracy"].unstack(sort=False)
page.table(
    shown.rename_axis(columns=None),
    "accuracy",
    "Accuracy in per cent on clean and attacked images (P1's Table 3), with Wilson intervals of 95 % over images. A "
    "network that resists FGSM and not PGD only hides its gradient.",
    exact=accuracies,
)

# %% [markdown]
# Whoever guesses is right for {glue:text}`guess` of the images. The paper says in words that clean accuracy falls by
# about ten points after adversarial training, and that accuracy under attack rises. We do not have the values of its
# table.
#
# ## What fires the neurons of the trained network
#
# We take the most consistent neurons of a network trained with the consistent loss, and look at the images that fire
# them most. An image is dark where hiding a patch does not lower the neuron's response (a discrepancy map
# {cite}`zhou2015object`).

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
# ## What to doubt
#
# **The size of the networks.** The demo's networks are small and see rendered scenes, and a study has few seeds. The
# kept studies on photographs ({doc}`09_results_p1`) weigh more than this page.
#
# **The attack.** All of this is FGSM, at one size. Whether trained networks keep their neurons when an attack knows
# them better is asked in {doc}`06_representations`.
#
# ### How much depends on sigma
#
# $\sigma$ decides how fast correlation decays along the tree. The chance level moves with it, so each mean must be
# read against its own chance.

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
# ### Does the measure react?
#
# If a measure stays where it is when the weights are random, or when labels have nothing to do with images, it measures
# something else {cite}`adebayo2018sanity`. We take the first normally trained network, layer by layer: as it is; with
# every image under the label of another; with random weights; and on the same images shown smaller and larger than in
# training, which makes the maps coarser or finer whose largest value is a neuron's response.

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
# filters see colour, and colour goes with class. What training adds is the distance between the two curves. The ledger
# judges that distance: it holds the last layer of each normally trained network against the same layer with the random
# weights of its seed.
#
# ## What this says of the claims
#
# These are the rows of this chapter in the ledger of all claims ({doc}`14_claims`). A claim *holds* for a network where
# the whole interval lies on its side, and *fails* where it lies on the other. A case that names a *null* is the same
# number where nothing was learned, or where nobody attacked: a claim that holds there too says little. *Equally many*
# images are each neuron's `top_k` strongest of each set. An attack that drives more images above a threshold, or fewer,
# cannot move that number.

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

# %% tags=["remove-input"]
claims = {
    "keeps": "training-keeps-consistency",
    "adds": "consistent-loss-adds",
    "falls": "less-consistent-under-attack",
}
for name, claim in claims.items():
    cases = findings[findings["claim"] == claim]
    numbers = [interval_text(*row, decimals=3) for row in cases[["value", "low", "high"]].to_numpy(float)]
    yes, no, unsure = (int((cases["verdict"] == verdict).sum()) for verdict in (HOLDS, FAILS, OPEN))
    up, down = (no, yes) if name == "falls" else (yes, no)
    page.say(
        {f"{name}-counts": f"higher in {up}, lower in {down} and not settled in {unsure} of {len(cases)} networks"}
    )
    page.say(
        {f"{name}-numbers": "; ".join(f"{case}, {told}" for case, told in zip(cases["case"], numbers, strict=True))}
    )
ledger = Found(Kept.read()).numbers
page.say({f"ledger-{name}": f"{ledger[claim].row['verdict']}, {ledger[claim].bare}" for name, claim in claims.items()})
page.say(guess=f"{100 / images.num_classes:.0f} %")

# %% [markdown]
# ## Summary
#
# - **The fall.** In normally trained networks, U on FGSM images under the true labels, held against real images, is
#   {glue:text}`falls-counts`. Where neurons follow the wrong decision, the fall is gone under the predicted labels.
# - **The cure.** U on FGSM images after training with the consistent loss, held against normal training, is
#   {glue:text}`keeps-counts`. Look at U on real images and at clean accuracy as well: a network that has learned less
#   has less to lose.
# - **The loss itself.** Held against the same adversarial training without it, U is {glue:text}`adds-counts`.
# - Every U is worth reading only beside its chance level, and every difference only beside its interval.
#
# ## Try this

# %% tags=["hide-input"]
try_this("04_evaluation")

# %% [markdown]
# ## Exercises
#
# **1.** How much of its consistency above chance does a network keep under FGSM, under the true labels? Work it out
# from the first table for {glue:text}`normal-title` and for {glue:text}`trained-title`. Why must chance be taken off
# first?

# %% tags=["remove-input"]
for name, net in {"normal": plain, "trained": consistent}.items():
    title = titles[net.recipe.key]
    before, after = (by_labels["true"][title, one] for one in (REAL, FGSM))
    level = float(tables["U chance"].iloc[0])
    left = (
        f"{100 * (after - level) / (before - level):.0f} %"
        if before > level
        else "nothing, having nothing above chance,"
    )
    page.say({f"{name}-title": title, f"{name}-left": left})
    page.say({f"{name}-sum": f"({after:.3f} - {level:.3f}) / ({before:.3f} - {level:.3f})"})

# %% [markdown]
# :::{dropdown} Answer
# {glue:text}`normal-title` keeps {glue:text}`normal-left`: {glue:text}`normal-sum`. {glue:text}`trained-title` keeps
# {glue:text}`trained-left`: {glue:text}`trained-sum`. A neuron that fires blindly has U at chance before and after.
# With chance left in, it would seem to keep all of its consistency, though it has none to keep.
# :::
#
# **2.** Under an attack, half as many images activate a neuron. By how much does the chance level of V rise, if
# {glue:text}`halved-from` images activated it before? And that of U?

# %% tags=["remove-input"]
many = max(4, round(float(tables["m"].iloc[0])))
random = chance(images.labels, A)
high, low = (float(random.biased(torch.tensor(m))) for m in (many // 2, many))
page.say(halved_from=many, halved_to=many // 2, halved_low=f"{low:.3f}", halved_high=f"{high:.3f}")
page.say(halved_rise=number_text(high - low, 3), halved_u=f"{random.unbiased:.3f}")

# %% [markdown]
# :::{dropdown} Answer
# By {eq}`eq-chance` the chance level of V is {glue:text}`halved-low` for {glue:text}`halved-from` images and
# {glue:text}`halved-high` for {glue:text}`halved-to`: it rises by {glue:text}`halved-rise`, though no neuron has become
# more consistent. That of U stays at {glue:text}`halved-u`.
# :::
#
# **3.** The table of differences takes its intervals from both networks at once. How wide would the interval of its
# first line be if the two networks had seen *different* images, so that their errors were independent?

# %% tags=["remove-input"]
pair = differences.iloc[0]
here = tables[(tables["set"] == pair["set"]) & (tables["labels"] == pair["labels"])].set_index("model")
halves = [(here["U high"] - here["U low"])[pair[name]] / 2 for name in ("first", "second")]
page.say(apart=number_text(float(np.hypot(*halves)), 3), paired=number_text((pair["high"] - pair["low"]) / 2, 3))
page.say({f"half-{name}": number_text(half, 3) for name, half in zip(("first", "second"), halves, strict=True)})

# %% [markdown]
# :::{dropdown} Answer
# Independent errors add by their squares. From the half widths {glue:text}`half-first` and {glue:text}`half-second` of
# the two networks follows {glue:text}`apart`; the table has {glue:text}`paired`. Where the second is smaller, both
# networks find the same images hard, and what moves both drops out of their difference. Where it is not, sharing the
# images has helped little.
# :::
