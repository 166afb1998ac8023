# %% [markdown]
# # Choices that P1 leaves open
#
# :::{admonition} In short
# :class: in-short
# **Question.** P1 gives one value of each choice in its loss, or none. Do other values change what is found?
#
# **Answer.** On this page {glue:text}`told` of {glue:text}`asked` differences from P1's loss as in chapter 3 have an
# interval that leaves out zero, where by chance {glue:text}`by-chance` would. In the kept study on photographs, which
# tries more choices, it is {glue:text}`kept-told` of {glue:text}`kept-asked` (<a
# href="09_results_p1.html#fig-choice-differences">the figure</a>). Over all studies, that the consistent loss adds to
# adversarial training {glue:text}`ledger-adds` (<a href="14_claims.html#claim-consistent-loss-adds">the ledger</a>).
#
# **The number that decides.** U under FGSM without the consistent loss, less U with it: here {glue:text}`without`, held
# against 0. Without the loss, U is {glue:text}`without-words`.
#
# **Change it yourself.** `make notebook N=11 PARAMS="beta=[10.0]"` ({ref}`change-a-parameter`) trains one more network,
# in which the consistent loss weighs ten times as much, and shows it beside the others.
# :::
#
# P1's consistent loss {cite}`dong2019towards` has a weight, a radius, a distance, a layer whose features it holds in
# place, and a label that its attack ascends. Change one of them, train again, and hold the new network against the old
# one on the same images. The figure shows what comes of it.

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
architecture: str = "alexnet"  # of all networks here
seeds: list[int] = [0]  # of each choice
beta: list[float] = []  # other weights of the consistent loss; try [0.1, 10.0]
radius: list[float] = []  # other sizes of FGSM in training, in units of the pixel range
distance: list[str] = []  # other distances d: normalised, raw, cosine
feature_layer: list[str] = []  # other layers phi, such as layer3 of ResNet-18
attack_label: list[str] = []  # other labels that the attack ascends: true, predicted, least-likely
norm_statistics: list[str] = []  # other ways with batch norm: both, clean
second_example: bool = False  # whether P1's Eq. 5's own example for d is tried
quantiles: list[float] = [0.01, 0.03, 0.1]  # shares of the real images that activate a neuron
per_class: int = 20  # validation images of each class; 0 takes all
strong_images: int = 32  # images for the strong attack
# how it is measured
epsilon: float = 4 / 255  # size of FGSM and PGD in the measures, in units of the pixel range
quantile: float = 0.005  # share of the real images that activate a neuron ...
top_k: int = 20  # ... but at least so many
sigma: float = 2.0  # how fast correlation decays with WordNet distance
pgd_steps: int = 5  # steps of PGD in the comparison
strong_steps: int = 10  # its steps ...
restarts: int = 3  # ... and random starts
auto_attack: bool = False  # AutoAttack on the same images, too: minutes to hours a network on a processor
auto_attack_queries: int = 5000  # of its last part, Square, at most; as published
# how it runs
profile: str = "demo"  # whose training parameters and artifacts: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
batch_size: int = 200  # images a forward pass
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %% tags=["hide-input", "remove-output"]
import pandas as pd
import torch

from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.ambiguity import FGSM, measure_with_controls
from neuron_consistency.consistency.choices import choice_table, strong_attacks, threshold_sweep
from neuron_consistency.show import in_words, interval_text, with_intervals
from neuron_consistency.statistics import OPEN
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import evaluation_images
from neuron_consistency.workflow.networks import BASE, NORMAL, WITHOUT, choice_recipes

page = open_page("11_open_choices", globals(), "choices", "consistency")
changes = {"beta": beta, "epsilon": radius, "distance": distance, "feature_layer": feature_layer}
changes |= {"attack_label": attack_label, "norm_statistics": norm_statistics}
changes["second_example"] = [True] if second_example else []
recipes = choice_recipes(profile, changes, architecture=architecture, seeds=seeds)
nets = {choice: page.obtain(each) for choice, each in recipes.items()}
first = nets[NORMAL][0]
images = evaluation_images(first.recipe, per_class=per_class)
A = correlation(distance_matrix(images.synsets), sigma=sigma)
how = {"epsilon": epsilon, "pgd_steps": pgd_steps, "quantile": quantile, "top_k": top_k, "controls": False}
passes = {
    choice: [measure_with_controls(net.model, images, page.on, **how) for net in each] for choice, each in nets.items()
}
choices = choice_table(passes, A, against=BASE)

# %% tags=["hide-input"]
measured = choices.set_index(["choice", "measure"])
others = measured[measured["verdict"] != ""]
page.figure(
    figures.choice_differences(choices),
    "differences",
    "How each choice differs from the standing one, P1's Eq. 6 as in chapter 3: a panel a measure, a line a choice, "
    "with 95 % intervals over images, and over seeds where there are several. A point is open where the interval "
    "holds zero. See whether any choice moves U under FGSM as far as training normally does.",
    alt=f"Points with intervals around a line at zero. Differences: {in_words(others['difference'])}.",
)

