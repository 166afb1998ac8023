# %% [markdown]
# # What adversarial images reveal about neurons
#
# :::{admonition} In short
# :class: in-short
# **Question.** An adversarial image shows its true class and is taken for another, its *target*. Which of the two do
# the neurons that it fires follow, and does P1's training change that?
#
# **Answer.** Of the adversarial images that fire a neuron most, {glue:text}`shows` show its {term}`concept` in the
# normal networks here, and {glue:text}`merely` merely target it. The ledger says of photographs:
# <a href="14_claims.html#claim-dummy-detectors-mostly">those that merely target outnumber those that show</a>,
# {glue:text}`ledger-mostly`; <a href="14_claims.html#claim-cure-on-own-images">training lowers their share, even of
# images made against the trained network</a>, {glue:text}`ledger-cure`.
#
# **The number that decides.** The share that merely targets, in trained networks on images made against themselves,
# less the same in normal ones, held against 0: {glue:text}`cure-own`. {ref}`cure` has the figure.
#
# **Change it yourself.** `make notebook N=06 PARAMS="purity=0.8"` asks for a clearer concept
# ({ref}`change-a-parameter`): fewer neurons have one.
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

# %% tags=["hide-cell"]
import pandas as pd
import torch

from neuron_consistency.attacks.targeted import ensemble_loss, least_likely_targets
from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
from neuron_consistency.consistency.gallery import strongest_neurons, top_image_rows
from neuron_consistency.networks.models import build_model
from neuron_consistency.plotting import picture_grid
from neuron_consistency.representation import claims, figures, tables
from neuron_consistency.representation.measure import cosine
from neuron_consistency.runtime import describe_device
from neuron_consistency.show import in_words, number_text, stacked, with_intervals
from neuron_consistency.statistics import mean
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

# %% tags=["hide-cell"]
how = {"trade_off": trade_off, "steps": steps, "learning_rate": learning_rate, "fusion": fusion}
sets = {}
for name, ensemble in ensembles.items():
    targets = least_likely_targets([net.model for net in ensemble], clean, page.on, count=targets_per_image)
    sets[name] = page.adversarial_set(ensemble, clean, targets, shard_size=shard_size, **how)

# %% tags=["hide-input"]
success = tables.success_table(sets, models, clean, page.on)
success["network"] = success["network"].replace({**titles, "all": "all of them at once"})
everywhere = success[success["network"] == "all of them at once"].set_index("set")
page.say(set_success=f"{everywhere.loc[NORMAL, 'reached']:.0f} %")
page.table(
    success.set_index(["set", "network"]).drop(columns="RMSD"),
    "success",
    "How often the networks that a set was made on say the target: reached, in per cent, with 95 % intervals over "
    "clean images, and reached clean, how often they say so of the image before the attack. RMSD: root mean squared "
    "change of a pixel, in grey levels of 255, over the images that reached their target.",
    decimals=1,
)

# %% [markdown]
# If a neuron *detects* something, an image that fires it should show that thing. The first, longer version of P1, here
# called P2 {cite}`dong2017towards`, tests this with adversarial images that fool several networks at once. All networks
# of its ensemble together take {glue:text}`set-success` of the first set for the target.
#
# ## One image, several networks
#
# P1's Eq. 4 looks for the nearest image $x^*$ that one network takes for the target $y^*$. Here *all* networks
# $f_1, \dots, f_K$ of an ensemble have to:
#
# $$
# \operatorname*{arg\,min}_{x^*}\; \lVert x^* - x \rVert_2
#   - \lambda\, \frac{1}{K} \sum_{k=1}^{K} \log f_k(x^*)_{y^*} ,\qquad x^* \in [0, 1]^n .
# $$ (eq-ensemble)
#
# The networks' losses are joined into one. Let two networks see an image: one is sure of the target, the first class,
# and one is sure of the third class.

# %%
two = torch.tensor([[[6.0, 0, 0]], [[0, 0, 6.0]]])  # logits: networks, images, classes
forms = ("loss", "logits", "probability")
loss = {form: ensemble_loss(two, torch.tensor([0]), fusion=form).item() for form in forms}

