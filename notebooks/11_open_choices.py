# %% [markdown]
# # The choices that the paper leaves open
#
# P1's consistent loss has a weight, a radius, a distance, a layer whose features it holds in place, a label that its
# attack ascends, and, in its first form {eq}`eq-two-maxima`, a second example of its own for the distance. The paper
# gives one value of each, or none. Here they are changed one at a time from those of
# {doc}`03_consistent_loss_training`, and measured as in {doc}`04_evaluation`. Below stand the two choices of the
# measure itself, the share of images that activates a neuron and, in chapter 4, $\sigma$; then an attack that is
# stronger than any used in training.
#
# The demo compares the networks that there are already: trained normally, and with {eq}`eq-consistent-loss` at two
# values of $\beta$. Every value in one of the lists below is one more network, trained when this page is run.

# %% tags=["parameters"]
# what is looked at
architecture: str = "alexnet"  # of all networks here
seeds: list[int] = [0]  # of each choice
beta: list[float] = []  # other weights of the consistent loss; try [0.1, 10.0]
radius: list[float] = []  # other sizes of FGSM in training, in units of the pixel range
distance: list[str] = []  # other distances d: normalised, raw, cosine
feature_layer: list[str] = []  # other layers phi, such as layer3 of ResNet-18
attack_label: list[str] = []  # other labels that the attack ascends: true, predicted, least-likely
norm_statistics: list[str] = []  # other ways with batch norm: both, clean
second_example: bool = False  # whether Eq. 5's own example for d is tried
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

# %% tags=["hide-input"]
import pandas as pd
import torch

from neuron_consistency.book.page import open_page
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.ambiguity import measure_with_controls
from neuron_consistency.consistency.choices import choice_table, strong_attacks, threshold_sweep
from neuron_consistency.show import with_intervals
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
print(f"{first.title.split(',')[0]}, {len(images)} validation images of {images.num_classes} classes")

# %% [markdown]
# ## What each choice changes
#
# U of the last layer, on real and on FGSM images, and accuracy in per cent; then how each differs from training with
# the standing choices, {eq}`eq-consistent-loss` of chapter 3. Intervals are of 95 %, over images, and where there are
# several seeds over seeds too. *Held out* is the accuracy on the images held out of training: a choice is to be made by
# that, never by the validation set that the other columns are of.

# %%
how = {"epsilon": epsilon, "pgd_steps": pgd_steps, "quantile": quantile, "top_k": top_k, "controls": False}
passes = {
    choice: [measure_with_controls(net.model, images, page.on, **how) for net in each] for choice, each in nets.items()
}
choices = choice_table(passes, A, against=BASE)

# %% tags=["hide-input"]
said = {choice: [net.record["history"][-1].get("validation_accuracy") for net in each] for choice, each in nets.items()}
held_out = pd.DataFrame.from_dict(said, orient="index").astype(float).mean(axis=1, skipna=False)
values = with_intervals(choices.set_index(["choice", "measure"])[["value", "low", "high"]], decimals=2)["value"]
values.unstack("measure", sort=False).assign(**{"held out": held_out.mul(100).round(1)})

# %% [markdown]
# What differs from the standing choice; open where the interval holds zero:

# %% tags=["hide-input"]
figures.choice_differences(choices)

# %% [markdown]
# ## How much depends on the share that activates a neuron
#
# A neuron is active on its strongest images; how many these are is ours to choose. The chance level of U does not
# depend on it (dotted), and a claim that held at one share alone would be a claim about that share.

# %% tags=["hide-input"]
standing = {choice: nets[choice][0].model for choice in (NORMAL, BASE, WITHOUT)}
shares = threshold_sweep(standing, images, page.on, A, quantiles, epsilon=epsilon)
figures.sweep(shares, x="quantile", y="U")

# %% [markdown]
# ## A stronger attack
#
# PGD with more steps, and from several random starts, each image until one of them fools the network. Accuracy in per
# cent with Wilson intervals of 95 %, on some of the images. `auto_attack` adds AutoAttack {cite}`croce2020reliable`, in
# its published composition of four attacks (the package `pyautoattack`, in the extra `autoattack`). It needs no tuning
# and so is what networks of different authors are compared by; {doc}`09_results_p1` shows it on photographs.

# %% tags=["hide-input"]
places = torch.linspace(0, len(images) - 1, min(strong_images, len(images))).long()
cases = {
    (choice, net.recipe.seed): (net.model, one)
    for choice in standing
    for net, one in zip(nets[choice], passes[choice], strict=True)
}
how = {"epsilon": epsilon, "pgd_steps": pgd_steps, "steps": strong_steps, "restarts": restarts}
strong = strong_attacks(cases, images, places, page.on, queries=auto_attack_queries if auto_attack else 0, **how)
with_intervals(strong.set_index(["choice", "seed", "attack"]), decimals=1)["accuracy"].unstack("attack", sort=False)

# %% tags=["hide-input"]
page.keep({"choices": choices, "shares": shares, "strong": strong})
page.provenance()
