# %% [markdown]
# # How consistent is a neuron?
#
# :::{admonition} In short
# :class: in-short
# **Question.** How can one number say whether a neuron fires for one kind of thing?
#
# **Answer.** Take two different images that fire the neuron, and ask how near to one another their classes lie in a
# tree of concepts. The mean over all such pairs, U, is 1 where all images are of one class, and it has the same chance
# level for every neuron. P1's own measure, V, also pairs every image with itself, so it is high for any neuron that few
# images fire.
#
# **The number that decides.** A neuron that fires at random on {glue:text}`small-m` images reads
# V = {glue:text}`chance-small-m`, and on {glue:text}`large-m` images V = {glue:text}`chance-large-m`. It reads
# U = {glue:text}`chance-unbiased` both times.
#
# **Change it yourself.** `make notebook N=01 PARAMS="sigma=1.5"` lets correlation fall faster with distance: relatives
# count for less, and both the neuron worked out by hand and the chance level come down.
# :::
#
# **Build a neuron** from the images that fire it. Add images of one class, and U approaches 1; add a dog, and it falls.
# Then leave just two images of different classes: V stays above one half, and U tells how little these two have in
# common. Move sigma up, and everything comes near to everything, for chance as well.

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
dataset: str = "scenes"  # whose classes stand in the matrix: scenes, tiny-imagenet, imagenet, cifar10, stl10, ...
animals: list[str] = ["Persian cat", "Siamese cat", "wolfhound", "beagle"]  # of the tree, left to right
counted: list[int] = [6, 3, 1, 0]  # worked example: images of each animal that activate the neuron
# how it is measured
sigma: float = 2.0  # how fast correlation decays with distance
sigmas: list[float] = [1.0, 1.5, 2.0, 2.5, 3.0]  # of the curves
per_class: int = 60  # images of each class in the simulated set
sizes: list[int] = [2, 3, 5, 10, 20, 50, 100]  # m: images that activate a simulated neuron
draws: int = 1000  # neurons simulated for each m
simulated_neurons: int = 24  # neurons in the test of the intervals
simulated_sets: int = 200  # sets of images in the test of the intervals
seed: int = 0  # of the simulations
# how it runs
profile: str = "demo"  # only names the run: this page needs no trained network
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-input"]
import pandas as pd
import torch

from neuron_consistency.book.knobs import sigma_knob
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
from neuron_consistency.consistency import metric_figures, worked_examples
from neuron_consistency.consistency.measure import chance, consistency, unbiased_consistency
from neuron_consistency.taxonomy import class_synsets, correlation, distance, distance_matrix, lemma, path, resolve
from neuron_consistency.workflow.results import paper_table

page = open_page("01_metric_definition", globals())
wnids = [resolve(name) for name in animals]
distances = distance_matrix(wnids)
fires = torch.zeros(4, len(animals), dtype=torch.int64)
fires[0, 0], fires[1, [0, 1]], fires[2, [0, -1]], fires[3] = 10, 5, 5, 3
alone, alike, unlike = animals[0], f"{animals[0]} and {animals[1]}", f"{animals[0]} and {animals[-1]}"
others = dict(zip((f"{alone} alone", alike, unlike, "all equally often"), fires, strict=True))
shown = torch.full((len(animals),), per_class)
page.knob(
    sigma_knob(
        {name: (counts[None], shown) for name, counts in others.items()},
        distances,
        sigma=sigma,
        of="neuron",
        caption=f"A neuron of your own beside some others, on a set of {per_class} images of each class.",
        classes=animals,
        own=counted,
    )
)

