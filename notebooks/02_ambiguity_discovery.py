# %% [markdown]
# # Are neurons ambiguous?
#
# Show a neuron of a trained network many images, and those that fire it most have something in common: birds, wheels,
# fur. P1 asks whether the neuron *detects* that thing {cite}`dong2019towards`. It makes adversarial images, which look
# like one class to us and are taken for another by the network, and finds among those that fire the neuron most things
# that have nothing to do with it. The neuron is called *ambiguous*, and such images its *singular points*.
#
# This page repeats the finding on a normally trained network, and then asks a question the paper does not: has the
# neuron lost its meaning, or does it faithfully follow a decision that is wrong?
#
# ## Images that look like one thing and are taken for another
#
# P1's attack looks for the nearest image that the network takes for a target class $y^*$:
#
# $$
# \operatorname*{arg\,min}_{x^*}\; \lVert x^* - x \rVert_2 + \lambda\, \ell(x^*, y^*).
# $$ (eq-targeted)
#
# Each image gets a target at random among the other classes. The nearest image found is stored in 8 bits, and success
# is counted after that.

# %% tags=["parameters"]
# what is looked at
architecture: str = "resnet18"  # which normally trained network is looked at
per_class: int = 25  # validation images of each class; 0 takes all
targeted_per_class: int = 8  # of these, so many are made into targeted adversarial images
shown_neurons: int = 4  # neurons in the picture, two rows each
shown_images: int = 6  # images in a row
# how it is measured
trade_off: float = 10.0  # lambda: how much reaching the target weighs against staying near
steps: int = 30  # steps of Adam for each image
learning_rate: float = 0.004  # of Adam, in units of the pixel range
search_steps: int = 1  # values of lambda tried for each image; 1 keeps it fixed
epsilon: float = 4 / 255  # size of FGSM and of the noise, in units of the pixel range
quantile: float = 0.005  # share of the real images that activate a neuron ...
top_k: int = 20  # ... but at least so many
sigma: float = 2.0  # how fast correlation decays with WordNet distance
# how it runs
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
batch_size: int = 200  # images a forward pass

# %% tags=["hide-input"]
from neuron_consistency.attacks.targeted import random_targets
from neuron_consistency.book.knobs import MEASURES, epsilon_tables, steps_knob, top_k_tables
from neuron_consistency.book.page import open_page
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.ambiguity import (
    FGSM,
    NOISE,
    REAL,
    accuracy_table,
    compare_sets,
    consistency_table,
    measure_with_controls,
    neuron_pairs,
    view,
)  # fmt: skip
from neuron_consistency.consistency.gallery import strongest_neurons, top_image_rows
from neuron_consistency.plotting import picture_grid
from neuron_consistency.responses import respond
from neuron_consistency.show import with_intervals
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import evaluation_images
from neuron_consistency.workflow.networks import current_models

page = open_page("02_ambiguity_discovery", globals())
recipes = current_models(profile, architectures=[architecture], objectives=["normal"])
(net,) = page.obtain(recipes[:1])
images = evaluation_images(net.recipe, per_class=per_class)
A = correlation(distance_matrix(images.synsets), sigma=sigma)
print(f"{net.title} [{net.recipe.key}], {len(images)} validation images of {images.num_classes} classes")

# %%
clean = evaluation_images(net.recipe, per_class=targeted_per_class)
targets = random_targets(clean.labels, num_classes=clean.num_classes)[:, None]
how = {"trade_off": trade_off, "steps": steps, "learning_rate": learning_rate, "search_steps": search_steps}
targeted = page.adversarial_set([net], clean, targets, stop_early=False, **how)
reached = targeted.success.all(1)
success, change = 100 * float(reached.float().mean()), 255 * float(targeted.rmsd[reached].mean())
page.say(targeted_success=f"{success:.0f} %", targeted_change=f"{change:.1f}")
print(f"{len(clean)} images: target reached for {success:.1f} %, mean change {change:.2f} of 255 (RMS)")

# %% [markdown]
# The attack reached its target for {glue:text}`targeted-success` of the images, at a root mean squared change of
# {glue:text}`targeted-change` grey levels out of 255.
#
# ## What fires the neurons
#
# A neuron's response is the spatial maximum of its channel; it is *active* on its `top_k` strongest real images
# (or the strongest half per cent, where that is more), and the threshold found there is kept for all other sets. Below,
# for some of the most consistent neurons, the strongest real images and the strongest adversarial ones. What is dark
# can be hidden without lowering the neuron's response (a discrepancy map {cite}`zhou2015object`). Under an adversarial
# image: its class to us, then what the network takes it for.

