# %% [markdown]
# # Training by explanation consistency
#
# P3 asks of a network that its *explanation* stays where it is when nothing that matters changes
# {cite}`wu2024improving`. The explanation of a prediction is its Grad-CAM map {cite}`selvaraju2017gradcam`: the maps
# $A_k$ of a layer, weighted by how much the class's logit rises with each,
#
# $$
# H(x) = \mathrm{ReLU}\Big(\sum_k \alpha_k A_k(x)\Big), \qquad
# \alpha_k = \frac{1}{hw} \sum_{u,v} \frac{\partial z_c(x)}{\partial A_k(u,v)} .
# $$ (eq-grad-cam)
#
# What reaches a fifth of the map's maximum is the mask $M$ of what the network looks at. The rest, the background, is
# attacked by one signed-gradient step:
#
# $$
# \hat{x} = \mathrm{clip}\big(x + \varepsilon\,(1 - M)\,\mathrm{sign}\,\nabla_x \ell(x, y)\big).
# $$ (eq-background-attack)
#
# A network that looked at the object alone should not mind. The *explanation consistency* says how little it minds:
#
# $$
# E(x, \hat{x}) = \begin{cases}
#   1 - D\big(H(x), H(\hat{x})\big) & \text{if both are predicted alike,} \\
#   0 & \text{if the prediction flips,} \end{cases}
# $$ (eq-explanation-consistency)
#
# with both maps scaled to $[0, 1]$ and $D$ their mean absolute difference. Images whose explanation gives way are then
# trained with more weight:
#
# $$
# L = \frac{1}{B} \sum_i v_i\,\ell(x_i, y_i), \qquad v_i = 1 - E(x_i, \hat{x}_i).
# $$ (eq-reweighted)
#
# The paper does not say which $D$ it takes, how often the weights are renewed, or whether there is a warm-up. Here
# they are parameters; weights start at one and are taken anew for the whole training set every few epochs. One thing
# more: since $v_i \le 1$, {eq}`eq-reweighted` also shrinks the loss as a whole. So a second network is always trained
# whose weights are divided by their mean. What both share is not due to the smaller loss. It need not be due to *which*
# images weigh more either: unequal weights alone change a training. The objective `permuted-mean1` deals the same
# weights, with mean one, to other images at random. Only what reweighting does beyond it is due to explanations.

# %% tags=["parameters"]
# what is looked at
dataset: str = "scenes"  # scenes, scenes-multilabel, tiny-imagenet, stl10, voc2012, cub200, imagenet9, or a folder
image_size: int = 64  # side of the images in pixels
classes: int = 12  # how many classes; 0 takes all
per_class: int = 40  # training images of each class; 0 takes all
background_correlation: float = 0.8  # rendered scenes: how often a class stands before the background that goes with it
architectures: list[str] = ["resnet18"]  # also vgg16, resnet50, alexnet
objectives: list[str] = ["normal", "reweighted", "reweighted-mean1"]  # or permuted-mean1, both, consistent, adversarial
seeds: list[int] = [0]  # a claim about a training method needs several
weights: str = ""  # "imagenet" starts from torchvision's weights (1000 classes); "" from random ones
test_per_class: int = 8  # validation images of each class that are measured; 0 takes all
curve_images: int = 32  # images scored by insertion and deletion; 0 is none
shown_images: int = 4  # columns of the pictures
shown_groups: int = 8  # icCNN: groups of filters of one more network, shown at the end; 0 leaves it out
# how it is measured
epochs: int = 5  # passes over the training images
epochs_of: dict[str, int] = {}  # exceptions by architecture
learning_rate: float = 1.5e-3  # peak of AdamW's warm-up and cosine
weight_decay: float = 0.01  # decoupled
held_out: float = 0.1  # share of the training images that selects, never trains
warm_up: int = 2  # epochs with all weights one
refresh_period: int = 2  # K: then the weights are taken anew every so many epochs
background_epsilon: float = 8 / 255  # radius of the attack on the background
background_steps: int = 1  # its steps
mask_threshold: float = 0.2  # share of a map's maximum above which a pixel is no background
mask_source: str = "explanation"  # in training; "truth" where the dataset has masks
map_distance: str = "absolute"  # D: absolute, ssim, rank or iou
explained_layers: list[str] = ["resnet18.layer3", "resnet50.layer3"]  # others: the last, at 64 px too coarse
filter_groups: int = 0  # icCNN: groups of filters; 0 is off
group_strength: float = 0.1  # weight of its loss
group_period: int = 2  # epochs after which the groups are formed anew
group_layer: str = ""  # whose filters; "" is the last convolutional layer
alpha: float = 0.5  # of Eq. 6, for the objectives with it: weight of the clean loss
beta: float = 1.0  # weight of the consistent loss
epsilon: float = 4 / 255  # radius of Eq. 6's FGSM, and of the FGSM and PGD that test robustness
pgd_steps: int = 5  # steps of PGD
curve_steps: int = 8  # steps of insertion and deletion
# how it runs
profile: str = "demo"  # whose results these are: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # bfloat16 where the hardware is fast at it, else float32
batch_size: int = 16  # images a step
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %% tags=["hide-input"]
import pandas as pd
import torch

