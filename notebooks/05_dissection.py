# %% [markdown]
# # What do the neurons stand for?
#
# Consistency says *whether* the images that fire a neuron have something in common. Network Dissection
# {cite}`bau2017network` asks *what* it is: it holds each neuron's map against images whose every pixel is labelled with
# colours, textures, materials, scenes, parts and objects. P1 dissects its networks so, on real images and on
# adversarial ones {cite}`dong2019towards` (its Table 2), and finds that fewer neurons have a meaning on adversarial
# images, and that training with the consistent loss saves some of them.
#
# ## How a neuron is dissected
#
# Let $M_u(x)$ be the map of neuron $u$ on image $x$. Over all images and all places of the map, the threshold $T_u$
# is the value that only a share of .005 reaches. The map is enlarged to the size of the label maps, and the neuron's
# *mask* is where it exceeds $T_u$. For a concept $c$ with label region $L_c(x)$,
#
# $$
# \mathrm{IoU}(u, c) = \frac{\sum_x |M_u(x) > T_u \;\cap\; L_c(x)|}{\sum_x |M_u(x) > T_u \;\cup\; L_c(x)|},
# $$ (eq-iou)
#
# summed over the images that are labelled in the concept's category at all. A neuron whose best concept has an
# IoU over .04 is *aligned* with it, and counts once, in that concept's category.
#
# The threshold bounds what can be found: a mask covers half a per cent of all pixels, so a concept that covers
# more than an eighth of them cannot reach .04, however well it fits.

# %% tags=["parameters"]
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
architectures: list[str] = []  # which of the networks; [] takes all
seeds: list[int] = []  # of which seeds; [] takes all
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
labelled_set: str = "scenes"  # scenes, broden (found in NEURON_CONSISTENCY_DATA), or a path to a set in its format
images: int = 160  # how many of its images; 0 takes all
attacked: int = 30  # of these, so many are also made adversarial; 0 takes all
image_size: int = 0  # side shown to the networks; 0 is the smallest that gives maps of 7x7
quantile: float = 0.005  # share of a neuron's map positions above its threshold
max_kept: int = 0  # cap on the values a neuron's threshold is found from; 0 keeps all it takes to be exact
iou_threshold: float = 0.04  # over this a neuron is aligned
min_images: int = 5  # concepts in fewer images are left out (of the attacked ones in proportion)
epsilon: float = 4 / 255  # size of the least-likely-class attack, in units of the pixel range
own_thresholds: bool = False  # thresholds of the adversarial images from themselves, not from the real ones
shown_neurons: int = 5  # rows of the picture of masks
shown_images: int = 6  # images in a row
batch_size: int = 32  # images a forward pass
device_price: float = 3.0  # of a device like this for an hour, in any currency, for what all of Broden would cost
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %%
from neuron_consistency.workflow.parameters import check

parameters = check(globals())

# %%
import time

import pandas as pd
from myst_nb import glue

from neuron_consistency.artifacts import artifacts
from neuron_consistency.attacks.linf import least_likely
from neuron_consistency.data.broden import CATEGORIES
from neuron_consistency.data.load import open_dense_set
from neuron_consistency.dissection import figures as dissection_figures
from neuron_consistency.dissection.gallery import best_units, example_masks
from neuron_consistency.dissection.tables import (
    ADVERSARIAL,
    RANDOM,
    REAL,
    SAME,
    SHUFFLED,
    category_shares,
    dissect_with_controls,
    kept_concepts,
    offered_concepts,
    table_two,
)
from neuron_consistency.plotting import picture_grid
from neuron_consistency.runtime import describe_device, resolve_device
from neuron_consistency.show import distinct_titles, with_intervals
from neuron_consistency.training.obtain import obtain
from neuron_consistency.workflow import paper
from neuron_consistency.workflow.claims import keep_findings
from neuron_consistency.workflow.costs import dissection_costs
from neuron_consistency.workflow.findings import dissection_findings
from neuron_consistency.workflow.networks import current_models
from neuron_consistency.workflow.results import keep_result, provenance, start_of
from neuron_consistency.workflow.stamps import stamp_outputs

