# %% [markdown]
# # Training with a consistent loss
#
# :::{admonition} In short
# :class: in-short
# **Question.** Can a network be trained so that an attack no longer moves what its neurons see?
#
# **Answer.** P1's loss is adversarial training that also keeps the *features* of an image in place. Where it works, an
# attack moves them less than in normal and in plain adversarial training. Whether neurons then keep their meaning is
# for {doc}`04_evaluation`.
#
# **The number that decides.** How far an attack moves the features of held-out images, as a share of their mean
# square: {glue:text}`moved-words`.
#
# **Change it yourself.** `make notebook N=03 PARAMS="beta=10.0"` lets the consistent loss weigh ten times as much.
# It ends lower, and accuracy may pay for that.
# :::
#
# ## The idea
#
# Show the network an image $x$ and an attacked image $x^*$. Ask for the right class of both, and ask that the features
# $\phi$ be alike {cite}`dong2019towards`. The last term of P1's Eq. 6 is the consistent loss:
#
# $$
# L(\theta) = \alpha\,\ell(\theta, x, y) + (1-\alpha)\,\ell(\theta, x^*, y)
#   + \beta\, d\big(\phi_\theta(x), \phi_\theta(x^*)\big).
# $$ (eq-consistent-loss)

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

# %% tags=["hide-input", "remove-output"]
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from neuron_consistency.attacks.linf import fgsm, least_likely
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
from neuron_consistency.consistency.figures import training_curves
from neuron_consistency.networks.reading import evaluating, read_layers
from neuron_consistency.runtime import describe_device
from neuron_consistency.show import in_words
from neuron_consistency.training import tables
from neuron_consistency.training.objective import Objective, feature_distance
from neuron_consistency.training.obtain import step_of, training_images
from neuron_consistency.training.recipes import TITLES, recipes_of
from neuron_consistency.workflow.costs import paired_seconds, training_costs
from neuron_consistency.workflow.networks import write_current

page = open_page("03_consistent_loss_training", globals())
recipes = recipes_of(profile, page.parameters)
trained = page.obtain(recipes)
write_current(profile, recipes, chosen=True)
images, held = training_images(recipes[0])
curves = tables.curves(trained)

# %% tags=["hide-input"]
last = curves.groupby(["measure", "model"], sort=False)["value"].last()
page.figure(
    training_curves(curves, chance={tables.CURVES["validation_accuracy"][0]: 100 / images.num_classes}),
    "curves",
    "The trainings, epoch by epoch. A colour is an objective, dashes are an architecture. Look at the third panel: the "
    "consistent loss, before its weight, is logged in adversarial training too, where nothing asks for it. The fourth "
    "is the root mean square of the features: if it fell with the third, the features would only be shrinking.",
    alt="Four panels of curves over epochs. At the end, "
    + "; ".join(f"{measure}: {in_words(values.droplevel(0))}" for measure, values in last.groupby(level=0, sort=False)),
)

# %% [markdown]
# ## In code
#
# These lines are the whole loss; the library's is the same with the choices that the parameters name.


# %%
def consistent_loss(model, layer, x, y):
    with read_layers(model, [layer]) as outputs:
        clean, phi = model(x.requires_grad_()), outputs[layer]
        (slope,) = torch.autograd.grad(cross_entropy(clean, y), x, retain_graph=True)
        attacked = (x + epsilon * slope.sign()).clamp(0, 1).detach()  # FGSM
        adversarial, phi_attacked = model(attacked), outputs[layer]
    right = alpha * cross_entropy(clean, y) + (1 - alpha) * cross_entropy(adversarial, y)
    moved = (phi_attacked - phi).square().mean() / phi.square().mean()
    return right + beta * moved


