# %% [markdown]
# # Training by explanation consistency
#
# :::{admonition} In short
# :class: in-short
# **Question.** Does a network become better if training gives more weight to images whose explanation gives way?
#
# **Answer.** A network that reads the background alone has an E of {glue:text}`own-mask-e` by its own mask, where 1 is
# the best: E alone does not tell what a network looks at. Of the differences that trainings make here,
# {glue:text}`p3-better` are shown to be better, {glue:text}`p3-worse` worse, {glue:text}`p3-not-shown` not shown. The
# ledger says of photographs: <a href="14_claims.html#claim-reweighting-accuracy">it raises accuracy</a>,
# {glue:text}`ledger-accuracy`; <a href="14_claims.html#claim-choice-accuracy">by its choice of images</a>,
# {glue:text}`ledger-choice`.
#
# **The number that decides.** Accuracy, trained with the weights less trained normally, held against 0: here
# {glue:text}`p3-accuracy`.
#
# **Change it yourself.** `make notebook N=08 PARAMS="background_epsilon=0.016"` ({ref}`change-a-parameter`) halves the
# attack. Then even the true mask finds no fault with that network.
# :::
#
# P3 asks of a network that its *explanation*, a map of where it looks, stays where it is when the rest of the image is
# attacked {cite}`wu2024improving`. The *explanation consistency* E says from 0 to 1 how well prediction and map
# withstand it. What can E see? Let us ask two networks of which we know what they look at.

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

from neuron_consistency.attacks.linf import background_attack
from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
from neuron_consistency.consistency import ambiguity
from neuron_consistency.consistency.figures import consistency_intervals
from neuron_consistency.data.image_set import MultiLabelSet
from neuron_consistency.explanation import figures, gallery, tables
from neuron_consistency.explanation.measure import Probe, explanation_mask, grad_cam, normalised
from neuron_consistency.explanation.planted_readers import planted_pictures, reader, reader_table
from neuron_consistency.explanation.scores import OWN_E, RIGHT_E, score_networks
from neuron_consistency.networks.models import build_model
from neuron_consistency.plotting import picture_grid
from neuron_consistency.show import in_words, interval_text, number_text, with_intervals
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import background_images, evaluation_images
from neuron_consistency.training.recipes import TITLES, recipes_of, weighting_of
from neuron_consistency.workflow.findings import explanation_findings

page = open_page("08_explanation_consistency", globals(), "explanation", "consistency")
recipes = recipes_of(profile, page.parameters)
images = evaluation_images(recipes[0], per_class=test_per_class)
backgrounds = background_images(recipes[0], per_class=test_per_class)
planted = Probe(epsilon=background_epsilon, threshold=mask_threshold)
readers = reader_table(planted).set_index(["looks at", "spared"])
own = readers.loc[("background", "its own explanation")]
page.say(own_mask_e=f"{own['E']:.2f}", own_mask_weight=f"{own['weight']:.2f}")
page.say(true_mask_e=f"{readers.loc[('background', 'the object'), 'E']:.2f}")
page.table(
    readers,
    "readers",
    "Two networks, by what they look at and what the attack spares. E, the share of predictions that flip, the weight "
    "in training, and accuracies go from 0 to 1; the interval of 95 % is over pictures. Other backgrounds: those of "
    "the other colour.",
)