# %% tags=["remove-input"]
page.say({f"joined-{form}": number_text(value, 2) for form, value in loss.items()})

# %% [markdown]
# The mean of the two losses, {eq}`eq-ensemble`, is {glue:text}`joined-loss`, and goes on asking the second network to
# change its mind. The loss of the mean logits is {glue:text}`joined-logits`. The loss of the mean *probability* is
# {glue:text}`joined-probability`: the first network's sureness leaves little to ask of the second, and few images
# reach their target on both. `fusion` chooses between the three.
#
# **How an image is made.** Adam moves the pixels until every network says the target of the image's 8-bit form. That
# step has gone too far by up to its own length, so the image is then drawn back towards $x$ as far as it keeps its
# target. The targets of an image are the classes that the networks together find least likely. The form of the loss,
# the rule for stopping, the way back and this choice of targets are ours. The paper made ten images of each of
# ImageNet's 50,000 for validation.
#
# **Whose images.** The first set is made on the normally trained networks, as the paper's is. The trained networks have
# no part in it, so it reaches them only by {term}`transfer`, and that they resist it might say little. So a set of its
# own is made on the networks of each other training. Networks of several seeds and architectures are one ensemble.
# A set is written in shards, and found again by a later run; a run that was killed goes on where it stopped.

# %% tags=["hide-input"]
transfer = tables.transfer_table(sets, models, clean, page.on)
transfer["network"] = transfer["network"].replace(titles)
page.table(
    transfer.set_index(["set", "network"]),
    "transfer",
    "What networks say of sets that they had no part in: how often the target (reached), and how often any class but "
    "the true one (wrong), in per cent, with 95 % intervals over clean images; beside each, the same of these.",
    decimals=1,
)

# %% [markdown]
# The paper's set has half a million images of 224 pixels. The next table scales the rate measured here by the number of
# pixels. A larger set, of photographs, is in {doc}`10_results_p2`.

# %% tags=["hide-input"]
full_size = full_size_table(sets[NORMAL], devices=[1, 8], price=device_price)
full_size["device"] = describe_device(page.on.device)
page.table(
    full_size.set_index(["device", "devices"]),
    "full-size",
    "What the paper's set would take on one device like this one and on eight: hours, gigabytes on disk, and the cost "
    "at the price of a device that the parameters give.",
    decimals=2,
)

# %% [markdown]
# ## Every neuron of every layer
#
# One pass over the real images and one over each set find the {term}`top images` of every neuron: the share `top_share`
# of the set (at least `min_images`) that fires it most. Let $h(n)$ be the class histogram of a neuron's top real images
# and $p$ the same as shares. Then, with $A$ from {doc}`01_metric_definition`,
#
# $$
# \begin{aligned}
# \mathrm{LC}(n) &= p^\top A\, p, \\
# \mathrm{CS}_1(n) &= \cos\big(h(n), h_{\text{true}}(n)\big), \\
# \mathrm{CS}_2(n) &= \cos\big(h(n), h_{\text{target}}(n)\big),
# \end{aligned}
# $$ (eq-cs)
#
# where $h_{\text{true}}$ and $h_{\text{target}}$ count the true and the target classes of the neuron's top
# *adversarial* images. A neuron that detects what it seems to detect has a CS1 near 1. A neuron that follows the
# networks' decision has a high CS2. The paper does not say which histograms it compares; this is our reading. The
# chance level of both comes from shuffling labels and targets among the adversarial images.
#
# All networks are shown the first set, which is all that the paper does. Lines marked *own set* are of trained networks
# on the set made on them. A network with random weights tells what the pictures alone give.

# %% tags=["remove-output"]
top = {"share": top_share, "min_images": min_images, "max_images": max_images}
concepts = {"near": concept_distance, "purity": purity, "draws": draws}
measured = tables.measure_networks(
    models, titles, list(sets.values()), real, places, train, page.on,
    sigma=sigma, pooling=pooling, top=top, concepts=concepts,
)  # fmt: skip
by_seeds = claims.by_seeds(recipes, titles, measured)

