# %% [markdown]
# # Tracing predictions to neurons
#
# Why did the network say *that*? P2 answers with neurons: it traces a prediction to those that swayed it most, and
# holds what these neurons stand for against what the network said {cite}`dong2017towards`. If neurons mean something,
# this should tell when and why a network errs, and it should tell an adversarial image from an honest one. This page
# follows a right answer, an error and an adversarial image to their neurons; asks of many images which class the
# influential neurons speak for; and then puts the detector that follows from it to the test, beside two rivals and
# under an attacker who knows it.
#
# ## Prediction difference
#
# How much neuron $n$ sways the prediction $y$ on an image $x$ is what the prediction loses without it:
#
# $$
# \mathrm{PD}(n) = p(y \mid x) - p(y \mid x_{\setminus n}),
# $$ (eq-prediction-difference)
#
# where $x_{\setminus n}$ stands for a run of the network with the map of channel $n$ set to zero. Positive neurons
# speak for the prediction, negative ones against it. A sure network hardly changes its probability when it loses a
# single neuron; the difference of the log odds {cite}`zintgraf2017visualizing`,
#
# $$
# \log_2 \frac{p(y \mid x)}{1 - p(y \mid x)} - \log_2 \frac{p(y \mid x_{\setminus n})}{1 - p(y \mid x_{\setminus n})},
# $$ (eq-log-odds)
#
# does not saturate, and `form` turns it on.
#
# By definition this takes one run for every neuron and image. But the layers before the channel do not change, so they
# run once. And where the layer is followed by pooling and one linear map $W$ alone, the channel's share of the
# logits $z$ is known, and without it they are
#
# $$
# z - W_{:,n}\,\bar\phi_n(x), \qquad \bar\phi_n = \text{the pooled map of channel } n .
# $$ (eq-closed-form)
#
# ## What a neuron stands for
#
# The *profile* $p_n$ of a neuron is the share of each class among the images that fire it most. As in Eq. 2 of P1,
# classes count as related by WordNet: $(A\,p_n)_c$ is how well class $c$ matches the profile, 1 if all of the neuron's
# images are of that class. Profiles come from images held out of the training set. No test image has a part in them.

# %% tags=["parameters"]
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

# %% tags=["hide-input"]
from functools import partial

import pandas as pd
import torch
from IPython.display import display

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.targeted import least_likely_targets
from neuron_consistency.book.page import open_page
from neuron_consistency.show import with_intervals
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
print(f"{len(images)} test images of {images.num_classes} classes, {len(places)} of them for the slow attacks;")
print(f"{len(selection)} held-out images for profiles and k, {len(training)} training images for the rival")

# %% [markdown]
# ### Both ways of computing it agree
#
# The closed form {eq}`eq-closed-form` against the definition {eq}`eq-prediction-difference`, on the first test images.

# %% tags=["hide-input"]
batch, _ = images.batch(torch.arange(min(8, len(images))), page.on.device)
agreement = tables.closed_form_error(models, batch)
page.say(closed_form_difference=f"{agreement['largest difference'].max():.0e}")
agreement.map(lambda cell: f"{cell:.1e}" if isinstance(cell, float) else cell)

# %% [markdown]
# At most {glue:text}`closed-form-difference` of probability lies between the two: rounding, no more.
#
# ## The detectors, and one pass over the test images
#
# Each network gets its neurons' profiles from the held-out images, and the number $k$ of influential neurons that its
# detector reads (see below). Then come the test images as they are, and under FGSM.

# %%
under_fgsm = partial(fgsm, epsilon=epsilon)
trials = try_networks(
    models, images, page.on, training=training, selection=selection, fgsm=under_fgsm, ks=ks,
    correlation=correlation(distance_matrix(images.synsets), sigma=sigma), form=form, top_k=profile_images,
)  # fmt: skip

# %% [markdown]
# ## Three predictions, traced
#
# A right answer, an error, and an FGSM image that turned a right answer into a wrong one: of each kind the image of
# median sureness, so that none is picked for its looks. Bars are prediction differences, blue for the prediction and
# red against it; under a neuron's number stand the main classes of its profile, and beside it the held-out images
# that fire it most. The dashed line is the mean of all neurons: what a neuron drawn at random would show.

# %% tags=["hide-input"]
shown = next(iter(trials))
traced = tables.trace_examples(
    trials[shown], images, selection, page.on, fgsm=under_fgsm, count=shown_neurons, shown=shown_images
)
print(f"{shown}: {', '.join(traced)}")
*panels, last = (explanation_panel(one) for one in traced.values())
display(*panels)
last

