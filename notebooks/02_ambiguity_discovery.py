# %% [markdown]
# # Are neurons ambiguous?
#
# :::{admonition} In short
# :class: in-short
# **Question.** An attack changes which images fire a neuron. Has the neuron become {term}`ambiguous`, or does it follow
# a decision of the network that is wrong?
#
# **Answer.** Sort the attacked images that fire a neuron by what they show: in the network of this page, the neurons'
# consistency U {glue:text}`true-goes`. Sort the same images by what the network takes them for: U
# {glue:text}`predicted-goes`. The ledger says of the kept studies, on photographs:
# <a href="14_claims.html#claim-less-consistent-under-attack">U falls under the true labels</a>:
# {glue:text}`ledger-less`; <a href="14_claims.html#claim-ambiguous-not-obedient">it falls under the predicted labels
# too</a>: {glue:text}`ledger-ambiguous`.
#
# **The number that decides.** U on FGSM images less U on real images, both under the predicted labels:
# {glue:text}`predicted-difference`, held against 0. Neurons that have become ambiguous have it below 0. Chance for U is
# {glue:text}`level`.
#
# **Change it yourself.** `make notebook N=02 PARAMS="quantile=0.25"` lets a quarter of the images fire each neuron
# ({ref}`change-a-parameter`): the number of images a neuron, m, grows, and V by chance falls.
# :::
#
# The images that fire a neuron most have something in common: birds, wheels, fur. Among {term}`adversarial images
# <adversarial image>`, which look like one class to us and are taken for another by the network, P1 finds neurons that
# fire for many things that have little in common {cite}`dong2019towards`. It calls the neuron *ambiguous*, and such
# images its *singular points*. The left half of the picture repeats this; the right half asks what the paper does not.

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

# %% tags=["hide-input", "remove-output"]
import torch

from neuron_consistency.attacks.targeted import random_targets
from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.knobs import MEASURES, epsilon_tables, steps_knob, top_k_tables
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
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
from neuron_consistency.consistency.measure import chance, unbiased_consistency
from neuron_consistency.plotting import picture_grid
from neuron_consistency.responses import respond
from neuron_consistency.show import in_words, interval_text, number_text
from neuron_consistency.statistics import OPEN
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import evaluation_images
from neuron_consistency.workflow.networks import current_models

page = open_page("02_ambiguity_discovery", globals())
recipes = current_models(profile, architectures=[architecture], objectives=["normal"])
(net,) = page.obtain(recipes[:1])
images = evaluation_images(net.recipe, per_class=per_class)
A = correlation(distance_matrix(images.synsets), sigma=sigma)
how = {"quantile": quantile, "top_k": top_k}
passes = measure_with_controls(net.model, images, page.on, epsilon=epsilon, **how)

# %% tags=["hide-input"]
pairs = neuron_pairs(passes, A)
level = chance(images.labels, A).unbiased
page.say(network=net.title, images=len(images), classes=images.num_classes, level=number_text(level, 3))
page.figure(
    figures.consistency_scatter(pairs),
    "neurons",
    f"U of every neuron of the last layer of {net.title}: on real images (across) and on the same images attacked by "
    "FGSM (up). On the left, images stand under their true class, as in P1; on the right, under the class that the "
    "network gives them. Dots below the diagonal are neurons that the attack makes less consistent. Neurons that only "
    "follow the wrong decision fall on the left and come back to the diagonal on the right.",
    alt="Two clouds of dots with a diagonal and lines of chance. Mean U over neurons: "
    + in_words(pairs.groupby("labels", sort=False)[["real", "adversarial"]].mean().stack())
    + f". Chance is {level:.2f}.",
)

