# %% [markdown]
# # Training with a consistent loss
#
# The cure that P1 proposes for ambiguous neurons is adversarial training that also keeps the *features* of an image
# where they are when the image is attacked {cite}`dong2019towards`. It starts from two inner maximisations,
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
profile: str = "demo"  # whose results these are: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
dataset: str = "scenes"  # scenes, tiny-imagenet, imagenet, stl10, cifar10, imagenette, or a folder of classes
image_size: int = 64  # side of the images in pixels; below 128 the networks get their small-image form
classes: int = 16  # how many classes; 0 takes all
per_class: int = 75  # training images of each class; 0 takes all
architectures: list[str] = ["resnet18", "alexnet"]  # also vgg16
objectives: list[str] = ["normal", "consistent", "adversarial"]  # adversarial: consistent with beta 0
seeds: list[int] = [0]  # a claim about a training method needs several
weights: str = ""  # "imagenet" starts from torchvision's weights (1000 classes); "" from random ones
epochs: int = 5  # passes over the training images
epochs_of: dict[str, int] = {"alexnet": 12}  # exceptions by architecture: AlexNet has no batch norm and learns slower
batch_size: int = 32  # images a step
learning_rate: float = 1.5e-3  # peak of AdamW's warm-up and cosine
weight_decay: float = 0.01  # decoupled
precision: str = "auto"  # bfloat16 where the hardware is fast at it, else float32
held_out: float = 0.1  # share of the training images that selects, never trains
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

# %%
from neuron_consistency.workflow.parameters import check

parameters = check(globals())

# %%
import pandas as pd
import torch
from myst_nb import glue

from neuron_consistency.attacks.linf import fgsm, least_likely
from neuron_consistency.attacks.predictions import accuracy_row
from neuron_consistency.consistency import figures
from neuron_consistency.responses import respond
from neuron_consistency.runtime import describe_device, resolve_device
from neuron_consistency.training.obtain import obtain, step_of, training_images
from neuron_consistency.training.recipes import TITLES, recipes_of
from neuron_consistency.workflow.costs import paired_seconds, training_costs
from neuron_consistency.workflow.networks import write_current
from neuron_consistency.workflow.results import provenance
from neuron_consistency.workflow.stamps import stamp_outputs

stamp_outputs("03_consistent_loss_training", parameters, globals())
where = resolve_device(device)
recipes = recipes_of(profile, parameters)
trained = [obtain(recipe, device=device) for recipe in recipes]
write_current(profile, recipes, chosen=True)
images, held = training_images(recipes[0])
print(f"{len(images)} training images, {len(held)} held out, {images.num_classes} classes: {', '.join(images.classes)}")

# %% [markdown]
# ## What came of it
#
# Accuracy here is on the images held out of the training set; the validation set is kept for the
# {doc}`evaluation <04_evaluation>`. The last column counts the seconds of training alone.

# %%
summary = pd.DataFrame(
    {
        "network": net.title,
        "seed": net.recipe.spec["seed"],
        "epochs": len(net.record["history"]),
        "held-out accuracy": net.record["history"][-1]["validation_accuracy"],
        "final loss": net.record["history"][-1]["loss"],
        "device": net.record["device"],
        "precision": net.record["precision"],
        "seconds": net.record["seconds"],
    }
    for net in trained
)
for net in trained:
    glue(f"held-out-{net.recipe.name}", f"{100 * net.record['history'][-1]['validation_accuracy']:.0f} %", display=False)
glue("training-seconds", f"{summary['seconds'].sum():.0f}", display=False)
summary.round(3)

# %% [markdown]
# A network is worth measuring only if it has learned its task, so look at the accuracies first. In this build the
# normally trained ResNet-18 reached {glue:text}`held-out-resnet18-normal-s0`; all trainings together took
# {glue:text}`training-seconds` seconds.

# %%
columns = {
    "loss": "loss",
    "validation_accuracy": "held-out accuracy",
    "distance": "d(phi(x), phi(x*))",
    "feature_norm": "size of phi(x)",
}
curves = pd.DataFrame(
    {"model": f"{net.title}, seed {net.recipe.spec['seed']}", "epoch": row["epoch"], "measure": title, "value": row[name]}
    for net in trained
    for row in net.record["history"]
    for name, title in columns.items()
    if name in row
)
figures.training_curves(curves)

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

# %%
watched = pd.DataFrame(
    {
        "network": net.title,
        "seed": net.recipe.spec["seed"],
        "FGSM accuracy": net.record["history"][-1]["fgsm_accuracy"],
        "PGD accuracy": net.record["history"][-1]["pgd_accuracy"],
        "collapsed in epochs": [row["epoch"] for row in net.record["history"] if row["collapsed"]] or "none",
    }
    for net in trained
    if "pgd_accuracy" in net.record["history"][-1]
)
watched.round(3)

# %% [markdown]
# ## What a step costs
#
# An adversarial step needs the image's gradient and a second forward pass. Counting a forward pass as one unit and
# a backward pass as two, a plain step is 3 units. A step of {eq}`eq-consistent-loss` is 7 if one clean forward serves
# the attack, the loss and the feature term: 1 for it, 1 for the image's gradient, 1 for the adversarial forward, 4
# for the backward pass through both. The limit is thus $7/3 \approx 2.33$ plain steps. The steps below run in turns on
# the same batch.

# %%
batch, labels = images.batch(torch.arange(min(batch_size, len(images))), where)
costs = {}
for architecture in architectures:
    nets = [
        net for net in trained if net.recipe.spec["architecture"] == architecture and net.recipe.spec["seed"] == seeds[0]
    ]
    work = {net.recipe.spec["objective"]: step_of(net, batch, labels) for net in nets}
    costs[TITLES[architecture]] = paired_seconds(work, repeats=timed_steps, device=where)
cost = pd.concat(costs, names=["network"])
cost.round(3)

# %% [markdown]
# The paper trains three networks on ImageNet, twice each. At the rate measured here, counted in floating-point
# operations, that would take on one device like this one and on eight (P1 does not tell how many epochs; these are
# `full_epochs`, and a network that is not trained above is given the rate of the first that is):

# %%
full_training = training_costs(
    {
        (architecture, objective): table.loc[objective, "seconds"]
        for architecture, table in zip(architectures, costs.values(), strict=True)
        for objective in table.index
    },
    batch_size=len(batch),
    num_classes=images.num_classes,
    image_size=image_size,
    epochs=full_epochs,
    devices=[1, 8],
    price=device_price,
)
full_training["device"] = describe_device(where)
full_training = full_training.set_index(["network", "objective", "device", "devices"]).round(1)
glue("full-training", full_training, display=False)
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
leaking = pd.DataFrame(
    {
        "network": net.title,
        "seed": net.recipe.spec["seed"],
        "clean": net.record["history"][-1]["validation_accuracy"] * 100,
    }
    | {
        name: accuracy_row(respond(net.model, held, device=where, attack=attack).predictions, held.labels)["accuracy"]
        for name, attack in attacks.items()
    }
    for net in trained
)
leaking.round(1)

# %% [markdown]
# Accuracies in per cent on the held-out images. The networks are now on disk, named by a key of everything that made
# them; `models/current.json` tells the next notebooks which ones to evaluate. Change `beta` above, run this notebook,
# then {doc}`04_evaluation`: the new network stands there beside the old ones.

# %%
provenance(profile, trained)