from neuron_consistency.book.page import open_page
from neuron_consistency.consistency import ambiguity
from neuron_consistency.data.image_set import MultiLabelSet
from neuron_consistency.explanation import figures, gallery, tables
from neuron_consistency.explanation.measure import Probe
from neuron_consistency.explanation.planted_readers import reader_table
from neuron_consistency.explanation.scores import OWN_E, score_networks
from neuron_consistency.networks.models import build_model
from neuron_consistency.plotting import picture_grid
from neuron_consistency.show import with_intervals
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import background_images, evaluation_images
from neuron_consistency.training.recipes import TITLES, recipes_of, weighting_of
from neuron_consistency.workflow.findings import explanation_findings

page = open_page("08_explanation_consistency", globals(), "explanation", "consistency")
recipes = recipes_of(profile, page.parameters)
images = evaluation_images(recipes[0], per_class=test_per_class)
backgrounds = background_images(recipes[0], per_class=test_per_class)
print(f"{len(images)} validation images of {images.num_classes} classes")

# %% [markdown]
# ## What E can see, and what it cannot
#
# Before any training: two networks of which we know what they look at. In small pictures a marked square, the object,
# and its background are both reddish or both greenish. One network reads the colour of the object alone, the other
# that of the background alone. Both are right as long as the two agree; before a background of the other colour
# the second is always wrong.

# %% tags=["hide-input"]
readers = reader_table(Probe(epsilon=background_epsilon, threshold=mask_threshold)).set_index(["looks at", "spared"])
own = readers.loc[("background", "its own explanation")]
page.say(own_mask_e=f"{own['E']:.2f}", own_mask_weight=f"{own['weight']:.2f}")
with_intervals(readers)

# %% [markdown]
# If the attack spares the object, E tells the two apart as it should: every prediction of the background reader flips,
# so E is 0 and the weight $v = 1$.
#
# But {eq}`eq-background-attack` spares what the network's *own* explanation marks. The background reader explains
# itself by the background, so the background is what the attack leaves alone. Its E is
# {glue:text}`own-mask-e` and its weight {glue:text}`own-mask-weight`: by its own explanation a network that is right
# for the wrong reason looks perfectly consistent, and no image of it is weighed up. E from a network's own mask
# measures how far the explanation can be *relied on*, not whether it lies on the object. If reweighting reduces the
# use of backgrounds, it cannot be because E sees that use; a dataset with true masks can set `mask_source = "truth"`
# and have a weight that does. Below, E is therefore always given for both masks.
#
# ## Training
#
# The networks differ in nothing but the weights: the same first weights, the same batches, the same augmentation.

# %%
nets = page.obtain(recipes)

# %% tags=["hide-input"]
records = {page.titles[net.recipe.key]: net.record for net in nets}
trainings, history = tables.training_table(records), tables.explanation_history(records)
page.say(p3_training_seconds=f"{trainings['seconds'].sum():.0f}")
trainings.round(3)

# %% [markdown]
# *Held out* is the accuracy (for images with several labels the mean average precision) on the training images that
# are not trained on. The clean loss is without weights, so that the networks can be compared. All trainings together
# took {glue:text}`p3-training-seconds` seconds; the weights' share of them is in its own column. A pass for the weights
# costs a little more than an epoch: one explanation of $x$, one step of attack, one explanation of $\hat{x}$.
#
# A word on the size of the weights. AdamW divides each step by the gradients' running size, so a loss that is smaller
# by a constant factor trains the same network in the end. It does so only as far as its memory reaches back, some
# thousand steps: right after the weights fall below one the steps are smaller, until it has forgotten. With plain
# gradient descent they would stay so.
#
# ### E over training

# %% tags=["hide-input"]
figures.explanation_over_training(history)

# %% tags=["hide-input"]
tables.quantiles_in_columns(history)

