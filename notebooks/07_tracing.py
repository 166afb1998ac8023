# %% [markdown]
# # Tracing predictions to neurons
#
# :::{admonition} In short
# :class: in-short
# **Question.** Can we ask the neurons behind a prediction whether to believe it?
#
# **Answer.** P2's {term}`detector <detector of adversarial images>` suspects an image if its prediction does not match
# what its most influential neurons stand for. Here it beats chance in {glue:text}`better than chance` of
# {glue:text}`cases` cases (a network under an attack that fools it), and both of two simple rivals in
# {glue:text}`better than all rivals`. The ledger says of the kept study on photographs:
# <a href="14_claims.html#claim-neurons-tell-attacks">it tells adversarial images</a>: {glue:text}`ledger-attacks`;
# <a href="14_claims.html#claim-better-than-rivals">better than its rivals</a>: {glue:text}`ledger-rivals`;
# <a href="14_claims.html#claim-survives-adaptation">even if the attacker knows it</a>: {glue:text}`ledger-adaptive`.
#
# **The number that decides.** How much larger the detector's {term}`AUROC` is than that of its best rival, held against
# 0. For {glue:text}`first-network` under FGSM the lead is {glue:text}`first-lead`.
#
# **Change it yourself.** `make notebook N=07 PARAMS="sigma=4.0"` ({ref}`change-a-parameter`) lets more classes count as
# related. Every class then matches every neuron better, and the predicted class comes nearer to the others.
# :::
#
# P2 traces a prediction to the neurons that swayed it most, and compares what these stand for with what the network
# said {cite}`dong2017towards`. A bar is a neuron's {term}`influence`: what the prediction loses without the neuron.

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
architectures: list[str] = []  # which of the networks; [] takes all
objectives: list[str] = ["normal", "consistent"]  # which of the networks; also adversarial
per_class: int = 15  # test images of each class; 0 takes all
attacked_per_class: int = 4  # of these, so many for the slow attacks (PGD, ensemble, adaptive); 0 takes all
fitted_per_class: int = 0  # training images of each class for the Mahalanobis distance; 0 takes all
shown_neurons: int = 4  # neurons for, and as many against, in the pictures
shown_images: int = 4  # images that fire a neuron most, in the pictures
# how it is measured
form: str = "probability"  # of the prediction difference; also log_odds
profile_images: int = 8  # held-out images that make a neuron's profile
sigma: float = 2.0  # how fast correlation decays with WordNet distance
epsilon: float = 4 / 255  # size of FGSM, PGD and the adaptive attack, in units of the pixel range
pgd_steps: int = 10  # steps of PGD and of the adaptive attack
ensemble_steps: int = 40  # steps of Adam in the ensemble attack, at most
ensemble_rate: float = 0.01  # its learning rate, in units of the pixel range
ks: list[int] = [1, 3, 5, 10, 20, 50]  # numbers of influential neurons the detector may choose from
hiding: list[float] = [100.0, 1000.0]  # weights the adaptive attacker gives to hiding from the detector
false_alarms: float = 0.05  # share of honest images that may be flagged, for the share of attacks that go unseen
# how it runs
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
batch_size: int = 160  # images a forward pass
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %% tags=["hide-cell"]
from functools import partial

import pandas as pd
import torch
from IPython.display import display

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.targeted import least_likely_targets
from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
from neuron_consistency.show import in_words, interval_text, stacked
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.tracing import detection_tables, tables
from neuron_consistency.tracing.figures import auroc_intervals, explanation_panel
from neuron_consistency.tracing.trials import try_attacks, try_networks
from neuron_consistency.training.obtain import evaluation_images, training_images
from neuron_consistency.workflow.claims import settled

page = open_page("07_tracing", globals(), "tracing", "attack")
nets = page.current()
models = {page.titles[net.recipe.key]: net.model for net in nets}
images = evaluation_images(nets[0].recipe, per_class=per_class)
training, selection = training_images(nets[0].recipe)
training = training.subset(training.first_of_each_class(fitted_per_class))
places = images.first_of_each_class(attacked_per_class)
page.say(test_images=len(images), classes=images.num_classes, slow_images=len(places))
page.say(held_out=len(selection), fitted=len(training))
claims = Found(Kept.read()).numbers
for name, claim in {"attacks": "neurons-tell-attacks", "rivals": "better-than-rivals"}.items():
    page.say({f"ledger-{name}": f"{claims[claim].row['verdict']}, {claims[claim].bare}"})