# %% tags=["remove-input"]
kept, without = Kept.read(), measured.loc[(WITHOUT, "U, FGSM")]
tried = kept.table("choices-photographs", "choices")["verdict"].dropna()
adds = Found(kept).numbers["consistent-loss-adds"]
page.say(told=int((others["verdict"] != OPEN).sum()), asked=len(others), by_chance=f"{0.05 * len(others):.1f}")
page.say(kept_told=int((tried != OPEN).sum()), kept_asked=len(tried), ledger_adds=f"{adds.row['verdict']}: {adds.bare}")
page.say(without=interval_text(*without[["difference", "difference low", "difference high"]], decimals=3))
page.say(without_words={OPEN: "not shown to be higher or lower"}.get(without["verdict"], without["verdict"]))
page.say(
    network=first.title.split(",")[0],
    images=len(images),
    classes=images.num_classes,
    seeds=f"{len(seeds)} seed" + "s" * (len(seeds) > 1),
)

# %% [markdown]
# The networks are {glue:text}`network` with {glue:text}`seeds` each, measured on {glue:text}`images` validation
# images of {glue:text}`classes` classes as in {doc}`04_evaluation`. Three of them are there already: trained normally,
# by {eq}`eq-consistent-loss`, and by the same with $\beta = 0$. Every value in one of the lists of parameters is one
# more network, trained when this page is run. In {eq}`eq-consistent-loss` the choices are
#
# - the weight $\beta$ of the last term (`beta`), and the radius of the attack that makes $x^*$ (`radius`);
# - the distance $d$ (`distance`) and the layer $\phi$ (`feature_layer`);
# - the label that the attack ascends (`attack_label`), and which images batch norm learns from (`norm_statistics`);
# - whether $d$ has an adversarial image of its own, as in P1's first form {eq}`eq-two-maxima` (`second_example`).
#
# ## What each choice changes
#
# Two networks see the same images, so what moves U of both drops out of the interval of their difference. Here is the
# number that decides, for the first seed:

# %%
with_loss = passes[BASE][0].estimate(FGSM, A, kind="true")
without_loss = passes[WITHOUT][0].estimate(FGSM, A, kind="true")
difference = without_loss.minus(with_loss)  # group of images by group of images

# %% tags=["remove-input"]
both = {"with-loss": with_loss, "without-loss": without_loss, "paired": difference}
page.say({name: interval_text(one.value, one.low, one.high, decimals=3) for name, one in both.items()})

# %% [markdown]
# U under FGSM is {glue:text}`without-loss` without the consistent loss and {glue:text}`with-loss` with it. The
# difference is {glue:text}`paired`. The table has all choices and measures.

# %% tags=["hide-input"]
as_named = {BASE: f"P1's {BASE}"}
said = {choice: [net.record["history"][-1].get("validation_accuracy") for net in each] for choice, each in nets.items()}
held_out = pd.DataFrame.from_dict(said, orient="index").astype(float).mean(axis=1, skipna=False)
values = with_intervals(measured[["value", "low", "high"]], decimals=2)["value"].unstack("measure", sort=False)
page.table(
    values.assign(**{"held out": held_out.mul(100).round(1)}).rename(index=as_named).rename_axis(columns=None),
    "choices",
    "Every choice: U of the last layer (0 to 1) on real and on FGSM images, and accuracy in per cent, with 95 % "
    "intervals over images, and over seeds where there are several. Held out: accuracy on the images held out of "
    "training, by which a choice is to be made. The other columns are of the validation set, and to choose by them "
    "would be to cheat.",
    exact=choices,
)

# %% [markdown]
# ## How much depends on the share that activates a neuron
#
# A neuron is active on its strongest images, and how many these are is a choice of the measure, as $\sigma$ is in
# {doc}`04_evaluation`. The {term}`chance level` of U does not depend on it. A claim that held at one share alone would
# be a claim about that share.

# %% tags=["hide-input"]
standing = {choice: nets[choice][0].model for choice in (NORMAL, BASE, WITHOUT)}
shares = threshold_sweep(standing, images, page.on, A, quantiles, epsilon=epsilon)
page.figure(
    figures.sweep(shares.replace({"model": as_named}), x="quantile", y="U"),
    "shares",
    "Mean U of the last layer over the share of the real images that activates a neuron, on real and on FGSM images "
    "under the true labels, with bands of 95 % over images; the line without dots is chance. See whether the order of "
    "the networks stays.",
    alt="Lines of U over the share. " + in_words(shares.set_index(["model", "set", "quantile"])["U"]) + ".",
)

# %% [markdown]
# ## A stronger attack
#
# An attack that is weak leaves accuracy that a stronger one takes. Here PGD takes more steps, and starts from several
# random places, until one of them fools the network. `auto_attack` adds AutoAttack {cite}`croce2020reliable`, in its
# published composition of four attacks (the package `pyautoattack`, in the extra `autoattack`). It needs no tuning, and
# so it is what networks of different authors are compared by. {doc}`09_results_p1` shows it on photographs.