# %% [markdown]
# The network is {glue:text}`network`, and it sees {glue:text}`images` validation images of {glue:text}`classes`
# classes. $\mathrm{consis}(n)$ and $\mathrm{consis}_{adv}(n)$ of P1 stand here in the unbiased form U of
# {doc}`01_metric_definition`.
#
# ## What counts as firing
#
# A neuron's response to an image is the largest value of its channel. The neuron is *active* on the share `quantile` of
# the real images to which it responds most strongly, or on `top_k` images if that is more. The response of the last of
# these is the neuron's threshold. It is settled on the real images and kept for every other set, so an attack may
# make more images fire a neuron, or fewer.
#
# ## Images that look like one thing and are taken for another
#
# FGSM moves an image away from its class, and the network may take it for anything. P1's pictures come from a
# {term}`targeted` attack. It looks for the nearest image that the network takes for a class $y^*$ chosen before, by
# P1's Eq. 4:
#
# $$
# \operatorname*{arg\,min}_{x^*}\; \lVert x^* - x \rVert_2 + \lambda\, \ell(x^*, y^*).
# $$ (eq-targeted)
#
# The first term keeps the image near to the real one. The second, with weight $\lambda$, pulls it to the target. Here
# each image gets a target at random among the other classes, and Adam takes {glue:text}`steps` steps. The nearest image
# found is stored in 8 bits, and success is counted after that.

# %% tags=["remove-output"]
clean = evaluation_images(net.recipe, per_class=targeted_per_class)
targets = random_targets(clean.labels, num_classes=clean.num_classes)[:, None]
adam = {"trade_off": trade_off, "steps": steps, "learning_rate": learning_rate, "search_steps": search_steps}
targeted = page.adversarial_set([net], clean, targets, stop_early=False, **adam)

# %% tags=["remove-input"]
reached = targeted.success.all(1)
change = 255 * float(targeted.rmsd[reached].mean())
page.say(targeted_success=f"{100 * float(reached.float().mean()):.0f} %", targeted_change=number_text(change, 1))
page.say(targeted_images=len(clean), steps=steps)

# %% [markdown]
# The attack reached its target for {glue:text}`targeted-success` of {glue:text}`targeted-images` images. These differ
# from the real ones by {glue:text}`targeted-change` grey levels out of 255 (root mean square).
#
# ## What fires the neurons
#
# The targeted images go through the network with the thresholds of the real ones:

# %%
layer, real = passes.layer, passes.sets[REAL]
fixed = {layer: real.layers[layer].thresholds}
adversarial = respond(net.model, targeted, page.on, thresholds=fixed, **how)

# %% tags=["hide-input"]
neurons = strongest_neurons(real, layer, A, count=shown_neurons)
sets = [("real", images, real, None), ("adversarial", targeted, adversarial, None)]
pictures = top_image_rows(net.model, sets, page.on, layer=layer, neurons=neurons, correlation=A, count=shown_images)
page.figure(
    picture_grid(pictures),
    "top-images",
    "What fires some of the most consistent neurons (P1's Figure 3): two rows a neuron, its strongest real images and "
    "its strongest adversarial ones. Bright is what the response needs: hiding the dark parts does not lower it. Below "
    "an image stands its class, and then the class that the network takes it for, where that is another. Compare the "
    "first class of the adversarial images with the real row, and then the second.",
    alt="Rows of small pictures. "
    + " ".join(
        f"{title.replace(chr(10), ' ')}: {', '.join(' '.join(each.caption.split()) for each in row)}."
        for title, row in pictures.rows
    ),
)

# %% [markdown]
# The dark parts come from a discrepancy map {cite}`zhou2015object`: a patch is hidden, and the response measured again.
# Where the classes of a real row are one class or its relatives, and those of the adversarial row are not, we see what
# P1 saw. But the pictures alone cannot say which of the two labels the neuron goes by. For that we count.
#
# ## The controls
#
# Other sets of images stand beside the real and the FGSM images. *Sign noise* has the attack's size without its
# direction. *Misclassified* images are real, and wrong without any attack. *Successful only* leaves out attacks that
# changed nothing, and *targeted* are the images of the picture above.