# %% tags=["hide-input"]
objective_of = {recipe.key: recipe.objective for recipe in recipes} | dict.fromkeys(nulls, "random")
objectives = {label: objective_of[one.network] for label, one in measured.items()}
papers = {label: one for label, one in measured.items() if objectives[label] in ("normal", "consistent")}
page.table(
    tables.lc_table({title: measured[title] for title in titles.values()}),
    "lc",
    "LC (0 to 1) over all neurons of all layers, beside what firing at random gives with the same number of images. "
    "Silent neurons have no top images in one of the sets, and are left out of all that follows.",
)

# %% tags=["hide-input"]
page.table(
    paper_table("lc_ranges"),
    "paper-lc",
    "The paper's span of LC, over 1000 classes, where chance is lower.",
)

# %% [markdown]
# ### Do the classes of real and of adversarial images agree?
#
# The neurons of all layers are dealt by their LC into `bins` bins of equal number, as in P2's Figure 4. Intervals are a
# jackknife over groups of clean images, each leaving together with all that was made of it. They tell how far other
# images could have moved a curve. They do not stand for other neurons: all neurons of the network are measured.

# %% tags=["hide-input"]
curves = stacked({label: one.neurons.curves(bins=bins) for label, one in papers.items()})
page.figure(
    figures.cs_curves(curves),
    "curves",
    "CS1 (true labels) and CS2 (target labels) over the LC of neurons, a panel a network, with bands of 95 % over "
    "images; broken lines are chance. P2 reports that at high LC, on the right, CS1 is low and CS2 is high in normal "
    "networks. All three have no unit and go from 0 to 1.",
    alt="Curves of CS1 and CS2 over LC. In the last bin, "
    + in_words(curves.groupby(["network", "measure"], sort=False)["value"].last(), most=20)
    + ".",
)

# %% tags=["hide-input"]
summary = stacked({label: one.neurons.summary() for label, one in measured.items()})
summary = summary[summary["layer"].isin(["all", *(model.last_layer for model in models.values())])]
by_layer = summary.set_index(["network", "layer"])
page.table(
    by_layer.filter(regex="^(neurons|silent|(U|CS1|CS2)( low| high| chance)?)$"),
    "neurons",
    "Means over the neurons of the last layer and over those of all layers, with 95 % intervals over images. U is LC "
    "without its bias. Silent: share of the neurons. Compare CS1 and CS2 each with its own chance.",
)

# %% [markdown]
# ### Dummy detectors
#
# P2 calls a neuron a {term}`dummy detector` if images fire it that lack its concept. To count them, a neuron's concept
# is taken to be the class most frequent among its top real images, where that makes up at least `purity` of them. A top
# adversarial image *shows* the concept if its true class is within `concept_distance` of it in WordNet's tree. It
# *merely targets* the concept if its target is so near and its true class is not.

# %% tags=["hide-input"]
page.table(
    by_layer.filter(regex="^(with concept|(shows|merely targets)( low| high| chance)?)$"),
    "dummies",
    "Shares (0 to 1) of the top adversarial images that show a neuron's concept and that merely target it, averaged "
    "over the neurons that have a concept (share: with concept), with 95 % intervals over images. Chance is the share "
    "among all adversarial images.",
)

# %% [markdown]
# (cure)=
# ### Does training cure them?
#
# P2 shows the trained networks the images made against the normal ones, finds few dummy detectors left, and concludes
# that training cures them. But few of those images still mislead a trained network, so its neurons have no wrong answer
# to follow. A fair test compares each network on images made against itself. If training cures dummy detectors, the
# filled mark of a trained network lies left of the normal network's. If only its open mark does, what training gives is
# that images made against others do not reach it.

# %% tags=["hide-input"]
cure = claims.cure_table(by_seeds, recipes)
normal = cure[cure["objective"] == "normal"].replace({"architecture": TITLES}).set_index("architecture")
for name, column in {"shows": "shows", "merely": "merely targets"}.items():
    page.say({name: ", ".join(f"{100 * share:.0f} % ({where})" for where, share in normal[column].items())})