# %% [markdown]
# ## What was trained
#
# Every architecture is trained three times: normally ($\alpha = 1$, $\beta = 0$), by {eq}`eq-consistent-loss`, and by
# {eq}`eq-consistent-loss` at $\beta = 0$. The third is missing from the paper, and without it nobody can say what the
# consistent loss adds to plain adversarial training. There are {glue:text}`images` training images of
# {glue:text}`classes` classes; {glue:text}`held-out-images` more are held out. The validation set is kept for
# {doc}`04_evaluation`.
#
# The paper leaves several things open, and each is a parameter of this page. $\phi$ is the last convolutional layer
# after its ReLU, the layer whose neurons the other pages measure. $d$ is the mean squared difference *divided by the
# mean of* $\phi(x)^2$. The plain difference can be lowered by shrinking the layer's weights, which changes nothing
# about what its neurons mean.
#
# A network that is on disk is loaded. One that is missing is trained, and goes on from its last epoch where it was
# stopped. All trainings together took {glue:text}`training-seconds` seconds.

# %% tags=["hide-input"]
summary = tables.summary(trained)
page.say(images=len(images), classes=images.num_classes, held_out_images=len(held))
page.say(training_seconds=f"{summary['seconds'].sum():.0f}")
reached = summary.drop(columns=["device", "precision"]).set_index(["network", "seed"])
reached["held-out accuracy"] *= 100
page.table(
    reached,
    "trainings",
    "What the trainings came to: accuracy on the images held out of training (per cent), the loss of the last epoch "
    "(nats; the three objectives add up different things) and the seconds of training alone. A network is worth "
    "measuring only if it has learned its task.",
    decimals=2,
)

# %% [markdown]
# ## What we see
#
# The consistent loss is meant to keep features in place. Does it, on images that the network was not trained on? For
# each network, $d$ between held-out images and their own FGSM images, in two forms: as it is trained with, and by the
# angle between the two features, which no shrinking can change.

# %% tags=["hide-input"]
moved = tables.moved(trained, held, page.on, epsilon=epsilon, count=8 * batch_size)
first = moved[moved["seed"] == seeds[0]].set_index("network")["normalised"]
page.say(moved_words=in_words(first[first.index.str.startswith(TITLES[architectures[0]])], decimals=3))
page.table(
    moved.set_index(["network", "seed"]),
    "moved",
    "How far FGSM moves the features of held-out images. Normalised: mean squared change, as a share of the features' "
    "mean square; cosine: one minus the cosine between the features before and after (no unit). Compare the consistent "
    "network with the adversarial one: what differs there is what the consistent loss adds.",
)

# %% [markdown]
# ## What to doubt
#
# ### Does FGSM training hold?
#
# Training on single-step examples can *collapse*: within an epoch the network learns to hide its gradient, resists
# FGSM perfectly, and is helpless against the same attack in several steps {cite}`wong2020fast`. After every epoch the
# accuracy under FGSM and under PGD is therefore taken on a few training images.

# %% tags=["hide-input"]
watched = tables.watch(trained).set_index(["network", "seed"])
watched[["FGSM accuracy", "PGD accuracy"]] *= 100
page.table(
    watched,
    "collapse",
    f"Accuracy (per cent) on {watched_images} training images after the last epoch. A collapse would show as a high "
    "first column beside a second near zero.",
    decimals=1,
)

# %% [markdown]
# ### Which label is attacked?
#
# FGSM ascends the loss of the *true* label. The perturbation then carries the label: a network trained on such
# images may learn to read it back (*label leaking*, {cite}`kurakin2017adversarial`) and score better on attacked
# images than on clean ones. Attacking the predicted label, or descending towards the least likely class, tells nothing
# of the truth. `attack_label` trains a network on the others.

