# %% [markdown]
# # How consistent is a neuron?
#
# A neuron of a trained network fires for some images and stays silent for others. If what it fires for has one
# meaning, say *cats*, we can read the network through it. P1 puts a number on that {cite}`dong2019towards`: look at the
# classes of the images that activate the neuron, and ask how near to one another they lie in a tree of concepts.
#
# This page builds the measure in its three equations, works one case by hand, and then finds out what the measure
# cannot do: what it reads for a neuron that fires at random, how it depends on the number of images, and how far an
# interval around it can be trusted. Every later page leans on the answers.
#
# ## Eq. 1: what a neuron fires for
#
# Let $n$ be a neuron, that is a channel of a convolutional layer, and $c$ a class. P1 defines
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
# ## Eq. 2: how near two classes are
#
# A neuron that fires for Persian cats and Siamese cats is more of one meaning than one that fires for Persian cats and
# chairs. The tree that tells them apart is WordNet {cite}`miller1995wordnet`, where each concept hangs below a more
# general one. The distance $d(w_i, w_j)$ of two classes is the number of edges on the shortest way between them.

# %% tags=["parameters"]
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

from neuron_consistency.book.page import open_page
from neuron_consistency.consistency import metric_figures, worked_examples
from neuron_consistency.consistency.measure import chance, consistency, unbiased_consistency
from neuron_consistency.taxonomy import class_synsets, correlation, distance, distance_matrix, lemma, path, resolve
from neuron_consistency.workflow.results import paper_table

page = open_page("01_metric_definition", globals())

# %% tags=["hide-input"]
wnids = [resolve(name) for name in animals]
metric_figures.tree_path(*worked_examples.subtree(wnids, highlight=(wnids[0], wnids[2])))

# %% tags=["hide-input"]
way = [lemma(wnid) for wnid in path(wnids[0], wnids[2])]
page.say(tree_way=" → ".join(way), tree_steps=len(way) - 1)
pd.DataFrame(
    {"from": a, "to": b, "in the papers' figure": value, "in WordNet 3.0": distance(resolve(a), resolve(b))}
    for (a, b), value in paper_table("tree_distances")["distance"].items()
)

# %% [markdown]
# The marked way, {glue:text}`tree-way`, has {glue:text}`tree-steps` edges; the papers' figure of the tree
# has another number. All results of this book use WordNet's own graph, with the distances that `nltk` gives as
# `shortest_path_distance`. (It is a graph: *domestic cat* hangs below both *cat* and *domestic animal*, and the
# shortest way may use either.)

# %%
distances = distance_matrix(wnids)
pd.DataFrame(distances.numpy(), index=animals, columns=animals)

# %% [markdown]
# From distances come correlations,
#
# $$
# a_{ij} = \exp\left(-\frac{d(w_i, w_j)^2}{2\sigma^2}\right),
# $$ (eq-correlation)
#
# 1 for a class with itself, and falling towards 0 along the tree. How fast is decided by $\sigma$, which the paper does
# not state.

# %% tags=["hide-input"]
curves = pd.DataFrame({str(value): correlation(torch.arange(15), sigma=value) for value in sigmas})
metric_figures.correlation_decay(curves)

# %% [markdown]
# Over all classes of a dataset the correlations form the matrix $A$. Related classes show as blocks.

# %%
synsets = class_synsets(dataset)
tree = distance_matrix(list(synsets.values()))
A = correlation(tree, sigma=sigma)
metric_figures.correlation_map(pd.DataFrame(A.numpy(), index=list(synsets), columns=list(synsets)))

# %% [markdown]
# ## Eq. 3: one number for a neuron
#
# The consistency of a neuron is
#
# $$
# \mathrm{consis}(n) = p^\top A\, p = \sum_{i,j} p_i\, a_{ij}\, p_j .
# $$ (eq-consistency)
#
# Read it as a lottery: draw two of the neuron's images, with replacement; the consistency is the correlation of their
# classes to be expected. It is 1 if all images share one class.
#
# ### By hand
#
# Suppose ten images activate a neuron, in the numbers below.

# %% tags=["hide-input"]
shares = [count / sum(counted) for count in counted]
pd.DataFrame({"images": counted, "p": shares}, index=animals)

# %% [markdown]
# Each pair of classes contributes $p_i\,a_{ij}\,p_j$:

# %%
small = correlation(distances, sigma=sigma)
terms = worked_examples.consistency_terms(shares, animals, small)
terms.round(4)

# %%
by_hand, by_library = float(terms.to_numpy().sum()), float(consistency(torch.tensor(counted), small))
page.say(by_hand=f"{by_hand:.3f}", same_class=f"{terms.to_numpy().diagonal().sum():.3f}")
print(f"sum of the terms {by_hand:.6f}, the library's consistency() {by_library:.6f}")