stamp_outputs("05_dissection", parameters, globals())
start, where = start_of("05_dissection", "dissection"), resolve_device(device)
nets = [obtain(recipe, device=device) for recipe in current_models(profile, architectures=architectures, seeds=seeds)]
data = nets[0].recipe.spec["data"]
labelled = open_dense_set(
    labelled_set,
    cache=artifacts(profile).parent / "data",
    images=images,
    classes=data["classes"] if data["name"] == "scenes" else 0,
)
titles = distinct_titles(net.recipe for net in nets)
print(f"{labelled_set}: {len(labelled)} images; evaluated here:")
for net in nets:
    print(f"  {titles[net.recipe.key]} [{net.recipe.key}]")

# %% [markdown]
# ## One pass for thresholds, one for counts
#
# Each network sees the images at the smallest size that gives its last layer maps of 7x7, since coarser maps cannot
# outline anything; networks trained on 64 pixels therefore see everything larger than in training. Beside the real
# images stand two chance levels: the same network with each image's labels taken from *another* image (the masks stay,
# the correspondence goes), and a network of the same architecture with *random weights*. Then come the adversarial
# images, made with the iterative least-likely-class method {cite}`kurakin2017adversarial` as in the paper, with the
# thresholds of the real images; and the real images they were made of, since fewer images change the best IoU a little.

# %%
counted, random_weights, seconds = {}, {}, {}
for place, net in enumerate(nets, start=1):
    architecture = net.recipe.spec["architecture"]
    print(f"dissecting {place} of {len(nets)}: {titles[net.recipe.key]}", flush=True)
    began = time.perf_counter()
    one = dissect_with_controls(
        net.model,
        labelled,
        attack=lambda model, batch: least_likely(model, batch, epsilon=epsilon),
        attacked=attacked,
        own_thresholds=own_thresholds,
        random_weights=random_weights.get(architecture),
        image_size=image_size,
        quantile=quantile,
        max_kept=max_kept or None,
        device=where,
        batch_size=batch_size,
        precision=precision,
    )
    counted[titles[net.recipe.key]], random_weights[architecture] = one, one.tallies[RANDOM]
    seconds[titles[net.recipe.key]] = time.perf_counter() - began
    print(f"  shown at {one.image_size} px", flush=True)

# %% [markdown]
# ## What can be found
#
# How many concepts each category offers here, in how many images the median one is, and what share of the pixels of all
# images it covers. Above {glue:text}`largest-concept` even a perfect mask stays below the line.

# %%
height, width = labelled.label_size
glue("largest-concept", f"{100 * quantile / iou_threshold:.1f} %", display=False)
offered_concepts(one.tallies[REAL], pixels=height * width, min_images=min_images).round(2)

# %% [markdown]
# ## Table 2: neurons aligned with each category, in per cent
#
# In brackets Wilson's interval of 95 %, over neurons. A row of chance tells what best-of-many labels gives by itself;
# only what exceeds it means something.

# %%
units = {
    (title, name): one.units(name, iou_threshold=iou_threshold, min_images=min_images)
    for title, one in counted.items()
    for name in one.tallies
}
shares = pd.concat(category_shares(labels).assign(model=title, images=name) for (title, name), labels in units.items())
table_two(shares, CATEGORIES)

# %%
dissection_figures.category_shares(shares)

# %% [markdown]
# The same in one number a row: the share of neurons aligned with anything, and the mean of the neurons' best IoU, which
# does not depend on where the line is drawn.

# %%
summary = pd.DataFrame(
    {
        "model": title,
        "images": name,
        "counted": counted[title].tallies[name].images,
        "aligned, %": 100 * labels["aligned"].mean(),
        "mean best IoU": labels["iou"].mean(),
    }
    for (title, name), labels in units.items()
).set_index(["model", "images"])
summary.round(3)