# %%
how = {"quantile": quantile, "top_k": top_k}
passes = measure_with_controls(net.model, images, page.on, epsilon=epsilon, **how)
layer, real = passes.layer, passes.sets[REAL]
fixed = {layer: real.layers[layer].thresholds}  # what counts as active is settled on the real images
adversarial = respond(net.model, targeted, page.on, thresholds=fixed, **how)

# %% tags=["hide-input"]
neurons = strongest_neurons(real, layer, A, count=shown_neurons)
sets = [("real", images, real, None), ("adversarial", targeted, adversarial, None)]
rows = top_image_rows(net.model, sets, page.on, layer=layer, neurons=neurons, correlation=A, count=shown_images)
picture_grid(rows)

# %% [markdown]
# In the real rows the images of a neuron share a class or a close relative of it. In the adversarial rows the pictures
# do not: this is the paper's Figure 3. But read the captions: what the network *takes them for* is often the neuron's
# own class.
#
# ## Neuron by neuron
#
# $\mathrm{consis}(n)$ against $\mathrm{consis}_{adv}(n)$ on the FGSM images, in the unbiased form U of
# {doc}`01_metric_definition`. Left, active images are filed under their true class, as in the paper; right, under the
# class the network gave them.

# %% tags=["hide-input"]
figures.consistency_scatter(neuron_pairs(passes, A))

# %% [markdown]
# ## The controls
#
# Each row is a set of images, filed under true and under predicted labels. *Noise* has the attack's size without its
# direction; the *misclassified* images are real, and wrong without any attack; *successful only* leaves out attacks
# that changed nothing.

# %% tags=["hide-input"]
passes.sets["targeted"] = adversarial
rows = consistency_table({net.title: passes}, A, equal_m=top_k)
figures.consistency_intervals(rows)

# %% tags=["hide-input"]
with_intervals(view(rows, "controls").droplevel("model"))

# %% [markdown]
# How many images of each neuron should one look at? Move the knob from many to few: V rises in every line, because its
# chance level does, and that says nothing about the neurons. U stays comparable.

# %% tags=["hide-input"]
sets = [(REAL, "true"), (FGSM, "true"), (FGSM, "predicted")]
page.knob(
    steps_knob(
        "k",
        top_k_tables(passes, sets, A, top_k),
        start=str(top_k),
        columns=dict.fromkeys(MEASURES, 3),
        bar="V",
        mark="V by chance",
        of="images",
        caption="V and U, means over neurons, of the k strongest images of each neuron.",
    )
)

# %% [markdown]
# ## Ambiguity, or obedience?
#
# The verdicts below are computed from the intervals. A neuron population that had become ambiguous would be less
# consistent under the *predicted* labels too, and more so than on real images that are simply misclassified.

# %% tags=["hide-input"]
answers = compare_sets(passes, A, [(FGSM, "true"), (FGSM, "predicted"), (NOISE, "true")])
fall, obeying = -answers["difference"].iloc[0], max(0.0, -answers["difference"].iloc[1])
explained = 1 - obeying / fall if fall > 0 else float("nan")
page.say(fall_true=f"{fall:.3f}", fall_explained=f"{100 * explained:.0f} %")
with_intervals(answers)

# %% [markdown]
# Under the true labels consistency falls by {glue:text}`fall-true`; of that fall, {glue:text}`fall-explained` is gone
# when the same images are filed under the label that the network gave them. That share is what obedience explains; the
# rest is the ambiguity that remains. The two rows of misclassified real images above ask the same where nobody
# attacked: if their U under the true labels is as low, being wrong is enough to lower it. Few neurons fire for so few
# images, so look at the interval and at the share excluded.

# %% [markdown]
# Turn the attack up. Accuracy falls, and U under the true labels with it. Watch the second line: as far as neurons
# follow the network's decision, U under the predicted labels does not fall.

# %% tags=["hide-input"]
epsilons = [share * epsilon for share in (0, 0.25, 0.5, 1, 2)]
page.knob(
    steps_knob(
        "epsilon",
        epsilon_tables(net.model, images, page.on, epsilons, A, **how),
        start=f"{255 * epsilon:g}/255",
        columns={"U": 3, "U by chance": 3, "accuracy, %": 1},
        bar="U",
        mark="U by chance",
        of="FGSM images by",
        caption="Mean U over neurons, and accuracy, for FGSM of five sizes; 0/255 is no attack.",
    )
)

# %% tags=["hide-input"]
accuracies = accuracy_table({net.title: passes}, {name: name for name in (REAL, FGSM, NOISE)})
with_intervals(accuracies.drop(columns="model").set_index("images"), decimals=1)

# %% tags=["hide-input"]
page.provenance()
