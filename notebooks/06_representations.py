# %% [markdown]
# # What adversarial images reveal about neurons
#
# If a neuron of a network *detects* something, an image that fires it should show that thing. The first, longer
# version of P1, here called P2 {cite}`dong2017towards`, puts this to the test with adversarial images that fool
# several networks at once: to us each shows its true class, to the networks it is another, its *target*. Which of the
# two do the neurons follow? P2 measures it for every neuron, and for the whole feature vector, before and after
# training with the consistent loss of {doc}`03_consistent_loss_training`.
#
# P2 concludes that this training cures what it finds. Its images were made against the normal networks alone, though,
# so this page also makes some against the trained networks themselves, and that decides: of the adversarial images
# that fire a neuron most, how many do not show what it seems to detect, and are merely taken for it? The share is
# {glue:text}`cure`. {ref}`cure` has the figure.
#
# What the paper lacks stands beside every number: what shuffled labels give, what mere noise of the same size gives,
# what a network with random weights gives, and an interval.
#
# ## One image, several networks
#
# The attack looks for the nearest image $x^*$ that *all* networks $f_1, \dots, f_K$ of an ensemble take for the target
# $y^*$:
#
# $$
# \operatorname*{arg\,min}_{x^*}\; \lVert x^* - x \rVert_2
#   - \lambda\, \frac{1}{K} \sum_{k=1}^{K} \log f_k(x^*)_{y^*} ,\qquad x^* \in [0, 1]^n .
# $$ (eq-ensemble)
#
# (`fusion` has two other forms of the loss. With the logarithm of the *mean* probability, one network that is sure of
# the target leaves nothing to ask of the others, and few images reach it on all of them.)
#
# Adam moves the pixels until every network says the target of the image's 8-bit form. That step has gone too far by
# up to its own length, so the image is then drawn back towards $x$ as far as it keeps its target. The targets of an
# image are the classes that the networks together find least likely. The form of the loss, the rule for stopping, the
# way back and this choice of targets are ours; the paper made ten images of each of ImageNet's 50,000 for validation.
#
# The set is written in shards, and found again by a later run; a killed run goes on where it stopped. A first set is
# made on the normally trained networks. The others have no part in it, so it reaches them only by transfer: that they
# resist it might say little. A set of its own is therefore made on the networks of each other training. Networks of
# several seeds and architectures are one ensemble.

# %% tags=["parameters"]
# what is looked at
architectures: list[str] = []  # which of the networks; [] takes all
real_per_class: int = 0  # validation images of each class whose strongest are looked at; 0 takes all
per_class: int = 4  # of these, so many are attacked; 0 takes all
targets_per_image: int = 3  # adversarial images made of each, towards its least likely classes
second_set: bool = True  # also make a set against the networks of each other training
random_weights: bool = True  # also measure a network with random weights of each architecture, as the null
shown_neurons: int = 4  # neurons in the picture of top images, two rows each
shown_images: int = 6  # images in a row
# how it is measured
trade_off: float = 10.0  # lambda: how much reaching the target weighs against staying near
steps: int = 40  # steps of Adam for each image, at most
fusion: str = "loss"  # how the networks' losses become one: loss (their mean), logits, probability
learning_rate: float = 0.01  # of Adam, in units of the pixel range
shard_size: int = 1000  # adversarial images in a file
top_share: float = 0.01  # a neuron's top images: this share of a set ...
min_images: int = 10  # ... but at least so many ...
max_images: int = 5000  # ... and at most so many
sigma: float = 2.0  # how fast correlation decays with WordNet distance
bins: int = 8  # of LC, with equally many neurons in each
draws: int = 20  # shuffles behind the chance level of CS1 and CS2
purity: float = 0.5  # share of a neuron's top real images of one class from which that class is its concept
concept_distance: int = 2  # classes so near in WordNet's tree count as the concept too
pooling: str = "mean"  # of the last layer's maps, for distances: mean, max or none
centroid_images: int = 0  # training images of each class that a centroid is taken from; 0 takes all
about_one: float = 0.05  # an r1 within so much of 1 is called "about 1"
device_price: float = 3.0  # of a device like this for an hour, in any currency, for what the paper's size would cost
# how it runs
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
batch_size: int = 128  # images a forward pass
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import display

from neuron_consistency.attacks.targeted import least_likely_targets
from neuron_consistency.book.page import open_page
from neuron_consistency.consistency.gallery import strongest_neurons, top_image_rows
from neuron_consistency.networks.models import build_model
from neuron_consistency.plotting import picture_grid
from neuron_consistency.representation import claims, figures, tables
from neuron_consistency.runtime import describe_device
from neuron_consistency.show import stacked, with_intervals
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import evaluation_images, training_images
from neuron_consistency.training.recipes import TITLES
from neuron_consistency.workflow.claims import settled
from neuron_consistency.workflow.costs import full_size_table
from neuron_consistency.workflow.results import paper_table