# %% tags=["hide-input"]
passes.sets["targeted"] = adversarial
rows = consistency_table({net.title: passes}, A, equal_m=top_k)
by_labels = {kind: part.set_index("set")["U"] for kind, part in rows.groupby("labels")}
page.figure(
    figures.consistency_intervals(rows),
    "controls",
    "Mean U of the last layer's neurons, a line a set of images, with 95 % intervals over images. Dots file images "
    "under their true labels, squares under those that the network gave them; grey strokes are chance. Look first at "
    "the line of FGSM: are both low, or the dot alone? Then see whether misclassified images look the same.",
    alt="Dots and squares with intervals on an axis of U. "
    f"Under true labels, {in_words(by_labels['true'])}. Under predicted labels, {in_words(by_labels['predicted'])}.",
)

# %% [markdown]
# The numbers of the figure, with V and the number m of active images a neuron, are in the folded table:

# %% tags=["hide-cell"]
page.table(
    view(rows, "controls").droplevel("model"),
    "controls",
    "Every set of images under true and predicted labels. V, U: from 0 to 1; U top takes each neuron's strongest "
    "images of the set, equally many in all sets; m: active images a neuron; excluded: share of the neurons that fewer "
    "than two images activate.",
)

# %% [markdown]
# ## Ambiguity, or obedience?
#
# If neurons have become ambiguous, attacked images are less consistent than real ones under the *predicted* labels
# too. If neurons obey, they are less consistent under the true labels alone. The library takes both differences from
# the same replicates, so that what moves both sets of images together drops out of the interval:

# %%
answers = compare_sets(passes, A, [(FGSM, "true"), (FGSM, "predicted"), (NOISE, "true")])

# %% tags=["remove-input"]
goes = {"higher": "rises", "lower": "falls", OPEN: "neither falls nor rises for sure"}
differences = [interval_text(*row, decimals=3) for row in answers[["difference", "low", "high"]].to_numpy(float)]
fall, obeying = -answers["difference"].iloc[0], max(0.0, -answers["difference"].iloc[1])
gone = f"{100 * max(0.0, 1 - obeying / fall):.0f} % of that fall is gone" if fall > 0 else "there is no fall to explain"
told = dict(zip(("true", "predicted", "noise"), zip(differences, answers["U is"].map(goes), strict=True), strict=True))
page.say({f"{name}-difference": difference for name, (difference, _) in told.items()}, fall_gone=gone)
page.say({f"{name}-goes": verb for name, (_, verb) in told.items()})
claims = Found(Kept.read()).numbers
for name, claim in {"less": "less-consistent-under-attack", "ambiguous": "ambiguous-not-obedient"}.items():
    page.say({f"ledger-{name}": f"{claims[claim].row['verdict']}, {claims[claim].bare}"})

# %% tags=["hide-input"]
page.table(
    answers,
    "answers",
    "U on attacked images, U on the real images under the same kind of label, and the first less the second, with its "
    "95 % interval over images. The first line is what P1 sees. The second tells ambiguity from obedience. The third "
    "is noise of the attack's size.",
)

# %% [markdown]
# Under the true labels U {glue:text}`true-goes`: the difference is {glue:text}`true-difference`. When the same images
# are filed under the label that the network gave them, {glue:text}`fall-gone`. Obedience explains that share. What
# remains may be ambiguity: U under the predicted labels {glue:text}`predicted-goes`: the difference is
# {glue:text}`predicted-difference`.
#
# **Turn the attack up.** As the attack grows, see whether accuracy falls, and U under the true labels with it. As far
# as neurons follow the network's decision, U under the predicted labels does not.

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
page.table(
    accuracies.drop(columns="model").set_index("images"),
    "accuracy",
    f"Accuracy of {net.title} in per cent, with 95 % intervals over images. Noise of the attack's size shows how much "
    "of the loss is the attack's direction.",
    decimals=1,
)