# %% [markdown]
# ## The idea
#
# A neuron of a trained network fires for some images and stays silent for others. If what it fires for has one meaning,
# say *cats*, we can read the network through it. P1 puts a number on that {cite}`dong2019towards`: it looks at the
# classes of the images that fire the neuron, and asks how alike they are. Two images of one class are wholly alike,
# and two kinds of cat are more alike than a cat and a dog. The parameter $\sigma$ sets how quickly likeness fades.
#
# This page builds the measure step by step, works the first of the neurons above by hand, and then finds out what the
# measure cannot do. Every later page leans on the answers.
#
# ## What a neuron fires for
#
# Let $n$ be a neuron, that is a channel of a convolutional layer, and $c$ a class. P1's Eq. 1 defines
#
# $$
# \mathrm{consis}(n, c) = \Pr(\text{the image contains } c \mid \text{the image activates } n),
# $$ (eq-profile)
#
# the share of class $c$ among the images that activate the neuron. Collected over classes this is the vector
# $p$, the neuron's *profile*. The paper leaves open what *activates* means. Here a neuron's response is the largest
# value of its channel over the image, and it is active where the response reaches a threshold that only the neuron's
# strongest responses reach ({doc}`02_ambiguity_discovery` says how it is set).
#
# ## How near two classes are
#
# A neuron that fires for Persian cats and Siamese cats is nearer to one meaning than a neuron that fires for Persian
# cats and chairs. WordNet says by how much {cite}`miller1995wordnet`: in its tree each concept hangs below a more
# general one, and the distance $d(w_i, w_j)$ of two classes is the number of edges on the shortest way between them.

# %% tags=["hide-input"]
page.figure(
    metric_figures.tree_path(*worked_examples.subtree(wnids, highlight=(wnids[0], wnids[2]))),
    "tree",
    f"The part of WordNet above {', '.join(animals)}. The way between {animals[0]} and {animals[2]} is red.",
    alt=f"A tree whose leaves are {', '.join(animals)}; the way from {animals[0]} up to a common concept and down to "
    f"{animals[2]} is marked.",
)

# %% tags=["hide-input"]
way = [lemma(wnid) for wnid in path(wnids[0], wnids[2])]
page.say(tree_way=" → ".join(way), tree_steps=len(way) - 1)
theirs = pd.DataFrame(
    {"from": a, "to": b, "in the papers' figure": value, "in WordNet 3.0": distance(resolve(a), resolve(b))}
    for (a, b), value in paper_table("tree_distances")["distance"].items()
)
page.table(theirs, "distances", "Distances that the papers' figure of the tree states, and those of WordNet, in edges.")

# %% [markdown]
# The marked way, {glue:text}`tree-way`, has {glue:text}`tree-steps` edges; the papers' figure of the tree
# has another number. All results of this book use WordNet's own graph, with the distances that `nltk` gives as
# `shortest_path_distance`. (It is a graph: *domestic cat* hangs below both *cat* and *domestic animal*, and the
# shortest way may use either.) From distances come correlations, by P1's Eq. 2:
#
# $$
# a_{ij} = \exp\left(-\frac{d(w_i, w_j)^2}{2\sigma^2}\right).
# $$ (eq-correlation)
#
# A class has correlation 1 with itself, and less with others the further away they are in the tree. How fast it falls
# is decided by $\sigma$, which the paper does not state.

# %%
small = correlation(distance_matrix(wnids), sigma=sigma)

# %% tags=["hide-input"]
curves = pd.DataFrame({str(value): correlation(torch.arange(15), sigma=value) for value in sigmas})
page.figure(
    metric_figures.correlation_decay(curves),
    "decay",
    "Correlation of two classes (no unit) over their distance in the tree (edges). The larger sigma is, the farther "
    "apart two classes may be and still count as alike.",
    alt="Falling curves, one for each sigma: all start at 1 for distance 0, and those of larger sigma reach 0 later.",
)

# %% [markdown]
# Over all classes of a dataset the correlations form the matrix $A$.

# %%
synsets = class_synsets(dataset)
tree = distance_matrix(list(synsets.values()))
A = correlation(tree, sigma=sigma)

# %% tags=["hide-input"]
page.figure(
    metric_figures.correlation_map(pd.DataFrame(A.numpy(), index=list(synsets), columns=list(synsets))),
    "matrix",
    f"The correlations of all classes of {dataset} at sigma = {sigma:g} (no unit). Related classes form blocks.",
    alt="A square map of correlations, dark on its diagonal, with dark blocks where related classes stand together.",
)