# %%
before = SAME if any(name == SAME for _, name in units) else REAL
changes = summary["aligned, %"].unstack(sort=False)[[before, ADVERSARIAL]]
first = titles[nets[0].recipe.key]
glue("dissected-first", first, display=False)
glue("aligned-chance", f"{summary.loc[(first, SHUFFLED), 'aligned, %']:.0f} %", display=False)
glue("aligned-all", f"{summary.loc[(first, REAL), 'aligned, %']:.0f} %", display=False)
glue("aligned-before", f"{changes.loc[first, before]:.0f} %", display=False)
glue("aligned-after", f"{changes.loc[first, ADVERSARIAL]:.0f} %", display=False)
changes.assign(change=changes[ADVERSARIAL] - changes[before]).round(1)

# %% [markdown]
# Read for one network, {glue:text}`dissected-first`: {glue:text}`aligned-all` of its neurons are aligned on all real
# images, where shuffled labels give {glue:text}`aligned-chance`; of those attacked, {glue:text}`aligned-before` are
# aligned as they are and {glue:text}`aligned-after` once they are adversarial.
#
# ## The paper's Table 2
#
# From ImageNet networks and the whole of Broden, 63,000 images and over a thousand concepts. How many neurons find a
# concept depends on what is offered, so only the direction compares: fewer aligned neurons on adversarial images
# in every network, and fewer lost in those trained with the consistent loss (there called *-Adv*).

# %%
paper.TABLE_2

# %% [markdown]
# ## What each neuron stands for
#
# The concepts that the most neurons of each network are aligned with, on real images.

# %%
named = pd.concat(
    labels[labels["aligned"]].assign(model=title) for (title, name), labels in units.items() if name == REAL
)
commonest = named.groupby(["model", "category", "label"], observed=True)["iou"].agg(neurons="size", best="max")
commonest.sort_values(["neurons", "best"], ascending=False).groupby("model").head(6).sort_index().round(3)

# %% [markdown]
# ## The best of them
#
# The neurons with the highest IoU, each of another concept: their strongest images, bright inside the neuron's mask.
# Under each image, how much of the mask lies inside the concept.

# %%
shown = nets[0]
one = counted[titles[shown.recipe.key]]
best = best_units(units[titles[shown.recipe.key], REAL], count=shown_neurons)
print(titles[shown.recipe.key])
picture_grid(example_masks(shown.model, labelled, one, best, count=shown_images, precision=precision))

# %% [markdown]
# Do the same neurons keep their concept on adversarial images? Of the neurons aligned on the real images, the share
# that is aligned with the same concept on the adversarial ones:

# %%
pd.DataFrame(
    {"model": title} | kept_concepts(units[title, before], units[title, ADVERSARIAL]) for title in counted
).set_index("model").round(1)

# %% [markdown]
# ## What all of Broden would take
#
# The paper dissects its networks on the whole of Broden. From the time that each network took above, with its chance
# levels and attacked images, on one device like this one and on eight:

# %%
broden = dissection_costs(
    seconds, images=len(labelled), image_size=one.image_size, devices=[1, 8], price=device_price
).assign(device=describe_device(where))
broden = broden.set_index(["network", "device", "devices"]).round(2)
glue("full-dissection", broden, display=False)
broden

# %% [markdown]
# ## What this says of the claims
#
# The rows of this chapter in the ledger of all claims ({doc}`10_claims`). A claim *holds* for a network where the whole
# interval lies on its side, and *fails* where it lies on the other.

# %%
sets = {"real": REAL, "shuffled": SHUFFLED, "before": before, "adversarial": ADVERSARIAL}
findings = keep_findings(
    profile, start.notebook, dissection_findings([net.recipe for net in nets], titles, units, **sets)
)
if study:
    kept_tables = {"shares": shares, "summary": summary.reset_index(), "findings": findings}
    keep_result(study, start, kept_tables, parameters=parameters, nets=nets)
with_intervals(findings.set_index(["claim", "case"]))

# %%
provenance(profile, nets)