page.say(ledger_adaptive=f"{claims['survives-adaptation'].row['verdict']}, {claims['survives-adaptation'].bare}")
under_fgsm = partial(fgsm, epsilon=epsilon)
trials = try_networks(
    models, images, page.on, training=training, selection=selection, fgsm=under_fgsm, ks=ks,
    correlation=correlation(distance_matrix(images.synsets), sigma=sigma), form=form, top_k=profile_images,
)  # fmt: skip
shown = next(iter(trials))
traced = tables.trace_examples(
    trials[shown], images, selection, page.on, fgsm=under_fgsm, count=shown_neurons, shown=shown_images
)
page.say(first_network=shown, traced=", ".join(traced))

# %% tags=["hide-input"]
for kind, one in traced.items():
    what = (
        f"{kind.capitalize()} of {shown}, traced to its neurons. Bars: how much each neuron sways the prediction "
        f"({form.replace('_', ' ')}), for it or against it. Left of a bar are the main classes that fire the neuron, "
        "right of it the held-out images that fire it most. See whether they show what the network said."
    )
    influence = one.neurons.set_index(["side", "neuron"])["contribution"]
    alt = f"{one.title.replace(chr(10), '; ')}. Bars of neurons: {in_words(influence, decimals=3)}."
    display(page.figure(explanation_panel(one), f"traced-{kind.split()[-1]}", what, alt=alt))

# %% [markdown]
# Of each kind a picture shows the image of median sureness, so none is picked for its looks. The kinds that occur in
# this run are {glue:text}`traced`; the adversarial image is one that FGSM turned from a right answer into a wrong one.
# The dashed line is the mean of all neurons: what a neuron drawn at random would show.
#
# If neurons mean something, tracing should tell when and why a network errs, and it should tell an adversarial image
# from an honest one. This page asks both of {glue:text}`test-images` test images of {glue:text}`classes` classes. It
# then tries the detector that follows, beside two rivals and under an attacker who knows it.
#
# ## Prediction difference
#
# How much does neuron $n$ sway the prediction $y$ on an image $x$? As much as the prediction loses without it:
#
# $$
# \mathrm{PD}(n) = p(y \mid x) - p(y \mid x_{\setminus n}),
# $$ (eq-prediction-difference)
#
# where $x_{\setminus n}$ stands for a run of the network with the map of channel $n$ set to zero. Neurons of positive
# PD speak for the prediction, those of negative PD against it. A sure network hardly changes its probability if it
# loses a single neuron. The difference of the log odds {cite}`zintgraf2017visualizing`,
#
# $$
# \log_2 \frac{p(y \mid x)}{1 - p(y \mid x)} - \log_2 \frac{p(y \mid x_{\setminus n})}{1 - p(y \mid x_{\setminus n})},
# $$ (eq-log-odds)
#
# does not saturate; the parameter `form` chooses it.
#
# By definition PD takes one run for every neuron and image. But the layers before the channel do not change, so they
# run once. If the layer is followed by nothing but pooling and one linear map $W$, the channel's share of the logits
# $z$ is known. Without the channel the logits are
#
# $$
# z - W_{:,n}\,\bar\phi_n(x), \qquad \bar\phi_n = \text{the pooled map of channel } n .
# $$ (eq-closed-form)
#
# Both ways must agree. Here they are compared on the first test images:

# %%
batch, _ = images.batch(torch.arange(min(8, len(images))), page.on.device)
agreement = tables.closed_form_error(models, batch)

# %% tags=["hide-input"]
page.say(closed_form_difference=f"{agreement['largest difference'].max():.0e}")
page.table(
    agreement.map(lambda cell: f"{cell:.1e}" if isinstance(cell, float) else cell),
    "agreement",
    "The largest influence of a neuron, and the largest difference between the two ways to compute it (probability).",
    exact=agreement,
)

# %% [markdown]
# At most {glue:text}`closed-form-difference` of probability lies between the two: no more than rounding.
#
# ## What a neuron stands for
#
# The *profile* $p_n$ of a neuron is the share of each class among the images that fire it most. As in P1's Eq. 2,
# classes count as related by WordNet: $(A\,p_n)_c$ is how well class $c$ matches the profile. It is 1 if all of the
# neuron's images are of that class. Profiles come from {glue:text}`held-out` images that were held out of the training
# set. No test image has a part in them.
#
# Are the influential neurons of the pictures special? The table compares them, taken together, with as many neurons
# drawn at random. The folded table after it has each of them.