page.figure(
    figures.merely_targets(cure),
    "cure",
    "The share of a neuron's top adversarial images that merely target its concept, a line a network and set, with "
    "95 % intervals. Filled marks: images made against networks like this one. Open marks: images made against the "
    "normal networks. Grey strokes: chance. Networks that differ in seeds alone are one line, whose interval "
    "covers other images and other seeds.",
    alt="Marks with intervals. " + in_words(cure.set_index("network")["merely targets"]) + ".",
)

# %% tags=["hide-cell"]
page.table(
    cure.set_index("network").drop(columns=["architecture", "objective"]),
    "cure",
    "The numbers of the figure above, and the share that shows the concept. Own: whether the images were made against "
    "networks like this one. Lowest and highest: of the share that merely targets, among the seeds.",
)

# %% [markdown]
# ### What fires them
#
# Some of the most consistent neurons of the last layer, each of another class, as in P2's Figure 2.

# %% tags=["hide-input"]
shown = ensembles[NORMAL][0]
title, layer, distances = titles[shown.recipe.key], shown.model.last_layer, distance_matrix(real.synsets)
A, passes = correlation(distances, sigma=sigma), measured[title].passes
chosen = strongest_neurons(passes[0], layer, A, count=shown_neurons)
own = measured[title].neurons.table.query("layer == @layer").set_index("neuron").loc[chosen, "concept"]
near = (distances <= concept_distance)[own.to_list()][:, sets[NORMAL].targets]
seen = [("real", real, passes[0], None), ("adversarial", sets[NORMAL], passes[1], None)]
look = {"layer": layer, "neurons": chosen, "correlation": A, "count": shown_images, "marked": {"adversarial": near}}
pictures = top_image_rows(shown.model, seen, page.on, **look)
page.figure(
    picture_grid(pictures),
    "top-images",
    f"What fires neurons of {title}: for each its strongest real images, then its strongest adversarial ones. A red "
    "frame: the target is the neuron's concept. Below stands the true class, and the predicted one where it differs. "
    "What is dark can be hidden without lowering the response.",
    alt="Rows of small pictures. "
    + " ".join(
        f"{name.replace(chr(10), ' ')}: {', '.join(' '.join(each.caption.split()) for each in row)}."
        for name, row in pictures.rows
    ),
)

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
# $r_1 > 1$: the image has left its own class. $r_2 < 1$: it has come nearer to its target. Any change of an image
# moves its features, so the same clean images under Gaussian noise of the same norm stand beside it. Layer, pooling and
# centroids are our reading of the paper.

# %% tags=["hide-input"]
means = {label: tables.ratio_means(one.ratios) for label, one in measured.items()}
ratios = stacked(means)
of_all = ratios[(ratios["subset"] == "all") & (ratios["of"] == "adversarial") & ratios["network"].isin(list(papers))]
page.figure(
    figures.ratio_histograms(stacked({label: one.ratios for label, one in papers.items()})),
    "ratios",
    "How many adversarial images have which r1 (left) and r2 (right), a row a network, as in P2's Figure 5; outlined, "
    "the same images under noise of equal norm. See whether the filled bars lie right of 1 for r1 and left of 1 for "
    "r2, and farther so than the outline. Ratios have no unit.",
    alt="Histograms. Means: " + in_words(of_all.set_index(["network", "ratio"])["value"], most=20) + ".",
)

# %% tags=["hide-input"]
page.table(
    tables.mean_columns(ratios),
    "ratios",
    "Means of r1 and r2, with 95 % intervals over clean images: of all adversarial images, of those that this network "
    "takes for the target (reached here), and of those that every network of the set does (reached everywhere).",
    decimals=2,
    exact=ratios,
)

# %% tags=["hide-input"]
page.table(
    paper_table("distance_ratios"),
    "paper-ratios",
    "The paper's means, before and after training with the consistent loss.",
    decimals=2,
)

