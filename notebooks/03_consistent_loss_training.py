# %% [markdown]
# # Training with a consistent loss
#
# Can a network be trained so that its neurons keep their meaning when an image is attacked? The cure that P1 proposes
# for ambiguous neurons is adversarial training that also keeps the *features* of an image where they are
# {cite}`dong2019towards`. It starts from two inner maximisations,
#
# $$
# \min_\theta\; \mathbb{E}_{(x,y)}\Big[\max_{x^*\in S(x)} \ell(\theta, x^*, y)
#   + \max_{x'\in S(x)} d\big(\phi_\theta(x), \phi_\theta(x')\big)\Big],
# $$ (eq-two-maxima)
#
# and relaxes them to one adversarial example an image, made by a single signed-gradient step (FGSM)
# {cite}`goodfellow2015explaining` and used in both terms:
#
# $$
# L(\theta) = \alpha\,\ell(\theta, x, y) + (1-\alpha)\,\ell(\theta, x^*, y)
#   + \beta\, d\big(\phi_\theta(x), \phi_\theta(x^*)\big).
# $$ (eq-consistent-loss)
#
# This notebook trains every architecture three times: normally ($\alpha = 1$, $\beta = 0$), with
# {eq}`eq-consistent-loss`, and with {eq}`eq-consistent-loss` at $\beta = 0$. The third is missing from the paper, and
# without it nobody can say what the consistent loss adds to plain adversarial training.
#
# The paper leaves several things open, and each is a parameter below. $\phi$ is the last convolutional layer after
# its ReLU, the layer whose neurons the other notebooks measure. $d$ is the mean squared difference *divided by the
# mean of* $\phi(x)^2$: the plain difference can be lowered by shrinking the layer's weights, which changes nothing
# about what its neurons mean.

# %% tags=["parameters"]
# what is looked at
dataset: str = "scenes"  # scenes, tiny-imagenet, imagenet, stl10, cifar10, imagenette, or a folder of classes
image_size: int = 64  # side of the images in pixels; below 128 the networks get their small-image form
classes: int = 16  # how many classes; 0 takes all
per_class: int = 75  # training images of each class; 0 takes all
architectures: list[str] = ["resnet18", "alexnet"]  # also vgg16
objectives: list[str] = ["normal", "consistent", "adversarial"]  # adversarial: consistent with beta 0
seeds: list[int] = [0]  # a claim about a training method needs several
weights: str = ""  # "imagenet" starts from torchvision's weights (1000 classes); "" from random ones
held_out: float = 0.1  # share of the training images that selects, never trains
# how it is measured
epochs: int = 5  # passes over the training images
epochs_of: dict[str, int] = {"alexnet": 12}  # exceptions by architecture: AlexNet has no batch norm and learns slower
learning_rate: float = 1.5e-3  # peak of AdamW's warm-up and cosine
weight_decay: float = 0.01  # decoupled
alpha: float = 0.5  # weight of the clean loss
beta: float = 1.0  # weight of the consistent loss; try 0.1 or 10
epsilon: float = 4 / 255  # radius of FGSM's ball, in units of the pixel range
distance: str = "normalised"  # d: normalised, raw or cosine
feature_layer: str = ""  # phi; "" is the last convolutional layer
attack_label: str = "true"  # whose loss FGSM ascends: true, predicted or least-likely
norm_statistics: str = "both"  # batch norm records both forward passes, or the clean one only
second_example: bool = False  # an image of its own for d, as in the two-maxima form
watched_images: int = 32  # training images on which PGD is checked after every epoch
timed_steps: int = 5  # rounds of the side-by-side timing
full_epochs: int = 90  # of a training on ImageNet, for what the paper's size would cost
device_price: float = 3.0  # of a device like this for an hour, in any currency, for the same
# how it runs
profile: str = "demo"  # whose results these are: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # bfloat16 where the hardware is fast at it, else float32
batch_size: int = 32  # images a step

# %% tags=["hide-input"]
import pandas as pd
import torch

from neuron_consistency.attacks.linf import fgsm, least_likely
from neuron_consistency.book.page import open_page
from neuron_consistency.consistency.figures import training_curves
from neuron_consistency.runtime import describe_device
from neuron_consistency.training import tables
from neuron_consistency.training.obtain import step_of, training_images
from neuron_consistency.training.recipes import TITLES, recipes_of
from neuron_consistency.workflow.costs import paired_seconds, training_costs
from neuron_consistency.workflow.networks import write_current

page = open_page("03_consistent_loss_training", globals())

# %% [markdown]
# ## The training
#
# A recipe holds everything that makes a network: architecture, objective, seed, images, loss and schedule. A network
# that is on disk is loaded; one that is missing is trained by `train(model, images, objective, schedule)`, which goes
# on from its last epoch where it was stopped.