# %% tags=["hide-input"]
page.table(
    stacked({name: one.random for name, one in traced.items()}, by="prediction").set_index(["prediction", "measure"]),
    "random-neurons",
    "The most influential neurons of each picture together (value), and as many neurons drawn at random: mean, and the "
    "middle 95 % of many draws. Contribution as in the pictures; match: from 0 to 1.",
)

# %% tags=["hide-cell"]
neurons = stacked({name: one.neurons for name, one in traced.items()}, by="prediction")
page.table(
    neurons.set_index(["prediction", "side", "neuron"]),
    "neurons",
    "The neurons of the pictures, with the mean of all neurons as chance. U: consistency of the images of the profile; "
    "match: how well the predicted class matches the profile; match of true: the same of the true class, where the two "
    "differ. All from 0 to 1, but for the contribution.",
)

# %% [markdown]
# ## When and why a network errs
#
# Three pictures show nothing about the rest. For all images, let the neurons that speak for the prediction vote for the
# classes of their profiles, each with its prediction difference as weight. The *mass* of class $c$ is
#
# $$
# m(c) = \frac{\sum_n \max(\mathrm{PD}(n), 0)\,(A\,p_n)_c}{\sum_n \max(\mathrm{PD}(n), 0)} .
# $$ (eq-mass)
#
# On an error, $m$ of the predicted class above $m$ of the true class means that the decisive neurons stand for the
# wrong class: the network saw the wrong thing. If it is the other way round, the neurons saw the right thing, and the
# decision after them is at fault. The mean of all other classes is the {term}`chance level`.
#
# But neurons that speak for a prediction will mostly stand for it, whatever they have learned. That lead is true by
# construction, and its size is to be read beside the right answers and the other classes. What could fail is that the
# neurons show something of the *true* class. A wrong answer is mostly a near relative of the right one, and by $A$ the
# mass of a class is also that of its relatives. So the true class is compared with classes *alike*: all others that are
# as far from the predicted class in WordNet's tree. Errors without such a class are left out.

# %% tags=["hide-input"]
masses = tables.masses(trials)
page.table(
    masses,
    "masses",
    "Mean mass of the predicted class, of the true one, of all others (chance) and of classes alike, from 0 to 1, and "
    "two differences, with 95 % intervals over images. A network with true - alike above 0 shows something of the "
    "true class where it errs. Verdicts on predicted - true are adjusted for all lines (Holm).",
)

# %% tags=["remove-input"]
errors = masses.xs("errors", level="group")
spoken = list(errors["neurons speak for"])
page.say(errors_networks=len(errors))
page.say(errors_seen=spoken.count("the predicted class"), errors_missed=spoken.count("the true class"))
page.say(errors_true=int((errors["true - alike low"] > 0).sum()))

# %% [markdown]
# Of {glue:text}`errors-networks` networks, {glue:text}`errors-seen` err because their influential neurons stand for the
# class they said, and {glue:text}`errors-missed` although these neurons stand for the true class. For the others the
# interval settles nothing. In {glue:text}`errors-true` the interval of *true - alike* lies above 0. The lines of
# successful attacks ask the same of adversarial images.
#
# ## Do neurons tell adversarial images?
#
# The detector of P2 suspects an image if its prediction does not match what its most influential neurons stand for.
# With the $k$ of highest prediction difference,
#
# $$
# s(x) = 1 - \frac1k \sum_{n\,\in\,\text{top }k} (A\,p_n)_{\hat y} .
# $$ (eq-detector)
#
# In the first picture of this page the neurons *for* the prediction are the top $k$:

# %%
top = traced[next(iter(traced))].neurons.query("side == 'for'")
suspicion = 1 - top["match"].mean()

# %% tags=["remove-input"]
page.say(suspicion=f"{suspicion:.3f}", suspicion_k=len(top))

# %% [markdown]
# Its suspicion is {glue:text}`suspicion`, with $k$ = {glue:text}`suspicion-k`. For the test, $k$ is chosen for each
# network on held-out images:

# %% tags=["hide-input"]
page.table(
    detection_tables.chosen_k(trials),
    "chosen-k",
    "How k is chosen: for each network the AUROC (0 to 1) of the detector on held-out images under FGSM, by k, and the "
    "k of the largest AUROC.",
)