# %% [markdown]
# The same neurons in numbers, and below them the most influential neurons together beside as many drawn at random
# (mean and middle 95 % of many draws). *U* is the consistency of the neuron's own images, *match* how well the
# predicted class matches its profile.

# %% tags=["hide-input"]
pd.concat({name: one.neurons.set_index(["side", "neuron"]) for name, one in traced.items()}).round(3)

# %% tags=["hide-input"]
with_intervals(pd.concat({name: one.random.set_index("measure") for name, one in traced.items()}))

# %% [markdown]
# ## When and why a network errs
#
# Three pictures show nothing about the rest. For all images, let the neurons that speak for the prediction vote, each
# with its prediction difference as weight, for the classes of its profile. The *mass* of class $c$ is
#
# $$
# m(c) = \frac{\sum_n \max(\mathrm{PD}(n), 0)\,(A\,p_n)_c}{\sum_n \max(\mathrm{PD}(n), 0)} .
# $$ (eq-mass)
#
# On an error, $m$ of the predicted class above $m$ of the true class means that the decisive neurons stand for the
# wrong class: the network saw the wrong thing. Were it the other way round, the neurons would have seen the right
# thing, and the decision after them would be at fault. The mean of all other classes is the chance level. But neurons
# that speak for a prediction will mostly stand for it, whatever they have learned: that lead is true by construction,
# and its size is to be read against the right answers and the other classes. What could fail is that the neurons show
# something of the *true* class. A wrong answer is mostly a near relative of the right one, and by $A$ the mass of a
# class is also that of its relatives. So the true class is held against *alike* ones: all others that are as far from
# the predicted class in WordNet's tree (errors without such a class are left out).

# %% tags=["hide-input"]
masses = tables.masses(trials)
detection_tables.without_nan(with_intervals(masses))

# %% tags=["hide-input"]
errors = masses.xs("errors", level="group")
spoken = list(errors["neurons speak for"])
page.say(errors_networks=len(errors))
page.say(errors_seen=spoken.count("the predicted class"), errors_missed=spoken.count("the true class"))
page.say(errors_true=int((errors["true - alike low"] > 0).sum()))
with_intervals(errors[["images", "neurons speak for", "true - alike", "true - alike low", "true - alike high"]])

# %% [markdown]
# Of {glue:text}`errors-networks` networks, {glue:text}`errors-seen` err because their influential neurons stand for the
# class they said, and {glue:text}`errors-missed` although these stand for the true class; of the others the interval
# cannot tell. In {glue:text}`errors-true` the neurons show more of the true class than of others like it, by the
# interval of each. The rows of successful attacks ask the same of adversarial images.
#
# ## Adversarial images told by their neurons?
#
# The detector of P2 suspects an image whose prediction does not match what its most influential neurons stand for. With
# the $k$ of highest prediction difference,
#
# $$
# s(x) = 1 - \frac1k \sum_{n\,\in\,\text{top }k} (A\,p_n)_{\hat y} .
# $$ (eq-detector)
#
# $k$ is chosen for each network on the held-out images, under FGSM:

# %% tags=["hide-input"]
detection_tables.chosen_k(trials)

# %% [markdown]
# Whether that is any good shows only beside others. **1 - max softmax** suspects what the network is unsure of
# {cite}`hendrycks2017baseline`. The **Mahalanobis** distance {cite}`lee2018simple` suspects an image whose features are
# far from those of every class of training images (here at the last layer alone, without the parts of the published
# method that are themselves fitted on attacks).
#
# The attacks: FGSM on all test images; PGD {cite}`madry2018towards`, and targeted images of an ensemble, on some. One
# ensemble is all normally trained networks here, the other all consistently trained ones; each network meets the
# images of its own, made as in {doc}`06_representations` towards the least likely class.
#
# The measure is the area under the ROC curve (AUROC), .5 by chance. Positives are *successful* attacks alone, which
# turned a right answer into a wrong one: an attack that fails needs no detector. Negatives are all clean images that
# the network gets right. Intervals are over source images, since a clean image and what was made from it go together.
# The rows of errors ask the same of the clean images that the network gets wrong unaided.

# %%
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
auroc_intervals(detections)

# %% tags=["hide-input"]
detection_tables.areas_shown(detections)

# %% [markdown]
# *success* is the share, in per cent, of the attacked images (right when clean) that fool the network. The detector's
# *lead* over a rival is the difference of the two AUROCs on the same images, with a paired interval. A verdict is given
# where an interval, adjusted for all that stand in the table (Holm), lies wholly on one side of chance, or of zero for
# a lead: where there is no difference at all, about one table in twenty gets a verdict.