# %% [markdown]
# In small pictures a marked square, the object, and its background are both reddish or both greenish. One network reads
# the colour of the object alone, the other that of the background alone. Both are right as long as the two colours
# agree. Before a background of the other colour, the second is always wrong. If the attack spares the object, E tells
# the two apart: that of the background reader is {glue:text}`true-mask-e`.
#
# But P3 spares what the network's *own* explanation marks. The background reader explains itself by the background, so
# the attack leaves the background alone. Its E is {glue:text}`own-mask-e` and its weight
# {glue:text}`own-mask-weight`: a network that is right for the wrong reason looks consistent, and none of its images is
# weighed up. E by the own mask measures how far the explanation can be *relied on*. It does not measure whether the
# explanation lies on the object. If reweighting reduces the use of backgrounds, then not because E sees that use. A
# dataset with true masks can set `mask_source = "truth"` and have a weight that does. Below, E is always given for both
# masks.
#
# ## From a map to a weight
#
# The explanation of a prediction is its Grad-CAM map {cite}`selvaraju2017gradcam`. It sums the maps $A_k$ of a layer,
# each weighted by how much the logit of the class rises with it:
#
# $$
# H(x) = \mathrm{ReLU}\Big(\sum_k \alpha_k A_k(x)\Big), \qquad
# \alpha_k = \frac{1}{hw} \sum_{u,v} \frac{\partial z_c(x)}{\partial A_k(u,v)} .
# $$ (eq-grad-cam)
#
# The mask $M$ of what the network looks at is where the map reaches a fifth of its maximum. The rest, the background,
# is attacked by one signed-gradient step:
#
# $$
# \hat{x} = \mathrm{clip}\big(x + \varepsilon\,(1 - M)\,\mathrm{sign}\,\nabla_x \ell(x, y)\big).
# $$ (eq-background-attack)
#
# A network that looked at the object alone should not mind. The explanation consistency says how little it minds:
#
# $$
# E(x, \hat{x}) = \begin{cases}
#   1 - D\big(H(x), H(\hat{x})\big) & \text{if both are predicted alike,} \\
#   0 & \text{if the prediction flips,} \end{cases}
# $$ (eq-explanation-consistency)
#
# where both maps are scaled to $[0, 1]$ and $D$ is their mean absolute difference. Images whose explanation gives way
# are then trained with more weight:
#
# $$
# L = \frac{1}{B} \sum_i v_i\,\ell(x_i, y_i), \qquad v_i = 1 - E(x_i, \hat{x}_i).
# $$ (eq-reweighted)
#
# As code, up to the weights, for the network that reads the background:

# %%
looks_away = reader("background")
x, y, _ = planted_pictures(64)
said = looks_away(x).argmax(1)
H = grad_cam(looks_away, x, said)
M = explanation_mask(H, size=x.shape[2:], threshold=mask_threshold)
attacked = background_attack(looks_away, x, y, M, epsilon=background_epsilon)
moved = grad_cam(looks_away, attacked, said)
D = (normalised(H) - normalised(moved)).abs().mean((1, 2))
E = torch.where(looks_away(attacked).argmax(1) == said, 1 - D, 0)
v = 1 - E

# %% tags=["remove-input"]
page.say(by_hand_e=f"{float(E.mean()):.2f}", by_hand_weight=f"{float(v.mean()):.2f}")

# %% [markdown]
# The mean of E is {glue:text}`by-hand-e` and that of the weights {glue:text}`by-hand-weight`, as in the table above.
#
# **What the paper leaves open.** It does not say which $D$ it takes, how often the weights are renewed, or whether
# there is a warm-up. Here they are parameters. Weights start at one and are taken anew for the whole training set every
# few epochs.
#
# **Two controls.** Since $v_i \le 1$, {eq}`eq-reweighted` also shrinks the loss as a whole. So a second network is
# always trained whose weights are divided by their mean. What both share is not due to the smaller loss. It need not be
# due to *which* images weigh more either, because unequal weights alone change a training. The objective
# `permuted-mean1` deals the same weights, with mean one, to other images at random: it is the {term}`null`. Only what
# reweighting does beyond it is due to explanations.
#
# ## Training
#
# The networks differ in nothing but the weights: they have the same first weights, batches and augmentation.

# %% tags=["remove-output"]
nets = page.obtain(recipes)

# %% tags=["hide-input"]
records = {page.titles[net.recipe.key]: net.record for net in nets}
trainings, history = tables.training_table(records), tables.explanation_history(records)
page.say(p3_training_seconds=f"{trainings['seconds'].sum():.0f}")
page.figure(
    figures.explanation_over_training(history),
    "e-over-training",
    "E of all training images whenever the weights were taken, a panel a network: median, and bands between quantiles. "
    "E goes from 0 (the prediction flips) to 1 (the map does not move). See how much of a band lies at 0.",
    alt="Bands over epochs. Median E at the end: "
    + in_words(history[history["quantile"] == 0.5].groupby("model", sort=False)["E"].last())
    + ".",
)