# %% [markdown]
# Whether this is any good shows only beside others. **1 - max softmax** suspects what the network is unsure of
# {cite}`hendrycks2017baseline`. The **Mahalanobis** distance {cite}`lee2018simple` suspects an image whose features are
# far from those of every class of {glue:text}`fitted` training images. It is used here at the last layer alone, without
# those parts of the published method that are themselves fitted to attacks.
#
# FGSM attacks all test images. PGD {cite}`madry2018towards` and targeted images of an ensemble attack
# {glue:text}`slow-images` of them. One ensemble is all normally trained networks of this page, the other all that are
# trained consistently. Each network meets the images of its own ensemble, made as in {doc}`06_representations` towards
# the least likely class.
#
# The measure is the area under the ROC curve ({term}`AUROC`), 0.5 by chance. Positives are *successful* attacks alone,
# which turned a right answer into a wrong one: an attack that fails needs no detector. Negatives are all clean images
# that the network gets right. Intervals are over source images, since a clean image and what was made from it go
# together. The lines of errors ask the same of the clean images that the network gets wrong unaided.

# %% tags=["hide-input", "remove-output"]
ensembles = {}
for objective in dict.fromkeys(net.recipe.objective for net in nets):
    group = [net for net in nets if net.recipe.objective == objective]
    attacked = images.subset(places)
    targets = least_likely_targets([net.model for net in group], attacked, page.on, count=1)
    made = page.adversarial_set(group, attacked, targets, steps=ensemble_steps, learning_rate=ensemble_rate)
    ensembles |= {page.titles[net.recipe.key]: made for net in group}
try_attacks(trials, images, places, page.on, epsilon=epsilon, steps=pgd_steps, ensembles=ensembles)

# %% tags=["hide-input"]
detections = detection_tables.detections(trials, false_alarms=false_alarms)
areas = detections.groupby(["detector", "attack"], sort=False)["AUROC"].mean()
page.figure(
    auroc_intervals(detections),
    "detections",
    "How well three detectors tell attacked images, and natural errors, from right answers: AUROC (0 to 1) with 95 % "
    "intervals over images, a panel a network, a line an attack. The mismatch is P2's detector. It is worth something "
    "where it lies right of chance, and worth having where it lies right of its rivals.",
    alt=f"Marks with intervals on an axis of AUROC. Mean over networks: {in_words(areas, most=24)}.",
)

# %% tags=["hide-cell"]
page.table(
    detection_tables.areas_shown(detections),
    "areas",
    "The numbers of the figure. success: share of the attacked images (right when clean) that fool the network, in per "
    "cent; positives: images that are to be told; then the AUROC of each detector, with 95 % intervals.",
    exact=detections,
)

# %% [markdown]
# The detector's *lead* over a rival is the difference of the two AUROCs on the same images, with a paired interval:

# %% tags=["hide-input"]
page.table(
    detection_tables.leads_shown(detections),
    "leads",
    "AUROC of P2's detector less the AUROC of each rival, with paired 95 % intervals over images. Above 0 the neurons "
    "tell more than the rival does.",
    exact=detections,
)

# %% tags=["hide-cell"]
verdicts = detection_tables.verdicts(detections)
counts = detection_tables.verdict_counts(verdicts)
first = detections[(detections["model"] == shown) & (detections["attack"] == "FGSM")]
first = first.sort_values("lead")[["lead", "lead low", "lead high"]].to_numpy(float)[0]  # over the best rival
page.say(counts, first_lead=interval_text(*first, decimals=2))
page.table(
    verdicts.drop(columns="AUROC"),
    "verdicts",
    "What the intervals settle about P2's detector, against chance and against each rival: a verdict is given where an "
    "interval, adjusted for all that stand in the table (Holm), lies wholly on one side. Where there is no difference "
    "at all, about one table in twenty gets a verdict.",
)

# %% [markdown]
# In {glue:text}`cases` cases of a network under an attack that succeeds, P2's detector does better than chance in
# {glue:text}`better than chance` and worse in {glue:text}`worse than chance`. It does better than both rivals in
# {glue:text}`better than all rivals`, and worse than at least one of them in {glue:text}`worse than a rival`. (The
# folded table has each verdict, adjusted for all of them.)
#
# P2 also lets the neurons tell *when* a network errs. Here is the best rival of its detector on the errors that each
# network makes unaided, and the detector's lead over it:

# %% tags=["hide-input"]
errors_lead = detection_tables.errors_lead(detections)
page.table(
    errors_lead.set_index("model")[["detector", "AUROC", "low", "high", "lead", "lead low", "lead high"]],
    "errors-lead",
    "The best rival on natural errors and its AUROC, and the lead of P2's detector over it, with 95 % intervals. A "
    "lead below 0: the network's errors are better told without looking at neurons.",
)

# %% [markdown]
# Does training with the consistent loss help the detector? The next table takes the detector's AUROC of each network
# trained so, less that of the normal one of its seed, under each attack that both fall for.

# %% tags=["hide-input"]
changes = detection_tables.training_changes([net.recipe for net in nets], page.titles, detections)
page.table(
    changes.set_index(["model", "attack"]),
    "training-changes",
    "AUROC of P2's detector after training with the consistent loss, less the same after normal training, with 95 % "
    "intervals. Above 0: training makes the neurons better witnesses. Where it has no line, no attack fools both.",
)

# %% [markdown]
# ## What to doubt: an attacker who knows the detector
#
# A detector that its attacker has never heard of proves little {cite}`carlini2017adversarial`. The adaptive attacker
# {cite}`tramer2020adaptive` climbs
#
# $$
# \ell(x, y) - w\,\tilde s(x), \qquad
# \tilde s(x) = 1 - \frac{\sum_n \max(\mathrm{PD}(n), 0)\,(A\,p_n)_{y'}}{\sum_n \max(\mathrm{PD}(n), 0)},
# $$ (eq-adaptive)
#
# with PGD. Here $\ell$ is the cross-entropy and $y'$ the likeliest wrong class. $\tilde s$ is the detector's score with
# all neurons in place of the first $k$, so that it has a slope to follow. Of all images on the way that fool the
# network, the attacker keeps the one that the real detector suspects least. At $w = 0$ that choice is all he does.
# Whoever hides better may fool the network less often, so success and AUROC are to be read together.

# %% tags=["hide-input"]
adaptive = detection_tables.adaptive_detections(
    trials, images, places, page.on, weights=hiding, epsilon=epsilon, steps=pgd_steps, false_alarms=false_alarms
)
areas = adaptive.groupby(["detector", "attack"], sort=False)["AUROC"].mean()
page.figure(
    auroc_intervals(adaptive),
    "adaptive",
    "The detectors under PGD, and under attackers who give weight w to hiding from P2's detector: AUROC (0 to 1) with "
    "95 % intervals over images, a panel a network. Left of chance, the attacker has turned the detector around: it "
    "suspects honest images more than adversarial ones.",
    alt=f"Marks with intervals on an axis of AUROC. Mean over networks: {in_words(areas, most=24)}.",
)

# %% tags=["hide-cell"]
page.say(false_alarms=f"{100 * false_alarms:.0f} %")
page.table(
    detection_tables.unseen_shown(adaptive),
    "unseen",
    "The numbers of the figure for P2's detector. success: share of the attacked images that fool the network, in per "
    "cent; unseen: share that fool it and are not flagged, if a given share of honest images may be (`false_alarms`).",
    exact=adaptive,
)

# %% tags=["hide-input"]
worst = detection_tables.worst_cases(adaptive)
page.say(
    adaptive_networks=len(worst),
    adaptive_still_better=int((worst["verdict"] == "better than chance").sum()),
    adaptive_worse=int((worst["verdict"] == "worse than chance").sum()),
)
page.table(
    detection_tables.unseen_shown(worst),
    "worst",
    "The worst case of each network, where the AUROC of P2's detector is lowest. success: per cent of the attacked "
    "images that fool the network; unseen: per cent that fool it and are not flagged.",
    exact=worst,
)

# %% [markdown]
# In its worst case the detector still does better than chance on {glue:text}`adaptive-still-better` of
# {glue:text}`adaptive-networks` networks, and worse than chance on {glue:text}`adaptive-worse`. In the column
# *unseen*, {glue:text}`false-alarms` of the honest images may be flagged. (The worst of several attacks is picked after
# the fact, which makes it look a little worse than it is.)
#
# Two more doubts. A detector that is no better than a network's own sureness shows nothing about neurons. And the
# profile of a neuron rests on few images: with other held-out images it would name other classes.
#
# ## What this says of the claims
#
# The rows of this chapter in the ledger of all claims ({doc}`14_claims`). A claim *holds* for a network if the whole
# interval lies on its side, and *fails* if it lies on the other.