# %% tags=["hide-input"]
detection_tables.leads_shown(detections)

# %% tags=["hide-input"]
verdicts = detection_tables.verdicts(detections)
verdicts.drop(columns="AUROC")

# %% tags=["hide-input"]
counts = detection_tables.verdict_counts(verdicts)
page.say(counts)
pd.Series(counts).to_frame("number")

# %% [markdown]
# In {glue:text}`cases` cases of a network under an attack that succeeds, P2's detector does better than chance in
# {glue:text}`better than chance` and worse in {glue:text}`worse than chance`; it does better than both rivals in
# {glue:text}`better than all rivals`, and worse than at least one of them in {glue:text}`worse than a rival`.
#
# P2 also has the neurons tell *when* a network errs. These are the best rivals of its detector on the errors that the
# networks make unaided, and the detector's lead over them:

# %% tags=["hide-input"]
errors_lead = detection_tables.errors_lead(detections)
with_intervals(errors_lead.set_index("model")[["detector", "AUROC", "low", "high", "lead", "lead low", "lead high"]])

# %% [markdown]
# And these are the changes of its area by training: a network trained with the consistent loss less the normal one of
# its seed, under each attack that both fall for.

# %% tags=["hide-input"]
changes = detection_tables.training_changes([net.recipe for net in nets], page.titles, detections)
with_intervals(changes.set_index(["model", "attack"]))

# %% [markdown]
# ## An attacker who knows the detector
#
# A detector that its attacker has never heard of proves little {cite}`carlini2017adversarial`. The adaptive attacker
# {cite}`tramer2020adaptive` climbs
#
# $$
# \ell(x, y) - w\,\tilde s(x), \qquad
# \tilde s(x) = 1 - \frac{\sum_n \max(\mathrm{PD}(n), 0)\,(A\,p_n)_{y'}}{\sum_n \max(\mathrm{PD}(n), 0)},
# $$ (eq-adaptive)
#
# with PGD, where $\ell$ is the cross-entropy, $y'$ the likeliest wrong class, and $\tilde s$ the detector's score with
# all neurons in place of the first $k$, which has a slope to follow. Of all images on the way that fool the network it
# keeps the one that the real detector suspects least. At $w = 0$ that choice is all it does. To hide better
# may mean to fool the network less often, so *success* and AUROC are to be read together.

# %%
adaptive = detection_tables.adaptive_detections(
    trials, images, places, page.on, weights=hiding, epsilon=epsilon, steps=pgd_steps, false_alarms=false_alarms
)
auroc_intervals(adaptive)

# %% [markdown]
# *unseen* is the share of the attacked images that fool the network and are not flagged, when
# {glue:text}`false-alarms` of the honest ones may be.

# %% tags=["hide-input"]
page.say(false_alarms=f"{100 * false_alarms:.0f} %")
detection_tables.unseen_shown(adaptive)

# %% [markdown]
# The worst case of each network, where the detector's AUROC is lowest:

# %% tags=["hide-input"]
worst = detection_tables.worst_cases(adaptive)
page.say(
    adaptive_networks=len(worst),
    adaptive_still_better=int((worst["verdict"] == "better than chance").sum()),
    adaptive_worse=int((worst["verdict"] == "worse than chance").sum()),
)
detection_tables.unseen_shown(worst)

# %% [markdown]
# In its worst case the detector still does better than chance on {glue:text}`adaptive-still-better` of
# {glue:text}`adaptive-networks` networks, and worse than chance, so that it suspects honest images more than
# adversarial ones, on {glue:text}`adaptive-worse`. (The worst of several attacks is picked after the fact, which makes
# it look a little worse than it is.)

# %% [markdown]
# ## What this says of the claims
#
# The rows of this chapter in the ledger of all claims ({doc}`14_claims`). A claim *holds* for a network where the whole
# interval lies on its side, and *fails* where it lies on the other.

# %% tags=["hide-input"]
kept = {"masses": masses.reset_index(), "detections": detections, "adaptive": adaptive}
succeeded, told = detections.dropna(subset="AUROC"), errors.dropna(subset="predicted - true")
tables_told = {"errors": told, "detections": succeeded, "worst": worst, "changes": changes, "leads": errors_lead}
measurable = [row for row in settled("07_tracing", **tables_told) if pd.notna(row["value"])]
findings = page.keep(kept | {"changes": changes}, measurable)
with_intervals(findings.set_index(["claim", "case"]))

# %% tags=["hide-input"]
page.provenance()