# %% [markdown]
# ## One number for a neuron
#
# The consistency of a neuron is, by P1's Eq. 3,
#
# $$
# V = \mathrm{consis}(n) = p^\top A\, p = \sum_{i,j} p_i\, a_{ij}\, p_j .
# $$ (eq-consistency)
#
# Read it as a lottery: draw one of the neuron's images, put it back, and draw again. V is the correlation that the
# classes of the two draws have on average. It is 1 if all images share one class.
#
# Suppose that {glue:text}`counted-total` images activate a neuron: {glue:text}`counted-words`. Each pair of classes
# contributes $p_i\,a_{ij}\,p_j$, and the sum is what the library's `consistency` gives:

# %%
shares = [count / sum(counted) for count in counted]
terms = worked_examples.consistency_terms(shares, animals, small)
by_hand = float(terms.to_numpy().sum())
by_library = float(consistency(torch.tensor(counted), small))

# %% tags=["hide-input"]
page.say(
    by_hand=f"{by_hand:.3f}", by_library=f"{by_library:.3f}", same_class=f"{terms.to_numpy().diagonal().sum():.3f}"
)
page.say(
    counted_total=sum(counted),
    counted_words=", ".join(f"{n} of {name}" for n, name in zip(counted, animals, strict=True)),
)
page.table(terms, "terms", "What each pair of classes contributes to V (no unit); V is the sum.", decimals=4)

# %% [markdown]
# The sum is {glue:text}`by-hand`, and the library gives {glue:text}`by-library`. Of this, {glue:text}`same-class` comes
# from images of the same class (the diagonal), the rest from relatives.
#
# ## What a random neuron reaches
#
# A number means little before we know what chance gives. Take a set of $N$ images with class shares $q$, and a neuron
# that fires on $m$ of them picked blindly. Two images drawn from the whole set *with* replacement have correlation
# $s = q^\top A\, q$, two *different* ones $s' = (N s - 1)/(N - 1)$. In {eq}`eq-consistency` the lottery draws the
# same image twice with probability $1/m$, and an image has correlation 1 with itself. So chance gives
#
# $$
# \mathbb{E}[V] = \frac{1}{m} + \left(1 - \frac{1}{m}\right) s' .
# $$ (eq-chance)
#
# It depends on $m$: **the fewer images activate a neuron, the more consistent it looks.** That matters here, because an
# attack changes $m$. Leaving out the pairs of an image with itself gives
#
# $$
# U = \frac{m V - 1}{m - 1}, \qquad \mathbb{E}[U] = s' ,
# $$ (eq-unbiased)
#
# which has the same chance level for every $m$.

# %%
labels = torch.arange(len(synsets)).repeat_interleave(per_class)
simulated = worked_examples.random_neurons(labels, A, sizes=sizes, repeats=draws, seed=seed)
level = chance(labels, A)

# %% tags=["hide-input"]
ends = {"small": min(sizes), "large": max(sizes)}
page.say({f"{name}-m": m for name, m in ends.items()}, chance_unbiased=f"{level.unbiased:.3f}")
page.say({f"chance-{name}-m": f"{float(level.biased(torch.tensor(m))):.3f}" for name, m in ends.items()})
page.figure(
    metric_figures.random_neurons(simulated),
    "random",
    f"V and U (no unit) of {draws} simulated neurons that fire at random, over the number of images: the "
    "mean (dots), the middle 80 % (band) and the formula (dashes). V falls as images are added; U does not.",
    alt="Dots of V fall from left to right along their dashed formula; dots of U lie on a level dashed line, in a band "
    "that narrows.",
)

# %% [markdown]
# On {glue:text}`small-m` images a random neuron reads V = {glue:text}`chance-small-m`, on {glue:text}`large-m` images
# {glue:text}`chance-large-m`, with no meaning in either; U reads {glue:text}`chance-unbiased` for both. The same bias
# lifts neurons that do mean something. Here is the neuron worked out by hand, with the same shares but other numbers of
# images:

# %% tags=["hide-input"]
growing = torch.tensor([[count * times for count in counted] for times in (1, 2, 5, 100)])
same = {"m": growing.sum(1), "V": consistency(growing, small), "U": unbiased_consistency(growing, small)}
page.table(
    pd.DataFrame(same).set_index("m"),
    "same-shares",
    "V and U (no unit) of one profile seen on m images. V stays as it is. U grows towards V, since pairs of an image "
    "with itself matter less among many images.",
    decimals=4,
)

# %% [markdown]
# Every table of this book therefore has V as the paper reports it, its chance level for the $m$ at hand, and U.
#
# ## What to doubt
#
# **Sigma.** Chance also depends on $\sigma$ and on the classes: with a large $\sigma$ everything is near to everything.
# The table gives $s$ for uniform shares over the classes of this page and over ImageNet's 1000
# {cite}`deng2009imagenet`.

# %% tags=["hide-input"]
trees = {dataset: tree, "imagenet": distance_matrix(list(class_synsets("imagenet").values()))}
means = {f"s, {name}": [float(correlation(one, sigma=value).mean()) for value in sigmas] for name, one in trees.items()}
table_1 = paper_table("table_1")
page.say(paper_lowest=f"{table_1.min().min():.4f}", paper_highest=f"{table_1.max().max():.4f}")
page.table(
    pd.DataFrame(means, index=pd.Index(sigmas, name="sigma")),
    "chance-by-sigma",
    "Mean correlation s of two images drawn from uniform classes (no unit), for each sigma.",
    decimals=4,
)

# %% [markdown]
# P1's own means, between {glue:text}`paper-lowest` and {glue:text}`paper-highest`, are from ImageNet. Neurons that fire
# at random already read the last column, and a little more. Means this low are above chance only for the smaller
# $\sigma$, which bounds what the paper can have used.
#
# **The interval.** A mean over neurons comes with an interval of 95 %: had we seen other images of the same kind, where
# could it lie? Neurons share images, so whole images must be left out, for all neurons at once. The library deals the
# images into groups and leaves out one group at a time (a jackknife). The usual alternative, a bootstrap that draws
# images with replacement, goes wrong: an image drawn twice pairs with itself, with correlation 1.
#
# The test takes neurons whose true consistency is known, draws sets of images at random, and counts the sets whose
# interval holds the truth. It should be 95 %.

# %% tags=["hide-input"]
some = torch.linspace(0, len(A) - 1, min(len(A), 30)).long()  # classes enough
few = A[some][:, some]
chosen = torch.randint(0, len(few), (simulated_neurons,), generator=torch.Generator().manual_seed(seed))
preferences = 0.01 + 0.3 * few[chosen].float()  # a neuron likes one class, its relatives less, and any a little
coverage = worked_examples.interval_coverage(
    preferences, few, images=20 * len(few), repeats=simulated_sets, seed=seed
).set_index("interval")
names = {"U, jackknife": "jackknife", "V, jackknife": "biased", "U, plain bootstrap over images": "bootstrap"}
page.say({f"coverage-{name}": f"{100 * coverage['coverage'][row]:.0f} %" for row, name in names.items()})
page.table(
    coverage,
    "coverage",
    f"Three intervals tried on {simulated_sets} simulated sets: true mean, mean estimate, share of the sets whose "
    "interval holds the truth (it should be 0.95), and mean width (no unit).",
)