# %% [markdown]
# ## What to doubt
#
# **Is it the attack, or being wrong?** The misclassified images ask the same question where nobody attacked. If their U
# under the true labels is as low as under FGSM, being wrong is enough to lower it. Few images are misclassified, and
# many neurons fire for fewer than two of them: look at the interval, and at the share excluded.
#
# **How many images a neuron?** Move the knob from many images to few. V rises in every line, because its chance level
# does, and that says nothing about the neurons. U stays comparable.

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
# **Predicted labels favour consistency.** The network computes its decision from these neurons. Images that it puts
# into one class are alike to its neurons, so U under the predicted labels is high by the way it is made, also on real
# images. This is why attacked images are held against real ones under the same kind of label, and not against chance.
#
# **One network.** The intervals say how far other images could have moved the numbers. Another seed or another
# architecture may give another answer: {doc}`04_evaluation` takes several, and {doc}`09_results_p1` the photographs.
#
# ## Summary
#
# - P1 shows neurons adversarial images, sorts them by what they show, and calls a neuron ambiguous if they have little
#   to do with one another. Here U then {glue:text}`true-goes`.
# - The same images, sorted by what the network takes them for, tell whether the neuron has lost its meaning or follows
#   a wrong decision. Here U then {glue:text}`predicted-goes`.
# - Noise of the same size, ordinary mistakes and an equal number of images each put another explanation to the test.
#   Under noise, U {glue:text}`noise-goes`.
# - A neuron that obeys still misleads whoever explains the *image* by it: it says *dog* where there is none.
#
# ## Try this

# %% tags=["hide-input"]
try_this("02_ambiguity_discovery")

# %% [markdown]
# ## Exercises
#
# **1.** A neuron fires for ten images: four {glue:text}`ten-kept` images, and six {glue:text}`ten-other` images that
# the network takes for {glue:text}`ten-kept`. What is U under the predicted labels, and what under the true ones? The
# two classes have correlation $a$ = {glue:text}`ten-a`.

# %% tags=["remove-input"]
ten = torch.zeros(len(A), dtype=torch.int64)
other = int(A[0].topk(2).indices[1])  # the nearest relative of the first class
ten[0], ten[other] = 4, 6
page.say(ten_kept=images.classes[0], ten_other=images.classes[other], ten_a=f"{float(A[0, other]):.3f}")
page.say(ten_u=f"{float(unbiased_consistency(ten, A)):.3f}")

# %% [markdown]
# :::{dropdown} Answer
# Under the predicted labels all ten images are of one class, so U is 1. Under the true labels, of the 45 pairs
# of different images 6 + 15 = 21 are of one class, and 24 are mixed: $U = (21 + 24\,a)/45$ = {glue:text}`ten-u`. The
# neuron obeys the network without fail, and a reader of the true labels would call it ambiguous.
# :::
#
# **2.** Suppose every set of images had its own thresholds, so that each neuron fires for equally many images in all
# of them. Which column of the folded table would become the same in all lines? What would be lost?

# %% tags=["remove-input"]
active, words = rows[rows["labels"] == "true"].set_index("set"), {"real": REAL, "fgsm": FGSM, "noise": NOISE}
page.say({f"m-{word}": number_text(active["m"][name], 1) for word, name in words.items()})
page.say({f"v-chance-{word}": number_text(active["V chance"][name], 3) for word, name in words.items()})

# %% [markdown]
# :::{dropdown} Answer
# The column m, and with it, nearly, the chance level of V. Now m is {glue:text}`m-real` on real images,
# {glue:text}`m-fgsm` under FGSM and {glue:text}`m-noise` under noise. V by chance is {glue:text}`v-chance-real`,
# {glue:text}`v-chance-fgsm` and {glue:text}`v-chance-noise`. With equal numbers V could be compared, and *U top* does
# that for U. But we could no longer see that an attack silences neurons, or makes them fire for more: a silenced neuron
# would be given images that do not fire it.
# :::
#
# **3.** Which line of the table of answers shows whether the *size* of the change is enough? What would you conclude if
# noise lowered U as much as FGSM does?

# %% [markdown]
# :::{dropdown} Answer
# The line of the noise. U under the true labels {glue:text}`noise-goes` there: the difference is
# {glue:text}`noise-difference`, against {glue:text}`true-difference` under FGSM. If both fell alike, neurons would
# suffer from any small change, and nothing would follow about attacks, or about the decision that an attack aims at.
# :::