# %% tags=["hide-cell"]
page.table(
    tables.quantiles_in_columns(history),
    "e-over-training",
    "The numbers of the figure above: quantiles of E, the share of images whose prediction flips, and the mean weight. "
    "Spared: the share of an image that the mask keeps from the attack, on average.",
)

# %% [markdown]
# Two kinds of images have E = 1, and so in the paper's form no weight at all, without having earned it. The *unmarked*
# have an explanation that is zero everywhere and cannot move. The mask of the *covered* leaves nothing to attack.
# Coarse maps, early epochs and low thresholds make many of them.

# %% tags=["hide-input"]
page.table(
    trainings.drop(columns=["on", "precision"]),
    "trainings",
    "The trainings. Held out: accuracy (with several labels, the mean average precision) on the training images that "
    "are not trained on. The clean loss is without weights, so that the networks can be compared.",
)

# %% [markdown]
# All trainings together took {glue:text}`p3-training-seconds` seconds. A pass for the weights costs a little more than
# an epoch: one explanation of $x$, one step of attack, and one explanation of $\hat{x}$.
#
# :::{dropdown} Does a smaller loss train a smaller step?
# AdamW divides each step by the running size of the gradients. A loss that is smaller by a constant factor therefore
# trains the same network in the end, but only as far as AdamW's memory reaches back, some thousand steps. Right after
# the weights fall below one, the steps are smaller until it has forgotten. With plain gradient descent they would stay
# so.
# :::
#
# ## Where explanations hold and where they give way
#
# Every network is now measured on the validation images. Beside the trained networks stands an untrained one of each
# architecture.

# %% tags=["remove-output"]
probes = {name: weighting_of(page.parameters, name) for name in architectures}
trained = {page.titles[net.recipe.key]: (net.model, probes[net.recipe.architecture]) for net in nets}
size = {"num_classes": images.num_classes, "image_size": image_size}
untrained = {f"untrained {TITLES[name]}": (build_model(name, **size, seed=1), probes[name]) for name in architectures}
how = {"epsilon": epsilon, "pgd_steps": pgd_steps, "backgrounds": backgrounds}
how |= {"curve_images": curve_images, "curve_steps": curve_steps}
scores = score_networks(trained | untrained, images, page.on, **how)

# %% tags=["hide-input"]
first, (model, probe) = next(iter(trained.items()))
high, low = gallery.extreme_places(torch.tensor(scores[first].values[OWN_E]), count=shown_images)
pictures = gallery.explanation_rows(model, images, [*high, *low], probe, page.on)
page.figure(
    picture_grid(pictures),
    "extremes",
    f"{first}: the validation images of highest E, left, and of lowest, right, as in P3's Figure 4. The white line is "
    "the edge of what the attack spared. Where the prediction flips, the new one is named, and E is 0 whatever the "
    "maps look like.",
    alt="Rows of small pictures. Columns: " + "; ".join(" ".join(text.split()) for text in pictures.above) + ".",
)

# %% [markdown]
# ## The measures
#
# One table holds everything that P3 claims to improve. *Accuracy* is measured on clean images, under FGSM and under
# PGD. It is also measured on the same objects before a background of their own class and of another one, with the *gap*
# between the two {cite}`xiao2021noise`. Of the Grad-CAM map of the true class there are: whether its maximum hits the
# object (pointing game), and how well it covers the object's box and its pixels (IoU). *Insertion* and *deletion* are
# the area under the class's probability while its pixels are inserted (high is good) or deleted (low is good) in the
# map's order {cite}`petsiuk2018rise`. E is measured with the network's own mask, and with the true mask. The
# {term}`null` of E is the same under random signs instead of the gradient's: what any change of that size to those
# pixels does.
#
# Three of these say something else than they seem to. Each has a second row, which is the one that is judged:
#
# - *Off centre*. Most objects lie on the image's centre, where a map that always points there cannot miss. The second
#   row is of the images whose object's box does not hold the centre. Nothing can be told where a map of the centre
#   still does as well as the networks, or where there are fewer than thirty such images.
# - *Above random*, *below random*. A network that is less sure of everything has the smaller areas, which makes its
#   deletion look good. The second row is the difference from the same network's areas by random maps.
# - *E of right answers*. {eq}`eq-explanation-consistency` asks whether the *predicted* class is kept. A wrong answer
#   that is kept counts as consistent, and a network that has learned nothing keeps its answers best. The second row is
#   E where the answer is right, and 0 where it is wrong. The weights that train are the paper's.