# %% [markdown]
# ## What to doubt
#
# **Did enough images reach their target?** An image that no network takes for its target tells nothing of dummy
# detectors. Read the shares beside {glue:text}`set-success`, the share of the first set that fools its whole ensemble.
#
# **What is a concept?** A class that fills half of a neuron's top images is a coarse notion of what the neuron detects.
# The column *with concept* tells how few or many neurons have one. Move `purity` and `concept_distance` before you
# believe a share.
#
# **Are few images enough?** A share above its chance level, or a difference between two networks, counts only where the
# interval says so, and its interval tells how large a difference could have been missed.
#
# ## What this says of the claims
#
# Each claim is a number whose interval decides. The claim *holds* where the whole interval lies on the claimed side
# (for "about 1": within `about_one` of 1), it *fails* where the whole interval lies on the other, and else it *cannot
# be told*. A case with *random weights* is a {term}`null`: a claim that holds there too says little. The rows stand in
# the ledger of all claims, {doc}`14_claims`.

# %% tags=["remove-output", "hide-input"]
nulls_too = {titles[name]: [measured[titles[name]]] for name in nulls}
everyone = by_seeds | nulls_too
distance_claims = {label: claims.ratio_claims(seeds, tolerance=about_one) for label, seeds in everyone.items()}
neuron_claims = {label: claims.neuron_claims(seeds, bins=bins) for label, seeds in everyone.items()}
kinds = cure.set_index("network")["objective"].to_dict() | dict.fromkeys(nulls_too, "normal")
training_claims = {}
for kind in ("consistent", "adversarial"):
    found = claims.training_claims(recipes, titles, measured, kind)
    training_claims |= found
    kinds |= dict.fromkeys(found, kind)

# %% tags=["hide-input"]
kept = {"success": success, "transfer": transfer, "full-size": full_size, "curves": curves, "neurons": summary}
all_claims = [distance_claims, neuron_claims, training_claims]
rows = pd.concat([stacked(some) for some in all_claims if some], ignore_index=True)
rows["objective"] = rows["network"].map(kinds)
findings = page.keep(
    kept | {"ratios": ratios, "cure": cure},
    settled("06_representations", success=success, transfer=transfer, claims=rows),
)
cured = with_intervals(findings[findings["claim"] == "cure-on-own-images"])
told = zip(*(cured[name] for name in ("case", "value", "verdict")), strict=True)
told = [f"{case.partition(',')[0]} {value}, {verdict}" for case, value, verdict in told]
page.say(cure_own="; ".join(told) or "no trained network was attacked itself in this run")
ledger = Found(Kept.read()).numbers
for name, claim in {"mostly": "dummy-detectors-mostly", "cure": "cure-on-own-images"}.items():
    page.say({f"ledger-{name}": f"{ledger[claim].row['verdict']}, {ledger[claim].bare}"})
page.findings(findings)

# %% [markdown]
# The ledger does not ask all of this. The next three tables, folded, have every network, also those trained
# adversarially and those with random weights. All that stand in one of them are read together, so their verdicts are
# adjusted as a family (Holm): were no claim of a table true, one table in twenty would give a verdict. The number is
# $r_1$ or $r_2$, or its mean difference from noise; CS1, CS2 or a share, less its chance level or less the other; and
# of training, the trained network less the normal one of its seed.

# %% tags=["hide-cell"]
page.table(claims.claim_columns(distance_claims), "distance-claims", "P2's claims of feature space: verdicts by Holm.")

# %% tags=["hide-cell"]
page.table(
    claims.claim_columns(neuron_claims),
    "neuron-claims",
    "P2's claims of neurons, CS1 and CS2 of the bin of highest LC: verdicts by Holm.",
)

# %% tags=["hide-cell"]
page.table(
    claims.claim_columns(training_claims) if training_claims else pd.DataFrame({"network": ["no trained network"]}),
    "training-claims",
    "What training changes, on the first set and, own set, on the images made against the trained network: is the "
    "share that merely targets the concept lower, and r2 higher? Verdicts by Holm.",
)