page = open_page("06_representations", globals(), "representation", "attack")
nets = page.current()
recipes, titles = [net.recipe for net in nets], dict(page.titles)
models = {net.recipe.key: net.model for net in nets}
real = evaluation_images(nets[0].recipe, per_class=real_per_class)
places = real.first_of_each_class(per_class)
clean = real.subset(places)
train, _ = training_images(nets[0].recipe)
train = train.subset(train.first_of_each_class(centroid_images))
MADE_ON = {"normal": "the normal networks", "consistent": "the consistently trained", "adversarial": "the adversarial"}
groups = {kind: [net for net in nets if net.recipe.objective == kind] for kind in MADE_ON}
ensembles = {f"made on {MADE_ON[kind]}": some for kind, some in groups.items() if some}
NORMAL = f"made on {MADE_ON['normal']}"
if not second_set:
    ensembles = {NORMAL: ensembles[NORMAL]}
NULL = "[null: random weights]"
nulls = list(dict.fromkeys(recipe.architecture for recipe in recipes)) if random_weights else []
for name in nulls:
    models[name] = build_model(name, num_classes=real.num_classes, image_size=nets[0].recipe.image_size)
    titles[name] = f"{TITLES[name]} {NULL}"
print(f"{len(real)} validation images of {real.num_classes} classes, {len(clean)} of them attacked")

# %%
how = {"trade_off": trade_off, "steps": steps, "learning_rate": learning_rate, "fusion": fusion}
sets = {}
for name, ensemble in ensembles.items():
    print(f"the set {name}:", flush=True)
    targets = least_likely_targets([net.model for net in ensemble], clean, page.on, count=targets_per_image)
    sets[name] = page.adversarial_set(ensemble, clean, targets, shard_size=shard_size, **how)
    print(f"  {len(sets[name])} images, made at {sets[name].rate:.1f} a second")

# %% [markdown]
# How often each network says the target, in per cent, with an interval over clean images (those made of one image
# stand or fall together), and how often it says so of the clean image already. RMSD, how far an image is from the one
# it was made of, is the root mean squared change of a pixel, in grey levels out of 255, over the images that reached
# their target.

# %% tags=["hide-input"]
success = tables.success_table(sets, models, clean, page.on)
success["network"] = success["network"].replace({**titles, "all": "all of them at once"})
everywhere = success[success["network"] == "all of them at once"].set_index("set")
page.say(set_success=f"{everywhere.loc[NORMAL, 'reached']:.0f} %")
with_intervals(success.set_index(["set", "network"]).drop(columns="RMSD"), decimals=1)

# %% [markdown]
# All networks of its ensemble together take {glue:text}`set-success` of the first set for the target. Networks that
# had no part in a set see it as in the next table: how often they say the target, and how often anything but the true
# class, each beside the same of the clean images.

# %% tags=["hide-input"]
transfer = tables.transfer_table(sets, models, clean, page.on)
transfer["network"] = transfer["network"].replace(titles)
with_intervals(transfer.set_index(["set", "network"]), decimals=1)

# %% [markdown]
# The paper's set has half a million images of 224 pixels. At the rate measured here, scaled by the number of pixels, on
# one device like this one and on eight (a larger set, of photographs, is in {doc}`10_results_p2`):

# %% tags=["hide-input"]
full_size = full_size_table(sets[NORMAL], devices=[1, 8], price=device_price)
full_size["device"] = describe_device(page.on.device)
full_size.set_index(["device", "devices"]).round(2)

# %% [markdown]
# ## Every neuron of every layer
#
# One pass over the real images and one over each set find the *top images* of every neuron: the hundredth of the set
# (at least `min_images`) that fires it most. Let $h(n)$ be the class histogram of a neuron's top real images and $p$
# the same as shares. Then, with $A$ from {doc}`01_metric_definition`,
#
# $$
# \mathrm{LC}(n) = p^\top A\, p, \qquad
# \mathrm{CS}_1(n) = \cos\big(h(n), h_{\text{true}}(n)\big), \qquad
# \mathrm{CS}_2(n) = \cos\big(h(n), h_{\text{target}}(n)\big),
# $$ (eq-cs)
#
# where $h_{\text{true}}$ and $h_{\text{target}}$ count the true and the target classes of the neuron's top
# *adversarial* images. A neuron that detects what it seems to detect has a CS1 near 1. One that follows the networks'
# decision has a high CS2. Which histograms the paper compares is our reading of it. The chance level of both comes
# from shuffling labels and targets among the adversarial images.
#
# All networks are shown the first set, which is all that the paper does. Lines marked *own set* are of trained networks
# on the set made on them. Distances in feature space, explained further below, are measured along the way. A network
# with random weights tells what the pictures alone give.