# %%
recipes = recipes_of(profile, page.parameters)
trained = page.obtain(recipes)
write_current(profile, recipes, chosen=True)
images, held = training_images(recipes[0])
print(f"{len(images)} training images, {len(held)} held out, {images.num_classes} classes: {', '.join(images.classes)}")

# %% [markdown]
# ## What came of it
#
# Accuracy here is on the images held out of the training set; the validation set is kept for the
# {doc}`evaluation <04_evaluation>`. The last column counts the seconds of training alone.

# %% tags=["hide-input"]
summary = tables.summary(trained)
reached = zip(trained, summary["held-out accuracy"], strict=True)
page.say({f"held-out-{net.recipe.name}": f"{100 * share:.0f} %" for net, share in reached})
page.say(training_seconds=f"{summary['seconds'].sum():.0f}")
summary.round(3)

# %% [markdown]
# A network is worth measuring only if it has learned its task, so look at the accuracies first. In this build the
# normally trained ResNet-18 reached {glue:text}`held-out-resnet18-normal-s0`; all trainings together took
# {glue:text}`training-seconds` seconds.

# %% tags=["hide-input"]
training_curves(tables.curves(trained))

# %% [markdown]
# The third panel is the consistent loss itself, before its weight $\beta$; the fourth is the root mean square of
# $\phi(x)$. Were the consistent loss lowered by shrinking the features and nothing else, the two would fall
# together: that is why the second is logged.
#
# ## Does FGSM training hold?
#
# Training on single-step examples can *collapse*: within an epoch the network learns to hide its gradient, resists
# FGSM perfectly, and is helpless against the same attack in several steps {cite}`wong2020fast`. After every epoch the
# accuracy under FGSM and under PGD is therefore taken on a few training images. A collapse would show as a high
# first column beside a second near zero.

# %% tags=["hide-input"]
tables.watch(trained).round(3)

# %% [markdown]
# ## What a step costs
#
# An adversarial step needs the image's gradient and a second forward pass. Counting a forward pass as one unit and
# a backward pass as two, a plain step is 3 units. A step of {eq}`eq-consistent-loss` is 7 if one clean forward serves
# the attack, the loss and the feature term: 1 for it, 1 for the image's gradient, 1 for the adversarial forward, 4
# for the backward pass through both. The limit is thus $7/3 \approx 2.33$ plain steps. The steps below run in turns on
# the same batch.

# %% tags=["hide-input"]
batch, labels = images.batch(torch.arange(min(batch_size, len(images))), page.on.device)
costs = {}
for architecture in architectures:
    nets = [net for net in trained if (net.recipe.architecture, net.recipe.seed) == (architecture, seeds[0])]
    work = {net.recipe.objective: step_of(net, batch, labels) for net in nets}
    costs[architecture] = paired_seconds(work, repeats=timed_steps, device=page.on.device)
pd.concat(costs, names=["network"]).rename(TITLES, level="network").round(3)

# %% [markdown]
# The paper trains three networks on ImageNet, twice each. At the rate measured here, counted in floating-point
# operations, that would take on one device like this one and on eight (P1 does not tell how many epochs; these are
# `full_epochs`, and a network that is not trained above is given the rate of the first that is):

# %% tags=["hide-input"]
full_training = training_costs(
    pd.concat(costs)["seconds"].to_dict(), batch_size=len(batch), num_classes=images.num_classes, image_size=image_size,
    epochs=full_epochs, devices=[1, 8], price=device_price,
).assign(device=describe_device(page.on.device))  # fmt: skip
full_training = full_training.set_index(["network", "objective", "device", "devices"]).round(1)
page.say(full_training=full_training)
full_training

# %% [markdown]
# ## Which label is attacked
#
# FGSM ascends the loss of the *true* label. The perturbation then carries the label: a network trained on such
# images may learn to read it back (*label leaking*, {cite}`kurakin2017adversarial`) and score better on attacked
# images than on clean ones. Attacking the predicted label, or descending towards the least likely class, tells nothing
# of the truth. If the first column below were well above the second for an adversarially trained network, it would
# be reading labels; `attack_label` trains it on the others.

# %%
attacks = {
    "true label": lambda model, x, y: fgsm(model, x, y, epsilon=epsilon),
    "predicted label": lambda model, x, y: fgsm(model, x, model(x).argmax(1), epsilon=epsilon),
    "least likely label": lambda model, x, y: least_likely(model, x, epsilon=epsilon, step_size=epsilon),
}
tables.accuracies(trained, held, page.on, attacks).round(1)

# %% [markdown]
# Accuracies in per cent on the held-out images. The networks are now on disk, named by a key of everything that made
# them; `models/current.json` tells the next notebooks which ones to evaluate. Change `beta` above, run this notebook,
# then {doc}`04_evaluation`: the new network stands there beside the old ones.

# %% tags=["hide-input"]
page.provenance()