# %% tags=["hide-input"]
attacks = {
    "true label": lambda model, x, y: fgsm(model, x, y, epsilon=epsilon),
    "predicted label": lambda model, x, y: fgsm(model, x, model(x).argmax(1), epsilon=epsilon),
    "least likely label": lambda model, x, y: least_likely(model, x, epsilon=epsilon, step_size=epsilon),
}
page.table(
    tables.accuracies(trained, held, page.on, attacks).set_index(["network", "seed"]),
    "labels",
    "Accuracy on the held-out images (per cent), clean and under FGSM by three labels. If the column of the true label "
    "stood well above the clean one, the network would be reading labels.",
    decimals=1,
)

# %% [markdown]
# ### Two maxima or one?
#
# P1 starts from two inner maximisations, its Eq. 5,
#
# $$
# \min_\theta\; \mathbb{E}_{(x,y)}\Big[\max_{x^*\in S(x)} \ell(\theta, x^*, y)
#   + \max_{x'\in S(x)} d\big(\phi_\theta(x), \phi_\theta(x')\big)\Big],
# $$ (eq-two-maxima)
#
# and relaxes them to one adversarial image, made by a single signed-gradient step (FGSM)
# {cite}`goodfellow2015explaining` and used in both terms. That image is the worst for the class, and not for the
# features: other images in the same ball may move them further. `second_example` gives $d$ an image of its own;
# {doc}`11_open_choices` says what it changes.
#
# ## What a step costs
#
# An adversarial step needs the image's gradient and a second forward pass. Counting a forward pass as one unit and
# a backward pass as two, a plain step is 3 units. A step of {eq}`eq-consistent-loss` is 7 if one clean forward serves
# the attack, the loss and the feature term: 1 for it, 1 for the image's gradient, 1 for the adversarial forward, 4
# for the backward pass through both. The limit is thus $7/3 \approx 2.33$ plain steps.

# %% tags=["hide-input"]
batch, labels = images.batch(torch.arange(min(batch_size, len(images))), page.on.device)
costs = {}
for architecture in architectures:
    nets = [net for net in trained if (net.recipe.architecture, net.recipe.seed) == (architecture, seeds[0])]
    work = {net.recipe.objective: step_of(net, batch, labels) for net in nets}
    costs[architecture] = paired_seconds(work, repeats=timed_steps, device=page.on.device)
page.table(
    pd.concat(costs, names=["network", "objective"]).rename(TITLES, level="network"),
    "steps",
    f"Seconds of a training step on {len(batch)} images, and how many steps of the first objective it takes: the "
    f"median of {timed_steps} rounds in turns on the same batch, with its quartiles.",
)

# %% [markdown]
# The paper trains three networks on ImageNet, twice each. P1 does not tell for how many epochs, so `full_epochs` are
# assumed. This is what it would take at the rate measured here, counted in floating-point operations, on one device
# like this one and on eight. A network that is not trained above is given the rate of the first that is.

# %% tags=["hide-input"]
full_training = training_costs(
    pd.concat(costs)["seconds"].to_dict(), batch_size=len(batch), num_classes=images.num_classes, image_size=image_size,
    epochs=full_epochs, devices=[1, 8], price=device_price,
).assign(device=describe_device(page.on.device))  # fmt: skip
full_training = full_training.set_index(["network", "objective", "device", "devices"]).round(1)
page.say(full_training=full_training)
page.table(
    full_training.rename(TITLES, level="network").replace(TITLES),
    "imagenet",
    f"The paper's trainings on ImageNet, {full_epochs} epochs each: rate of one device (10^9 operations a second), "
    f"images a second of all devices, hours, and cost at {device_price:g} an hour and device.",
    decimals=1,
)

# %% [markdown]
# ## Summary
#
# - P1's Eq. 6 is adversarial training with one term more, which keeps the features of an attacked image near those of
#   the clean one, {eq}`eq-consistent-loss`.
# - Only the network trained at $\beta = 0$ tells what that term adds: adversarial training alone keeps features in
#   place, too.
# - Divide the distance by the size of the features, or it can be lowered by shrinking them.
# - Single-step training can collapse and can leak labels, so both are watched.
# - A step costs at most 7/3 plain steps where one clean pass serves three purposes.
#
# The networks are now on disk, named by a key of everything that made them, and the next pages evaluate them. Change
# `beta`, run this notebook, then {doc}`04_evaluation`: the new network stands there beside the old ones.
#
# ## Try this