# %% tags=["hide-input"]
measures = tables.scores_table(scores)
page.table(
    tables.beside_each_other(measures),
    "measures",
    f"Every measure on {len(images)} validation images of {images.num_classes} classes, with 95 % intervals over "
    "images. All go from 0 to 1, but for differences (gap, "
    "above and below random). Chance: one in the number of classes, a map of the image's centre, or for insertion and "
    "deletion a random map; what has no such number has the untrained network beside it.",
    exact=measures,
)

# %% tags=["hide-input"]
each = tables.e_of_every_image(scores)
page.figure(
    figures.explanation_distributions(each),
    "e-of-images",
    "How E is distributed over the validation images, a panel a mask, a line a network: the share of images with at "
    "most so much E. A line that starts high has many images whose prediction flips.",
    alt="Rising lines. Means of E: " + in_words(each.groupby(["model", "mask"], sort=False)["E"].mean(), most=20) + ".",
)

# %% [markdown]
# ## The verdict
#
# Differences are judged by one rule, that of the whole book. Each image is compared with itself: with what the normally
# trained network makes of it, and with what the network with permuted weights makes of it where there is one. The
# interval of 95 % covers other images and, with several seeds, other seeds. The measures of one comparison are a
# family: *p* is adjusted among them by Holm, and a difference is shown where it is below .05. So an interval that just
# leaves out zero may not suffice. Lower is better for the background gap.

# %% tags=["hide-input"]
verdicts = tables.verdicts(scores, recipes, page.titles)
counts = verdicts["verdict"].value_counts()
for word in ("better", "worse", "not shown", "not comparable", "cannot be told"):
    page.say({f"p3-{word.replace(' ', '-')}": f"{counts.get(word, 0)}"})
shown = verdicts.replace({"architecture": TITLES, "objective": figures.WORDS, "against": figures.WORDS})
if len(architectures) > 1:
    shown["measure"] += ", " + shown["architecture"]
page.figure(
    figures.differences(shown),
    "verdicts",
    "What the trainings change, for every measure that can be judged, with intervals of 95 %. Filled marks are shown "
    "to be better or worse, open ones are not.",
    alt="Marks with intervals. "
    + in_words(shown.dropna(subset="p").set_index(["measure", "objective", "against"])["difference"])
    + ".",
)

# %% tags=["hide-cell"]
page.table(
    shown.drop(columns=verdicts.columns[verdicts.eq("free").all()]).set_index(["objective", "against", "measure"]),
    "verdicts",
    "The numbers of the figure above, and the measures that are not judged, with the reason. Unit: what the interval "
    "covers.",
)

# %% [markdown]
# Of all differences here, {glue:text}`p3-better` are shown to be for the better, {glue:text}`p3-worse` for the worse,
# and {glue:text}`p3-not-shown` are not shown. {glue:text}`p3-not-comparable` cannot be compared, and
# {glue:text}`p3-cannot-be-told` cannot be told from these images. If the paper's weights and those of mean one differ
# from normal training alike, it was not the smaller loss. If those of mean one also differ from the permuted ones, the
# choice of images did it.
#
# E is *not comparable* where the accuracies of two networks differ by more than three points, or the shares of the
# image that they spare by more than five. For E rises with what is spared, and a less accurate network has less to
# lose.
#
# With `objectives` that train by P1's Eq. 6 ({doc}`03_consistent_loss_training`), as it is (`consistent`) and with each
# image's loss times its weight (`both`), the comparison of the two says what the weights add to Eq. 6.
#
# ## Do neurons become more consistent?
#
# This is P1's question, put to P3's networks. U of the last convolutional layer's neurons is measured on all validation
# images and on each network's own FGSM images, as in {doc}`04_evaluation`, which also has the controls that say what a
# fall under attack means. Images with several labels have no such measure.