# %% [markdown]
# The interval of U holds the truth in {glue:text}`coverage-jackknife` of the sets. Around V it does so in
# {glue:text}`coverage-biased`, since V itself is too high; the plain bootstrap reaches
# {glue:text}`coverage-bootstrap`. The interval is over images, with the network and the thresholds held fixed: what
# another training would have given is a question for several seeds ({doc}`04_evaluation`).
#
# **The tree.** Two classes that look alike may lie far apart in WordNet, and two that lie near one another may look
# different. The measure knows meanings that a dictionary knows, and no others.
#
# ## Summary
#
# - A neuron's profile is the share of each class among the images that activate it, {eq}`eq-profile`. Classes are as
#   alike as they are near in WordNet, {eq}`eq-correlation`. V is the mean likeness of two draws, {eq}`eq-consistency`.
# - V of a blind neuron rises as fewer images activate it, {eq}`eq-chance`. U leaves out the pairs of an image with
#   itself and has the same chance level for every neuron, {eq}`eq-unbiased`.
# - Both depend on $\sigma$, and so does chance. Read a number only beside its own chance level.
# - The interval that leaves out groups of images, around U, is the one that can be trusted.
#
# ## Try this

# %% tags=["hide-input"]
try_this("01_metric_definition")

# %% [markdown]
# ## Exercises
#
# **1.** Ten images activate a neuron, five of them of the first class of this page and five of the second. Work out V
# by hand from the distance of the two classes. What does it become if the second class is replaced by the third?

# %% tags=["remove-input"]
pairs = {"near": (0, 1), "far": (0, 2)}
for name, (i, j) in pairs.items():
    five = torch.zeros(len(animals)).index_fill_(0, torch.tensor([i, j]), 5.0)
    page.say({f"{name}-distance": int(distances[i, j]), f"{name}-a": f"{float(small[i, j]):.3f}"})
    page.say({f"{name}-v": f"{float(consistency(five, small)):.3f}"})

# %% [markdown]
# :::{dropdown} Answer
# Both shares are one half, so $V = 2 \cdot \tfrac14 + 2 \cdot \tfrac14\, a = (1 + a)/2$. The first two classes are
# {glue:text}`near-distance` edges apart, which gives $a$ = {glue:text}`near-a` and V = {glue:text}`near-v`. The first
# and the third are {glue:text}`far-distance` edges apart: $a$ = {glue:text}`far-a` and V = {glue:text}`far-v`. However
# unlike the two classes are, V cannot fall below one half.
# :::
#
# **2.** An attack lowers the number of images that activate a random neuron from {glue:text}`large-m` to
# {glue:text}`small-m`. By how much does V change, and by how much does U? What would a reader of V alone conclude?

# %% tags=["remove-input"]
few_m, many_m = (float(level.biased(torch.tensor(m))) for m in (min(sizes), max(sizes)))
page.say(rise_v=f"{few_m - many_m:.3f}")

# %% [markdown]
# :::{dropdown} Answer
# By {eq}`eq-chance` V rises by {glue:text}`rise-v`, from {glue:text}`chance-large-m` to {glue:text}`chance-small-m`. U
# stays at {glue:text}`chance-unbiased` on average. A reader of V alone would say that the attack made the neuron more
# consistent, though the neuron fires blindly before and after.
# :::
#
# **3.** What do U of the neuron worked out by hand, and U by chance, become as $\sigma$ goes to 0, and as it grows
# without bound? Which of the two limits could tell a neuron for cats from a neuron for one breed of cat?

# %% tags=["remove-input"]
for name, value in {"sharp": 0.1, "blunt": 100.0}.items():
    here, there = correlation(distances, sigma=value), correlation(tree, sigma=value)
    page.say({f"{name}-u": f"{float(unbiased_consistency(torch.tensor(counted), here)):.3f}"})
    page.say({f"{name}-chance": f"{chance(labels, there).unbiased:.3f}", f"{name}-sigma": f"{value:g}"})

# %% [markdown]
# :::{dropdown} Answer
# At $\sigma$ = {glue:text}`sharp-sigma` U is {glue:text}`sharp-u`, the share of pairs that have one class, and chance
# is {glue:text}`sharp-chance`: relatives count for nothing. At $\sigma$ = {glue:text}`blunt-sigma` both are near 1
# ({glue:text}`blunt-u` and {glue:text}`blunt-chance`): everything counts as alike. Only towards 0 does the measure tell
# a breed from all cats, and there it no longer sees that cats are related.
# :::