# %% [markdown]
# Quantiles of E over all training images, whenever the weights were taken, beside the share of images whose prediction
# flips and the mean weight. *Spared* is the share of an image that the mask keeps from the attack, on average. Two
# kinds of images have E = 1, and so in the paper's form no weight at all, without having earned it: the *unmarked*,
# whose explanation is zero everywhere and cannot move, and the *covered*, whose mask leaves nothing to attack.
# Coarse maps, early epochs and low thresholds make many of them.
#
# ## Where explanations hold and where they give way
#
# Every network is now measured on the validation images, and beside the trained ones an untrained one of each
# architecture.

# %%
probes = {architecture: weighting_of(page.parameters, architecture) for architecture in architectures}
trained = {page.titles[net.recipe.key]: (net.model, probes[net.recipe.architecture]) for net in nets}
size = {"num_classes": images.num_classes, "image_size": image_size}
untrained = {f"untrained {TITLES[name]}": (build_model(name, **size, seed=1), probes[name]) for name in architectures}
scores = score_networks(
    trained | untrained, images, page.on, epsilon=epsilon, pgd_steps=pgd_steps, backgrounds=backgrounds,
    curve_images=curve_images, curve_steps=curve_steps,
)  # fmt: skip

# %% [markdown]
# The paper's figure 4, for the first network: the validation images of highest E, and those of lowest.

# %% tags=["hide-input"]
first, (model, probe) = next(iter(trained.items()))
high, low = gallery.extreme_places(torch.tensor(scores[first].values[OWN_E]), count=shown_images)
picture_grid(gallery.explanation_rows(model, images, [*high, *low], probe, page.on))

# %% [markdown]
# Left the most consistent images, right the least. The white line is the edge of what the attack spared. Where the
# prediction flips, the new one is named, and E is 0 whatever the maps look like.
#
# ## The measures
#
# One table of everything that P3 claims to improve. *Accuracy* on clean images, under FGSM and under PGD; on the same
# objects before a background of their own class and of another one, with the *gap* between these
# {cite}`xiao2021noise`. Of the Grad-CAM map of the true class: whether its maximum hits the object (pointing game), how
# well it covers the object's box and its pixels (IoU), and the area under the class's probability while its pixels
# are inserted (high is good) or deleted (low is good) in the map's order {cite}`petsiuk2018rise`. Last E with the
# network's own mask, the same under random signs instead of the gradient's (what any change of that size to those
# pixels does: the null of E), how much of the image the mask spares, and E with the true mask.
#
# Three of these say something else than they seem to, so each has a second row, which is the one that is judged:
#
# - *Off centre*. Where the object lies on the image's centre, a map that always points there cannot miss, and most
#   objects do. The second row is of the images whose object's box does not hold the centre. Where a map of the centre
#   still does as well as the networks, or where fewer than thirty such images are there, nothing can be told.
# - *Above random*, *below random*. A network that is less sure of everything has the smaller areas, which makes its
#   deletion look good. The second row is the difference to the same network's areas by random maps.
# - *E of right answers*. {eq}`eq-explanation-consistency` asks whether the *predicted* class is kept. A wrong answer
#   that is kept counts as consistent, and a network that has learned nothing keeps its answers best. The second row is
#   E of the true class: E where the answer is right, and 0 where it is wrong. The weights that train are the paper's.
#
# Intervals are 95 % over images. *Chance* is one in the number of classes, a map that always points to the image's
# centre, or for insertion and deletion a random one; what has no such number has the untrained network beside it.

# %% tags=["hide-input"]
measures = tables.scores_table(scores)
tables.beside_each_other(measures)

# %% tags=["hide-input"]
figures.explanation_distributions(tables.e_of_every_image(scores))

# %% [markdown]
# ## The verdict
#
# Differences by one rule, the one of the whole book: to the normally trained network, and to the networks whose weights
# are permuted where there are some. Each image is compared with itself. The interval of 95 % covers other images and,
# with several seeds, other seeds. The measures of one comparison are a family: *p* is adjusted among them by Holm, and
# a difference is shown where it is below .05. An interval that just leaves zero out may therefore not suffice. Lower is
# better for the background gap.
#
# E is *not comparable* where the accuracies of two networks differ by more than three points or the shares of the
# image that they spare by more than five: E rises with what is spared, and a network that is less accurate has less
# to lose. Where nothing can be told, the last column says why.

# %% tags=["hide-input"]
verdicts = tables.verdicts(scores, recipes, page.titles)
counts = verdicts["verdict"].value_counts()
for word in ("better", "worse", "not shown", "not comparable", "cannot be told"):
    page.say({f"p3-{word.replace(' ', '-')}": f"{counts.get(word, 0)}"})