# %% tags=["remove-output", "hide-input"]
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
page.figure(
    consistency_intervals(neurons),
    "neurons",
    "U of the last layer, a panel a network, on real and on FGSM images, by true and by predicted labels, with "
    "intervals of 95 % over images; grey strokes are chance.",
    alt="U: " + in_words(neurons.set_index(["model", "set", "labels"])["U"], most=20) + ".",
) if len(neurons) else None

# %% tags=["hide-cell"]
page.table(
    ambiguity.view(neurons, "pair"),
    "neurons",
    "The numbers of the figure above: U and V, each beside its chance level.",
) if len(neurons) else None

# %% tags=["hide-input"]
page.table(
    changes.set_index(["first", "second", "set", "labels"]),
    "changes",
    "Differences in U between trainings, with intervals of 95 % from paired replicates over images, and over seeds "
    "where there are several.",
) if len(changes) else None

# %% [markdown]
# ## Maps before and after

# %% tags=["hide-input"]
page.figure(
    picture_grid(pictures := gallery.network_rows(trained, images, low, page.on)),
    "maps",
    "The explanation of the true class by each network, for images of the lowest E above, as in P3's Figure 3. Under "
    "each map stands what the network says.",
    alt="Rows of small pictures. "
    + " ".join(f"{name}: {', '.join(one.caption or 'image' for one in row)}." for name, row in pictures.rows),
)

# %% [markdown]
# ## Filters in groups
#
# P3 also trains icCNN {cite}`shen2021interpretable`, a network whose filters are made to fall into groups that look at
# the same places. With $s_{ij}$ one plus the correlation of the maps of filters $i$ and $j$, its loss has the further
# term
#
# $$
# -\lambda \sum_{\text{groups } G} \frac{\sum_{i, j \in G} s_{ij}}{\sum_{i \in G} \sum_{j} s_{ij}} .
# $$ (eq-filter-groups)
#
# Any network here can be trained so (`filter_groups`). One is shown: beside the first network above, the same with
# groups in the explained layer. Of both, the groups are formed anew on one half of the validation images and held
# against the other half.

# %% tags=["remove-output", "hide-input"]
if shown_groups:
    layer = probe.layer or model.last_layer
    example = {"filter_groups": shown_groups, "group_layer": layer, "objectives": ["normal"]}
    example |= {"architectures": architectures[:1], "seeds": seeds[:1]}
    (grouped,) = page.obtain(recipes_of(profile, {**page.parameters, **example}))
    beside = {grouped.title: grouped.model, first: model}
    contrasts, groups = tables.contrast_table(beside, images, layer, page.on, groups=shown_groups)

# %% tags=["hide-input"]
page.table(
    contrasts.set_index("network"),
    "contrasts",
    "Contrast: how much more alike two filters of one group are (within) than two of different groups (between); the "
    "similarity goes from 0 to 2. Chance, with 95 % of its draws: random groups of the same sizes.",
) if shown_groups else None

# %% tags=["hide-input"]
page.figure(
    picture_grid(gallery.group_rows(grouped.model, images, groups[grouped.title], layer, page.on, count=shown_images)),
    "groups",
    "The largest groups of the network trained with groups: each column is the image that fires one of them most, each "
    "row where a group responds.",
    alt=f"Rows of small pictures: {shown_images} images, and where each of the largest groups responds.",
) if shown_groups else None

# %% [markdown]
# ## What to doubt
#
# **Is it the explanation?** In the kept studies {glue:text}`flips-low` to {glue:text}`flips-high` % of all weight lies
# on images whose prediction flips, and these weigh one whatever their maps do. Exercise 2 counts it for this page.
#
# **Is a higher E better?** Not by itself. It rises with what is spared and with indifference to the image, and the
# untrained network has a high one. So E is compared only among networks that are alike otherwise.
#
# **Are one seed and these images enough?** With one seed the intervals cover other images alone. A difference that is
# *not shown* may still be there, up to the ends of its interval. {doc}`12_results_p3` has several seeds and
# photographs.
#
# ## What this says of the claims