# %% [markdown]
# ## Summary
#
# - One image can be made that several networks take for the same target. All networks of the ensemble do so for
#   {glue:text}`set-success` of the first set.
# - CS1 tells whether a neuron fires for what an adversarial image shows, and CS2 whether it fires for what the image is
#   taken for. Both are to be read beside what shuffled labels give.
# - P2 infers a cure from images that were made against other networks. Images made against the trained networks decide:
#   {glue:text}`cure-own`.
# - That $r_1$ is above 1 says only that an image has moved. What counts is how far it moves beyond noise of equal size.
#
# ## Try this

# %% tags=["hide-input"]
try_this("06_representations")

# %% [markdown]
# ## Exercises
#
# **1.** The top real images of a neuron are four of one class and three of a second. Of its seven top adversarial
# images, three show the second class and four a third; their targets are the first class three times and the second
# four times. Work out CS1 and CS2 by {eq}`eq-cs`. What does the neuron follow, the true class or the target?

# %% tags=["remove-input"]
real_ones, true_ones, target_ones = (torch.tensor(counts) for counts in ([4, 3, 0], [0, 3, 4], [3, 4, 0]))
page.say(hand_cs1=f"{float(cosine(real_ones, true_ones)):.2f}", hand_cs2=f"{float(cosine(real_ones, target_ones)):.2f}")

# %% [markdown]
# :::{dropdown} Answer
# All three histograms have length $\sqrt{16 + 9} = 5$. So CS1 = 9/25 = {glue:text}`hand-cs1` and CS2 = 24/25 =
# {glue:text}`hand-cs2`. The neuron fires for what the images are taken for: it follows the decision of the networks.
# :::
#
# **2.** Suppose an attack moves the features of an image at a right angle to the line that joins them to the centroid
# of the class. How long must this step be, against the distance $d$ from the centroid, to give the r1 that P2 reports
# for AlexNet and for ResNet-18? Has such an image "left its class"?

# %% tags=["remove-input"]
before = paper_table("distance_ratios")["r1 before"]
for name in ("AlexNet", "ResNet-18"):
    page.say({f"{name}-r1": f"{before[name]:.2f}", f"{name}-step": f"{(before[name] ** 2 - 1) ** 0.5:.2f}"})

# %% [markdown]
# :::{dropdown} Answer
# By Pythagoras $r_1 = \sqrt{1 + (s/d)^2}$ for a step of length $s$, so $s = d \sqrt{r_1^2 - 1}$. AlexNet's r1 of
# {glue:text}`AlexNet-r1` asks for a step of {glue:text}`AlexNet-step` d, and ResNet-18's {glue:text}`ResNet-18-r1` for
# {glue:text}`ResNet-18-step` d. The step goes in no direction that has to do with the class, and still r1 is above 1:
# almost any change does that in a space of many dimensions. Only the comparison with noise of equal norm tells more.
# :::
#
# **3.** Several adversarial images are made of each clean image. What happens to the interval of the mean r1 if they
# are counted as independent images? Which of the two intervals should be believed?

# %% tags=["remove-input"]
ones = measured[title].ratios
together, alone = mean(ones["r1"], ones["clean"]), mean(ones["r1"])
page.say(r1_network=title, r1_targets=targets_per_image, r1_mean=f"{together.value:.3f}")
for name, one in {"together": together, "alone": alone}.items():
    page.say({f"r1-{name}": f"{number_text(one.low, 3)} to {number_text(one.high, 3)}"})
page.say(r1_wider=f"{(together.high - together.low) / (alone.high - alone.low):.2f}")

# %% [markdown]
# :::{dropdown} Answer
# For {glue:text}`r1-network` the mean is {glue:text}`r1-mean` both times. Where all images made of one clean image
# stand or fall together, the interval is {glue:text}`r1-together`; where each counts by itself,
# {glue:text}`r1-alone`. The first is {glue:text}`r1-wider` times as wide. If the {glue:text}`r1-targets` images of a
# clean image moved in step, it would be wider by nearly the square root of their number. Believe the first: another
# sample would bring other clean images, and with each of them all of its targets.
# :::