# %%
top = {"share": top_share, "min_images": min_images, "max_images": max_images}
concepts = {"near": concept_distance, "purity": purity, "draws": draws}
measured = tables.measure_networks(
    models, titles, list(sets.values()), real, places, train, page.on,
    sigma=sigma, pooling=pooling, top=top, concepts=concepts,
)  # fmt: skip
by_seeds = claims.by_seeds(recipes, titles, measured)

# %% [markdown]
# LC over all neurons of all layers, beside what firing at random gives with the same number of images. *Silent* neurons
# have no top images in one of the sets, and are left out of all that follows.

# %% tags=["hide-input"]
objective_of = {recipe.key: recipe.objective for recipe in recipes} | dict.fromkeys(nulls, "random")
objectives = {label: objective_of[one.network] for label, one in measured.items()}
papers = {label: one for label, one in measured.items() if objectives[label] in ("normal", "consistent")}
tables.lc_table({title: measured[title] for title in titles.values()}).round(3)

# %% [markdown]
# The paper's, over 1000 classes, where chance is far lower:

# %% tags=["hide-input"]
paper_table("lc_ranges")

# %% [markdown]
# ### Figure 4: do the classes of real and of adversarial images agree?
#
# The neurons of all layers are dealt by their LC into bins of equal number. Bands are intervals of 95 %, a jackknife
# over groups of clean images, each leaving together with all that was made of it. They tell how far other images could
# have moved a curve; the neurons are all there are. Dotted: chance.

# %% tags=["hide-input"]
curves = stacked({label: one.neurons.curves(bins=bins) for label, one in papers.items()})
figures.cs_curves(curves)

# %% [markdown]
# The means over the neurons of the last layer and over those of all layers. U is LC without its bias
# ({doc}`01_metric_definition`).

# %% tags=["hide-input"]
summary = stacked({label: one.neurons.summary() for label, one in measured.items()})
summary = summary[summary["layer"].isin(["all", *(model.last_layer for model in models.values())])]
by_layer = with_intervals(summary.set_index(["network", "layer"]))
by_layer.filter(regex="^(neurons|silent|(U|CS1|CS2)( chance)?)$")

# %% [markdown]
# ### Dummy detectors
#
# P2 calls a neuron a *dummy* detector if images fire it that lack its concept. To count them, a neuron's concept is
# taken to be the class most frequent among its top real images, where that makes up at least `purity` of them. A top
# adversarial image *shows* the concept if its true class is within `concept_distance` of it in WordNet's tree, and
# *merely targets* it if only its target is. Chance is the share among all adversarial images. Below are shares of the
# top adversarial images, averaged over the neurons that have a concept.

# %% tags=["hide-input"]
by_layer.filter(regex="^(neurons|with concept|(shows|merely targets)( chance)?)$")

# %% [markdown]
# (cure)=
# ### Does training cure them?
#
# P2 shows the trained networks the images made against the normal ones, finds few dummy detectors left, and concludes
# that training cures them. But few of those images still mislead a trained network, so its neurons have no wrong answer
# to follow. Fair is to compare each network on images made against itself: if training cures dummy detectors, the red
# point of a trained network lies left of the normal network's. If only the blue one does, what training gives is that
# images made against others do not reach it. Networks that differ in seeds alone are one line, whose interval covers
# other images and other seeds.

# %% tags=["hide-input"]
cure = claims.cure_table(by_seeds, recipes)
told = [
    f"{', '.join(f'{value:.2f}' for value in rows['merely targets'])} ({TITLES[name]})"
    for name, rows in cure[cure["objective"] != "adversarial"].groupby("architecture", sort=False)
]
page.say(cure="in the order of normal networks, of trained ones on others' images and on their own, " + "; ".join(told))
display(figures.merely_targets(cure))
with_intervals(cure.set_index("network").drop(columns=["architecture", "objective"]))

# %% [markdown]
# ### Figure 2: what fires them
#
# For some of the most consistent neurons of the last layer, each of another class, the strongest real images and the
# strongest adversarial ones. Framed in red: those whose target is the neuron's concept. What is dark can be hidden
# without lowering the response.

# %% tags=["hide-input"]
shown = ensembles[NORMAL][0]
title, layer, distances = titles[shown.recipe.key], shown.model.last_layer, distance_matrix(real.synsets)
A, passes = correlation(distances, sigma=sigma), measured[title].passes
chosen = strongest_neurons(passes[0], layer, A, count=shown_neurons)
own = measured[title].neurons.table.query("layer == @layer").set_index("neuron").loc[chosen, "concept"]
near = (distances <= concept_distance)[own.to_list()][:, sets[NORMAL].targets]
print(title)
seen = [("real", real, passes[0], None), ("adversarial", sets[NORMAL], passes[1], None)]
look = {"layer": layer, "neurons": chosen, "correlation": A, "count": shown_images, "marked": {"adversarial": near}}
picture_grid(top_image_rows(shown.model, seen, page.on, **look))