# %% tags=["hide-input"]
kept = {"measures": page.with_recipes(measures), "verdicts": verdicts, "training": page.with_recipes(trainings)}
kept |= {"consistency": history, "neurons": neurons, "changes": changes}
findings = page.keep(kept, explanation_findings(verdicts))
told = with_intervals(findings[findings["claim"] == "reweighting-accuracy"])
told = [f"{case}, {value}, {verdict}" for case, value, verdict in told[["case", "value", "verdict"]].to_numpy()]
page.say(p3_accuracy="; ".join(told) or "not measured in this run")
ledger = Found(Kept.read()).numbers
page.say({f"flips-{name}": value for name, value in ledger["flips"].items()})
for name, claim in {"accuracy": "reweighting-accuracy", "choice": "choice-accuracy"}.items():
    page.say({f"ledger-{name}": f"{ledger[claim].row['verdict']}, {ledger[claim].bare}"})
page.findings(findings)

# %% [markdown]
# ## Summary
#
# - E says how well a prediction and its map withstand an attack on what the map leaves out. By its own mask a network
#   that reads only the background has an E of {glue:text}`own-mask-e`.
# - Reweighting needs two controls: weights of mean one, for the smaller loss, and permuted weights, for the choice of
#   images.
# - Accuracy, trained with the weights less trained normally: {glue:text}`p3-accuracy`. On photographs, that it rises:
#   {glue:text}`ledger-accuracy`.
# - Localisation, insertion and deletion, and E each need a second row before they say what they seem to say.
#
# ## Try this

# %% tags=["hide-input"]
try_this("08_explanation_consistency")

# %% [markdown]
# ## Exercises
#
# **1.** A map has four places: 1, 0, 0 and ½. After the attack it has ½, 0, 0 and 1. Work out E and the weight, once
# where the prediction stays, once where it flips.

# %% tags=["remove-input"]
before, after = torch.tensor([[[1, 0], [0, 0.5]], [[0.5, 0], [0, 1]]])[:, None]
apart = float((normalised(before) - normalised(after)).abs().mean())
page.say(hand_e=f"{1 - apart:.2f}", hand_weight=f"{apart:.2f}")

# %% [markdown]
# :::{dropdown} Answer
# Both maps go from 0 to 1 already. Their mean absolute difference is (½ + 0 + 0 + ½)/4, so by
# {eq}`eq-explanation-consistency` E is {glue:text}`hand-e` and the weight {glue:text}`hand-weight`. If the prediction
# flips, E is 0 and the weight is 1, whatever the maps are.
# :::
#
# **2.** Of ten images, eight keep their prediction with an E of 0.9, and two flip. Which share of all weight lies on
# the two? Which share is it in the training with the paper's weights above?

# %% tags=["remove-input"]
weighed = history[history["mean weight"] < 0.999]
shares = (weighed["flipped"] / weighed["mean weight"]).tolist()
page.say(two_of_ten=f"{2 / (2 + 8 * 0.1):.0%}", flips_here=f"{shares[-1]:.0%}" if shares else "not measured")

# %% [markdown]
# :::{dropdown} Answer
# The eight weigh 0.1 each and the two weigh 1 each, so the two have {glue:text}`two-of-ten` of all weight. In the
# training above, when the weights were last taken, images that flip had {glue:text}`flips-here`: divide the share of
# flips by the mean weight. Where this share is large, as in the kept studies, reweighting by E is mostly reweighting by
# *flips*.
# :::
#
# **3.** Which E has the untrained network, which E of right answers, and which accuracy? What does this say of E as a
# goal of training?

# %% tags=["remove-input"]
blank = measures[measures["network"] == next(iter(untrained))].set_index("measure")[["mean", "low", "high"]]
for name, row in {"e": OWN_E, "right": RIGHT_E, "accuracy": "accuracy"}.items():
    page.say({f"untrained-{name}": interval_text(*blank.reindex([row]).to_numpy(float)[0], decimals=2)})
page.say(trained_e=number_text(float(scores[first].values[OWN_E].mean()), 2), trained_name=first)

# %% [markdown]
# :::{dropdown} Answer
# Its E is {glue:text}`untrained-e`, its E of right answers {glue:text}`untrained-right`, its accuracy
# {glue:text}`untrained-accuracy`; {glue:text}`trained-name` has an E of {glue:text}`trained-e`. A network that hardly
# reacts to its input keeps its answers and its maps. A high E is worth something only together with right answers.
# :::