shown = verdicts.drop(columns=verdicts.columns[verdicts.eq("free").all()])
with_intervals(shown.set_index(["architecture", "objective", "against", "measure"]))

# %% [markdown]
# Of all differences here, {glue:text}`p3-better` are shown to be for the better, {glue:text}`p3-worse` for the worse,
# and {glue:text}`p3-not-shown` are not shown; {glue:text}`p3-not-comparable` cannot be compared, and of
# {glue:text}`p3-cannot-be-told` the images cannot tell. If the paper's weights and those of mean one differ from the
# baseline alike, it was not the smaller loss; if those of mean one also differ from the permuted ones, the choice of
# images did it. With `objectives` that train by Eq. 6 of {doc}`03_consistent_loss_training`, as it is (`consistent`)
# and with each image's loss times its weight (`both`), the rows of `both` against `consistent` say what the weights add
# to Eq. 6. The differences that the paper makes claims about are in the ledger of all claims ({doc}`14_claims`).
#
# ## Do neurons become more consistent?
#
# P1's question, put to P3's networks: the consistency of the last convolutional layer's neurons, on all validation
# images and on each network's own FGSM images, as in {doc}`04_evaluation` (which also has the controls that say what a
# fall under attack means). U is free of bias, and its chance level is beside it. Images with several labels have no
# such measure.

# %%
neurons, changes = pd.DataFrame(), pd.DataFrame()
if not isinstance(images, MultiLabelSet):
    every = evaluation_images(recipes[0])
    A = correlation(distance_matrix(every.synsets))
    passes = {
        title: ambiguity.measure_with_controls(model, every, page.on, epsilon=epsilon, controls=False)
        for title, (model, _) in trained.items()
    }
    neurons = ambiguity.consistency_table(passes, A, equal_m=20)
    sets = [(ambiguity.REAL, "true"), (ambiguity.FGSM, "true")]
    pairs = tables.comparisons(objectives)
    changes = ambiguity.compare_trainings(passes, recipes, page.titles, A, pairs, sets)

# %% tags=["hide-input"]
with_intervals(ambiguity.view(neurons, "pair")) if len(neurons) else None

# %% [markdown]
# Differences in U, with intervals from paired replicates over images, and over seeds where there are several:

# %% tags=["hide-input"]
with_intervals(changes.set_index(["first", "second", "set", "labels"])) if len(changes) else None

# %% [markdown]
# ## Maps before and after
#
# The paper's figure 3: the explanation of the true class by each network, for images of the lowest E above. Under each
# map stands what the network says.

# %% tags=["hide-input"]
picture_grid(gallery.network_rows(trained, images, low, page.on))

# %% [markdown]
# ## Filters in groups
#
# P3 also trains icCNN {cite}`shen2021interpretable`, a network whose filters are made to fall into groups that look at
# the same places: with $s_{ij}$ one plus the correlation of the maps of filters $i$ and $j$, its loss has the further
# term
#
# $$
# -\lambda \sum_{\text{groups } G} \frac{\sum_{i, j \in G} s_{ij}}{\sum_{i \in G} \sum_{j} s_{ij}} .
# $$ (eq-filter-groups)
#
# Any network here can be trained so (`filter_groups`). One is shown: beside the first network above, the same with
# groups in the explained layer. Of both, the groups are formed anew on one half of the validation images and held
# against the other half: *contrast* is how much more alike two filters of one group are than two of different
# groups. Chance is what random groups of the same sizes give.

# %%
if shown_groups:
    layer = probe.layer or model.last_layer
    example = {"filter_groups": shown_groups, "group_layer": layer, "objectives": ["normal"]}
    example |= {"architectures": architectures[:1], "seeds": seeds[:1]}
    (grouped,) = page.obtain(recipes_of(profile, {**page.parameters, **example}))
    beside = {grouped.title: grouped.model, first: model}
    contrasts, groups = tables.contrast_table(beside, images, layer, page.on, groups=shown_groups)

# %% tags=["hide-input"]
with_intervals(contrasts.set_index("network")) if shown_groups else None

# %% tags=["hide-input"]
picture_grid(
    gallery.group_rows(grouped.model, images, groups[grouped.title], layer, page.on, count=shown_images)
) if shown_groups else None

# %% [markdown]
# The largest groups of the network trained with {eq}`eq-filter-groups`: each column is the image that fires one of
# them most, each row where a group responds.

# %% tags=["hide-input"]
kept = {"measures": page.with_recipes(measures), "verdicts": verdicts, "training": page.with_recipes(trainings)}
kept |= {"consistency": history, "neurons": neurons, "changes": changes}
page.keep(kept, explanation_findings(verdicts))
page.provenance()