# %% [markdown]
# ## Where adversarial images lie
#
# Let $\phi$ be the features of the last convolutional layer, averaged over space, and $c_y$ the mean of $\phi$ over the
# *training* images of class $y$. For an adversarial image $x^*$ made of $x$, of true class $y$ and target $y^*$,
#
# $$
# r_1 = \frac{\lVert \phi(x^*) - c_{y} \rVert}{\lVert \phi(x) - c_{y} \rVert}, \qquad
# r_2 = \frac{\lVert \phi(x^*) - c_{y^*} \rVert}{\lVert \phi(x) - c_{y^*} \rVert} .
# $$ (eq-ratios)
#
# $r_1 > 1$: the image has left its own class; $r_2 < 1$: it has come nearer to its target. Any change of an image
# moves its features, so the same clean images under Gaussian noise of the same norm stand beside it. Layer, pooling and
# centroids are our reading of the paper.

# %% tags=["hide-input"]
figures.ratio_histograms(stacked({label: one.ratios for label, one in papers.items()}))

# %% [markdown]
# Means, with intervals over clean images: of all adversarial images, of those that this network takes for the target,
# and of those that every network of the set does.

# %% tags=["hide-input"]
means = {label: tables.ratio_means(one.ratios) for label, one in measured.items()}
ratios = stacked(means)
tables.mean_columns(ratios)

# %% [markdown]
# The paper's means, *before* and *after* training with the consistent loss:

# %% tags=["hide-input"]
paper_table("distance_ratios")

# %% [markdown]
# ## The claims
#
# Each claim of the paper is a number whose interval decides. It *holds* where the whole interval lies on the claimed
# side (for "about 1": within `about_one` of 1), it *fails* where the whole interval lies on the other, and else it
# *cannot be told*. All that stand in one table are read together, so their intervals are adjusted as a family (Holm):
# were no claim of a table true, one table in twenty would give a verdict.
#
# Of feature space: for a normally trained network P2 has $r_1$ above and $r_2$ below 1; after training with the
# consistent loss $r_1$ is about 1. We add that they differ from those of noise; there the number is the mean
# difference.

# %% tags=["hide-input"]
nulls_too = {titles[name]: [measured[titles[name]]] for name in nulls}
distance_claims = {
    label: claims.ratio_claims(seeds, tolerance=about_one) for label, seeds in (by_seeds | nulls_too).items()
}
claims.claim_columns(distance_claims)

# %% [markdown]
# Of neurons: at high LC (the last bin) CS1 is low and CS2 is high, and adversarial images fire dummy detectors. In
# numbers: CS1 minus its chance level, CS1 of the last bin minus that of the first, CS2 minus its chance level, CS2
# minus CS1; the share of top images that merely target the concept minus its chance level, and minus the share of
# those that show it.

# %% tags=["hide-input"]
neuron_claims = {label: claims.neuron_claims(seeds, bins=bins) for label, seeds in (by_seeds | nulls_too).items()}
claims.claim_columns(neuron_claims)

# %% [markdown]
# Of training: a trained network less the normal one of its seed, on the first set, and (*own set*) each on the images
# made against it. Is the share that merely targets the concept lower, and $r_2$ higher?

# %% tags=["hide-input"]
kinds = cure.set_index("network")["objective"].to_dict() | dict.fromkeys(nulls_too, "normal")
training_claims = {}
for kind in ("consistent", "adversarial"):
    found = claims.training_claims(recipes, titles, measured, kind)
    training_claims |= found
    kinds |= dict.fromkeys(found, kind)
claims.claim_columns(training_claims) if training_claims else "no trained network here"

# %% [markdown]
# ## What this says of the claims
#
# The rows of this chapter in the ledger of all claims ({doc}`14_claims`). A claim *holds* for a network where the whole
# interval lies on its side, and *fails* where it lies on the other.

# %% tags=["hide-input"]
kept = {"success": success, "transfer": transfer, "full-size": full_size, "curves": curves, "neurons": summary}
all_claims = [distance_claims, neuron_claims, training_claims]
rows = pd.concat([stacked(some) for some in all_claims if some], ignore_index=True)
rows["objective"] = rows["network"].map(kinds)
findings = page.keep(
    kept | {"ratios": ratios, "cure": cure},
    settled("06_representations", success=success, transfer=transfer, claims=rows),
)
with_intervals(findings.set_index(["claim", "case"]))

# %% tags=["hide-input"]
page.provenance()