# %% tags=["hide-input"]
try_this("03_consistent_loss_training")

# %% [markdown]
# ## Exercises
#
# **1.** Does `consistent_loss` of this page compute what the library trains with? Which of this page's
# parameters would make the two differ?

# %% tags=["remove-input"]
net = trained[0]
places = torch.linspace(0, len(held) - 1, min(batch_size, len(held))).long()
shown, named = held.batch(places, page.on.device)
with evaluating(net.model):
    by_hand = consistent_loss(net.model, net.model.last_layer, shown.clone(), named).item()
    by_library = Objective(alpha=alpha, beta=beta, epsilon=epsilon)(net.model, shown, named).loss.item()
page.say(by_hand=f"{by_hand:.4f}", by_library=f"{by_library:.4f}", exercised=net.title)

# %% [markdown]
# :::{dropdown} Answer
# For {glue:text}`exercised` and one batch of held-out images the lines give {glue:text}`by-hand`, and the library gives
# {glue:text}`by-library`. They would differ with another `distance`, `feature_layer` or `attack_label`, and with
# `second_example`; in training also by `norm_statistics`, which decides what batch norm remembers of the second pass.
# :::
#
# **2.** Halve all features of an image and of its attacked image. What becomes of the plain mean squared difference, of
# $d$ and of one minus the cosine? What would a network learn from each?

# %% tags=["remove-input"]
with evaluating(net.model), read_layers(net.model, [net.model.last_layer]) as outputs:
    pair = []
    for seen in (shown, fgsm(net.model, shown, named, epsilon=epsilon)):
        net.model(seen)
        pair.append(outputs[net.model.last_layer].detach())
for name in ("raw", "normalised", "cosine"):
    whole, half = (feature_distance(*(times * one for one in pair), distance=name).item() for times in (1, 0.5))
    page.say({f"{name}-whole": f"{whole:.4g}", f"{name}-half": f"{half:.4g}"})

# %% [markdown]
# :::{dropdown} Answer
# The plain difference falls to a quarter, from {glue:text}`raw-whole` to {glue:text}`raw-half`. The other two stay:
# $d$ is {glue:text}`normalised-whole` and {glue:text}`normalised-half`, one minus the cosine
# {glue:text}`cosine-whole` and {glue:text}`cosine-half`. With the plain difference a network can please the loss by
# shrinking its features and learn nothing.
# :::
#
# **3.** FGSM moves each value of an image by at most $\epsilon$. Is it the direction that does the harm, or the size?
# Compare the loss of a network on a batch, on its FGSM images, and on images with random signs of the same size.

# %% tags=["remove-input"]
with evaluating(net.model), torch.no_grad():
    signs = torch.randn(shown.shape, generator=torch.Generator().manual_seed(0)).sign().to(shown)
    noisy = (shown + epsilon * signs).clamp(0, 1)
    with torch.enable_grad():
        attacked = fgsm(net.model, shown, named, epsilon=epsilon)
    for name, seen in {"clean": shown, "noise": noisy, "attacked": attacked}.items():
        page.say({f"loss-{name}": f"{cross_entropy(net.model(seen).float(), named).item():.3f}"})

# %% [markdown]
# :::{dropdown} Answer
# The loss of {glue:text}`exercised` is {glue:text}`loss-clean` on the images, {glue:text}`loss-noise` with random signs
# and {glue:text}`loss-attacked` on FGSM images. What FGSM adds beyond the random signs is the work of the direction.
# :::

# %% tags=["hide-input"]
page.table(
    page.provenance().set_index("network"),
    "networks",
    "The networks of this page: their data, seed, commits and machine.",
)