# %% tags=["hide-input"]
places = torch.linspace(0, len(images) - 1, min(strong_images, len(images))).long()
cases = {
    (choice, net.recipe.seed): (net.model, one)
    for choice in standing
    for net, one in zip(nets[choice], passes[choice], strict=True)
}
how = {"epsilon": epsilon, "pgd_steps": pgd_steps, "steps": strong_steps, "restarts": restarts}
strong = strong_attacks(cases, images, places, page.on, queries=auto_attack_queries if auto_attack else 0, **how)
page.table(
    with_intervals(strong.set_index(["choice", "seed", "attack"]), decimals=1)["accuracy"]
    .unstack("attack", sort=False)
    .rename(index=as_named)
    .rename_axis(columns=None),
    "strong",
    f"Accuracy in per cent on {len(places)} of the images, without an attack and under attacks from weak to strong, "
    "with Wilson intervals of 95 %. A network that resists only the weak attack does not resist.",
    exact=strong,
)

# %% [markdown]
# ## What to doubt
#
# **Many questions.** Each interval is of 95 % for itself. Of {glue:text}`asked` differences, {glue:text}`by-chance`
# would leave out zero if no choice changed anything. A single one that does is no finding.
#
# **One training.** With one seed, an interval covers other images and not another training of the same network. A
# difference between two choices may be one between two seeds. {doc}`09_results_p1` has the seeds.
#
# **One at a time.** Two choices that do nothing alone may do something together. That is not tried here.
#
# ## Summary
#
# - P1's loss leaves seven choices open. Each is changed alone, and held on the same images against
#   {eq}`eq-consistent-loss` as in chapter 3.
# - {glue:text}`told` of {glue:text}`asked` differences leave out zero here, {glue:text}`kept-told` of
#   {glue:text}`kept-asked` on photographs.
# - Without the consistent loss, U under FGSM is {glue:text}`without-words`. The difference is {glue:text}`without`.
# - U depends on the share that activates a neuron, and its chance level does not. Compare networks at one share.
#
# ## Try this

# %% tags=["hide-input"]
try_this("11_open_choices")

# %% [markdown]
# ## Exercises
#
# **1.** Suppose that no choice changed anything, and that the {glue:text}`asked` differences were independent. How
# likely is it that at least one interval leaves out zero?

# %% tags=["remove-input"]
page.say(at_least_one=f"{100 * (1 - 0.95 ** len(others)):.0f} %")

# %% [markdown]
# :::{dropdown} Answer
# Each interval holds zero with probability .95, all of them with .95 to the power of their number, so the answer is
# {glue:text}`at-least-one`. In truth they are not independent: U and the accuracies are of the same images, and all
# are held against the same network. That makes the number of surprises vary more, and their mean stays the same.
# :::
#
# **2.** How much accuracy under FGSM does P1's loss gain over normal training, and how much of that is there without
# the consistent loss?

# %% tags=["remove-input"]
under_attack = measured["value"].xs("accuracy, FGSM", level="measure")
page.say(
    {
        f"gain-{name}": f"{under_attack[choice] - under_attack[NORMAL]:+.1f}"
        for name, choice in {"with": BASE, "without": WITHOUT}.items()
    }
)

# %% [markdown]
# :::{dropdown} Answer
# P1's loss gains {glue:text}`gain-with` points over normal training, and the same training at $\beta = 0$ gains
# {glue:text}`gain-without`. What stands in both is due to training with attacked images. Only the difference of the two
# can be due to the consistent loss, and its interval is in the first figure.
# :::
#
# **3.** U is often higher where fewer images activate a neuron. Why not take the smallest share? Compare m and the
# width of the interval at both ends of the figure.

# %% tags=["remove-input"]
real = shares[(shares["model"] == NORMAL) & (shares["set"] == "real")].set_index("quantile")
for name, share in {"few": min(quantiles), "many": max(quantiles)}.items():
    row = real.loc[share]
    page.say({f"{name}-share": f"{share:g}", f"{name}-m": f"{row['m']:.1f}", f"{name}-u": f"{row['U']:.3f}"})
    page.say({f"{name}-width": f"{row['U high'] - row['U low']:.3f}"})

# %% [markdown]
# :::{dropdown} Answer
# At a share of {glue:text}`few-share`, {glue:text}`few-m` images activate a neuron of the normally trained network; U
# is {glue:text}`few-u`, and its interval is {glue:text}`few-width` wide. At {glue:text}`many-share` it is
# {glue:text}`many-m` images, U is {glue:text}`many-u`, and the interval is {glue:text}`many-width` wide. Few images
# make few pairs, so their mean is uncertain. Many images include weak responses, which say less of what the neuron is
# for.
# :::

# %% tags=["remove-cell"]
page.keep({"choices": choices, "shares": shares, "strong": strong})