# %% tags=["hide-input"]
kept = {"masses": masses.reset_index(), "detections": detections, "adaptive": adaptive}
succeeded, told = detections.dropna(subset="AUROC"), errors.dropna(subset="predicted - true")
tables_told = {"errors": told, "detections": succeeded, "worst": worst, "changes": changes, "leads": errors_lead}
measurable = [row for row in settled("07_tracing", **tables_told) if pd.notna(row["value"])]
findings = page.keep(kept | {"changes": changes}, measurable)
page.findings(findings)

# %% [markdown]
# ## Summary
#
# - A neuron's influence on a prediction is what the prediction loses without it, {eq}`eq-prediction-difference`. For a
#   last layer with one linear map behind it, a closed form gives the same number, {eq}`eq-closed-form`.
# - That influential neurons stand for the predicted class is true by construction. Of {glue:text}`errors-networks`
#   networks, {glue:text}`errors-true` show something of the true class where they err.
# - As a detector of attacks, {eq}`eq-detector`, neurons beat chance in {glue:text}`better than chance` of
#   {glue:text}`cases` cases here and both rivals in {glue:text}`better than all rivals`. A detector has to beat rivals
#   that look at no neuron.
# - An attacker who knows the detector decides what it is worth: it stays better than chance on
#   {glue:text}`adaptive-still-better` of {glue:text}`adaptive-networks` networks.
#
# ## Try this

# %% tags=["hide-input"]
try_this("07_tracing")

# %% [markdown]
# ## Exercises
#
# **1.** A network has two classes. The logit of the predicted class is 5 and the other one is 0; a neuron carries 1 of
# the 5. Work out its prediction difference by {eq}`eq-prediction-difference` and by {eq}`eq-log-odds`. What become of
# the two if the logit is 2 in place of 5?

# %% tags=["remove-input"]
for logit in (5.0, 2.0):
    whole, without = torch.tensor([logit, logit - 1], dtype=torch.float64).sigmoid()
    odds = ((whole / (1 - whole)) / (without / (1 - without))).log2()
    page.say({f"pd-{logit:.0f}": f"{float(whole - without):.4f}", f"odds-{logit:.0f}": f"{float(odds):.4f}"})

# %% [markdown]
# :::{dropdown} Answer
# At 5 the probability falls by {glue:text}`pd-5`, at 2 by {glue:text}`pd-2`. The log odds fall by
# {glue:text}`odds-5` and {glue:text}`odds-2`, the same both times: $1/\ln 2$. The neuron does the same for the logit
# in both networks, but the surer one hides it from the probability.
# :::
#
# **2.** A detector flags {glue:text}`false-alarms` of the honest images and eight in ten of the adversarial ones. One
# image in a hundred is adversarial. Which share of the flagged images is?

# %% tags=["remove-input"]
caught, alarms = 0.8 * 0.01, false_alarms * 0.99
page.say(caught=f"{100 * caught:.2f} %", alarms=f"{100 * alarms:.2f} %", flagged=f"{caught / (caught + alarms):.0%}")

# %% [markdown]
# :::{dropdown} Answer
# Of all images {glue:text}`caught` are adversarial and flagged, {glue:text}`alarms` are honest and flagged. So
# {glue:text}`flagged` of the flagged images are adversarial. Even a detector that looks good by its AUROC mostly raises
# false alarms where attacks are rare.
# :::
#
# **3.** In {glue:text}`first-network`, how large is the mass of the predicted class on right answers, and on errors?
# Why does the AUROC on errors say more than these two means?

# %% tags=["remove-input"]
for name, group in {"right": "right answers", "wrong": "errors"}.items():
    row = masses.loc[(shown, group), ["predicted", "predicted low", "predicted high"]].to_numpy(float)
    page.say({f"mass-{name}": interval_text(*row, decimals=3)})
unaided = detections.query("model == @shown and attack == @detection_tables.ERRORS and detector == 'mismatch'")
page.say(errors_auroc=interval_text(*unaided[["AUROC", "low", "high"]].to_numpy(float)[0], decimals=2))

# %% [markdown]
# :::{dropdown} Answer
# It is {glue:text}`mass-right` on right answers and {glue:text}`mass-wrong` on errors. With enough images two means can
# differ beyond doubt while single images overlap almost wholly. The AUROC of the mismatch, {glue:text}`errors-auroc`,
# asks about single images: how often a random error looks more suspicious than a random right answer.
# :::