# %% [markdown]
# The sum is {glue:text}`by-hand`; of this, {glue:text}`same-class` comes from images of the same class (the diagonal),
# the rest from relatives.
#
# ## What does a random neuron reach?
#
# A number means little before we know what chance gives. Take a set of $N$ images with class shares $q$, and a neuron
# that fires on $m$ of them picked blindly. Two images drawn from the whole set *with* replacement have correlation
# $s = q^\top A\, q$, two *different* ones $s' = (N s - 1)/(N - 1)$. In Eq. {eq}`eq-consistency` the lottery draws the
# same image twice with probability $1/m$, and an image has correlation 1 with itself. So chance gives
#
# $$
# \mathbb{E}[V] = \frac{1}{m} + \left(1 - \frac{1}{m}\right) s' ,
# $$ (eq-chance)
#
# where $V = p^\top A\,p$ is the paper's measure. It depends on $m$: **the fewer images activate a neuron, the more
# consistent it looks.** That matters here, because an attack changes $m$. Leaving out the pairs of an image with itself
# gives
#
# $$
# U = \frac{m V - 1}{m - 1}, \qquad \mathbb{E}[U] = s' ,
# $$ (eq-unbiased)
#
# which has the same chance level for every $m$. Both are drawn below, against the formulas.

# %% tags=["hide-input"]
labels = torch.arange(len(synsets)).repeat_interleave(per_class)
simulated = worked_examples.random_neurons(labels, A, sizes=sizes, repeats=draws, seed=seed)
metric_figures.random_neurons(simulated)

# %% tags=["hide-input"]
level, ends = chance(labels, A), {"small": min(sizes), "large": max(sizes)}
page.say({f"{name}-m": m for name, m in ends.items()}, chance_unbiased=f"{level.unbiased:.3f}")
page.say({f"chance-{name}-m": f"{float(level.biased(torch.tensor(m))):.3f}" for name, m in ends.items()})
simulated.set_index(["measure", "m"])[["value", "chance"]].unstack("measure", sort=False).round(4)

# %% [markdown]
# On {glue:text}`small-m` images a random neuron reads V = {glue:text}`chance-small-m`, on {glue:text}`large-m` images
# {glue:text}`chance-large-m`, with no meaning in either; U reads {glue:text}`chance-unbiased` for both. The same bias
# lifts neurons that do mean something. The one worked out by hand, with the same shares but other numbers of images:

# %%
growing = torch.tensor([[count * times for count in counted] for times in (1, 2, 5, 100)])
pd.DataFrame(
    {"m": growing.sum(1), "V": consistency(growing, small), "U": unbiased_consistency(growing, small)}
).set_index("m").round(4)

# %% [markdown]
# Every table of this book therefore has V as the paper reports it, its chance level for the $m$ at hand, and U.
# Chance also depends on $\sigma$ and on the classes: with a large $\sigma$ everything is near to everything. Uniform
# shares over this dataset's classes and over ImageNet's 1000 {cite}`deng2009imagenet` give $s$ of

# %% tags=["hide-input"]
trees = {dataset: tree, "imagenet": distance_matrix(list(class_synsets("imagenet").values()))}
means = {f"s, {name}": [float(correlation(one, sigma=value).mean()) for value in sigmas] for name, one in trees.items()}
pd.DataFrame(means, index=pd.Index(sigmas, name="sigma")).round(4)

# %% [markdown]
# The paper's own table means, between {glue:text}`paper-lowest` and {glue:text}`paper-highest`, are from ImageNet.
# Neurons that fire at random already read the last column, and a little more. Means this low are above chance only
# for the smaller $\sigma$, which bounds what the paper can have used.

# %% tags=["hide-input"]
theirs = paper_table("table_1")
page.say(paper_lowest=f"{theirs.min().min():.4f}", paper_highest=f"{theirs.max().max():.4f}")

# %% [markdown]
# ## Can the interval be trusted?
#
# A mean over neurons comes with an interval of 95 %: had we seen other images of the same kind, where could it lie?
# Neurons share images, so whole images must be left out, for all neurons at once. The library deals the images into
# groups and leaves out one group at a time (a jackknife). The usual alternative, a bootstrap that draws images with
# replacement, goes wrong: an image drawn twice pairs with itself, with correlation 1.
#
# The test: neurons whose true consistency is known, sets of images drawn at random, and the share of sets whose
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
coverage.round(3)

# %% [markdown]
# The interval of U holds the truth in {glue:text}`coverage-jackknife` of the sets. Around V it does so in
# {glue:text}`coverage-biased`, since V itself is too high; the plain bootstrap reaches
# {glue:text}`coverage-bootstrap`. The interval is over images, with the network and the thresholds held fixed: what
# another training would have given is a question for several seeds ({doc}`04_evaluation`).
