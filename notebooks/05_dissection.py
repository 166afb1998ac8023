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
# what is looked at
architectures: list[str] = []  # which of the networks; [] takes all
seeds: list[int] = []  # of which seeds; [] takes all
labelled_set: str = "scenes"  # scenes, broden (found in NEURON_CONSISTENCY_DATA), or a path to a set in its format
images: int = 160  # how many of its images; 0 takes all
attacked: int = 30  # of these, so many are also made adversarial; 0 takes all
exchanges: int = 10  # of labels between images, for the chance levels
random_networks: int = 3  # with random weights, of each architecture
image_size: int = 0  # side shown to the networks; 0 is the smallest that gives maps of 7x7
shown_neurons: int = 5  # rows of the picture of masks
shown_images: int = 6  # images in a row
# how it is measured
quantile: float = 0.005  # share of a neuron's map positions above its threshold
max_kept: int = 0  # cap on the values a neuron's threshold is found from; 0 keeps all it takes to be exact
iou_threshold: float = 0.04  # over this a neuron is aligned
min_images: int = 5  # concepts in fewer images are left out (of the attacked ones in proportion)
epsilon: float = 4 / 255  # size of the least-likely-class attack, in units of the pixel range
own_thresholds: bool = False  # thresholds of the adversarial images from themselves, not from the real ones
device_price: float = 3.0  # of a device like this for an hour, in any currency, for what all of Broden would cost
# how it runs
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
batch_size: int = 32  # images a forward pass
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %% tags=["hide-input"]
from functools import partial

from neuron_consistency.artifacts import artifacts
from neuron_consistency.attacks.linf import least_likely
from neuron_consistency.book.page import open_page
from neuron_consistency.data.load import open_dense_set
from neuron_consistency.dissection import figures, tables
from neuron_consistency.dissection.controls import ADVERSARIAL, REAL, dissect_with_controls, shuffled
from neuron_consistency.dissection.gallery import best_units, example_masks
from neuron_consistency.plotting import picture_grid
from neuron_consistency.runtime import describe_device
from neuron_consistency.show import with_intervals
from neuron_consistency.training.obtain import untrained
from neuron_consistency.workflow.costs import dissection_costs
from neuron_consistency.workflow.findings import dissection_findings
from neuron_consistency.workflow.results import paper_table

page = open_page("05_dissection", globals(), "dissection")
nets, titles = page.current(), page.titles
models = {titles[net.recipe.key]: net.model for net in nets}
first, shown = next(iter(models.items()))
classes = nets[0].recipe.data["classes"] if nets[0].recipe.dataset == "scenes" else 0  # those the networks know
labelled = open_dense_set(labelled_set, cache=artifacts(profile).parent / "data", images=images, classes=classes)
page.say(exchanges=exchanges)
print(f"{labelled_set}: {len(labelled)} images")

# %% [markdown]
# ## Thresholds first, then counts
#
# A network runs once over the images: its maps give the thresholds, and then the masks that are counted.
#
# Each network sees the images at the smallest size that gives its last layer maps of 7x7, since coarser maps cannot
# outline anything; networks trained on 64 pixels therefore see everything larger than in training. Beside the real
# images stand networks of the same architecture with *random weights*, those that training starts from. Then come the
# adversarial images, made with the iterative least-likely-class method {cite}`kurakin2017adversarial` as in the paper,
# with the thresholds of the real images; and the real images they were made of.
#
# Each of these sets has a chance level of its own: the same masks with each image's labels taken from *another* image
# (the masks stay, the correspondence goes). It depends on how many images there are and on how large the masks are, and
# an attack changes the masks: what a network *loses* under attack has to be counted above chance, before and after.
# One exchange of labels moves many neurons at once, since all see the same images; so there are {glue:text}`exchanges`,
# and how far they lie apart is part of every interval of what is above chance.

# %%
by_title = {titles[net.recipe.key]: net for net in nets}
dissected = {}
for title, found in dissect_with_controls(
    models, labelled, page.on, blank=lambda title, seed: untrained(by_title[title], seed=seed),
    attack=partial(least_likely, epsilon=epsilon), attacked=attacked, own_thresholds=own_thresholds,
    exchanges=exchanges, random_networks=random_networks, image_size=image_size, quantile=quantile, max_kept=max_kept,
):  # fmt: skip
    dissected[title] = found
    print(f"{title}, shown at {found.image_size} px: dissected", flush=True)

# %% [markdown]
# ## What can be found
#
# How many concepts each category offers here, in how many images the median one is, and what share of the pixels of all
# images it covers. Above {glue:text}`largest-concept` even a perfect mask stays below the line.

# %% tags=["hide-input"]
page.say(largest_concept=f"{100 * quantile / iou_threshold:.1f} %")
tables.offered_concepts(dissected[first].overlaps[REAL][0], labelled.label_size, min_images=min_images).round(2)

# %% [markdown]
# ## Table 2: neurons aligned with each category, in per cent
#
# In brackets the interval of 95 % over neurons, for random weights and shuffled labels also over networks and exchanges
# of labels. Shuffled labels tell what best-of-many concepts gives by itself; only what exceeds it means something. In
# the figure they are the black lines across the bars.

# %% tags=["hide-input"]
units = tables.labelled_units(dissected, iou_threshold=iou_threshold, min_images=min_images)
shares = tables.category_shares(units)
tables.table_two(shares)

# %% tags=["hide-input"]
figures.category_shares(shares)

# %% [markdown]
# The same in one number a row: the share of neurons aligned with anything; the mean of the neurons' best IoU, which
# does not depend on where the line is drawn; and the share of neurons that have a mask at all. A neuron that is silent,
# or that responds alike everywhere, exceeds its threshold nowhere. Where many are so, few *can* be aligned, and a low
# share of aligned neurons is no chance level.

# %% tags=["hide-input"]
summary = tables.summarised(units, dissected)
with_intervals(summary)

# %% tags=["hide-input"]
before = tables.before_attack(units)
aligned = summary["aligned, %"].round().astype(int).astype(str) + " %"
said = {"all": REAL, "before": before, "after": ADVERSARIAL}
said |= {f"{word}-chance": shuffled(name) for word, name in said.items()}
page.say({f"aligned-{word}": aligned[first, name] for word, name in said.items()}, dissected_first=first)
tables.changes_under_attack(units).round(1)

# %% [markdown]
# Read for one network, {glue:text}`dissected-first`: {glue:text}`aligned-all` of its neurons are aligned on all real
# images, where shuffled labels give {glue:text}`aligned-all-chance`; of those attacked, {glue:text}`aligned-before` are
# aligned as they are (chance {glue:text}`aligned-before-chance`) and {glue:text}`aligned-after` once they are
# adversarial (chance {glue:text}`aligned-after-chance`). What is lost above chance is the last column of the table.
#
# ## The paper's Table 2
#
# From ImageNet networks and the whole of Broden, 63,000 images and over a thousand concepts. How many neurons find a
# concept depends on what is offered, so only the direction compares: fewer aligned neurons on adversarial images
# in every network, and fewer lost in those trained with the consistent loss (there called *-Adv*).

# %% tags=["hide-input"]
paper_table("table_2")

# %% [markdown]
# ## What each neuron stands for
#
# The concepts that the most neurons of each network are aligned with, on real images.

# %% tags=["hide-input"]
tables.commonest_concepts(units).round(3)

# %% [markdown]
# ## The best of them
#
# The neurons with the highest IoU, each of another concept: their strongest images, bright inside the neuron's mask.
# Under each image, how much of the mask lies inside the concept.

# %% tags=["hide-input"]
print(first)
best = best_units(units[first, REAL], count=shown_neurons)
picture_grid(example_masks(shown, labelled, page.on, dissected=dissected[first], units=best, count=shown_images))

# %% [markdown]
# Do the same neurons keep their concept on adversarial images? Of the neurons aligned on the real images, the share
# that is aligned with the same concept on the adversarial ones:

# %% tags=["hide-input"]
tables.kept_concepts(units).round(1)

# %% [markdown]
# ## What all of Broden would take
#
# The paper dissects its networks on the whole of Broden. From the time that each network took above, with its chance
# levels and attacked images, on one device like this one and on eight. Broden's maps do not fit into memory, so a
# network runs over the real images twice there and not once, which adds up to a third:

# %% tags=["hide-input"]
timed = {title: (one.seconds, one.image_size) for title, one in dissected.items()}
costs = dissection_costs(timed, images=len(labelled), devices=[1, 8], price=device_price)
costs.insert(1, "device", describe_device(page.on.device))
costs = costs.set_index(["network", "device", "devices"]).round(2)
page.say(full_dissection=costs)
costs

# %% [markdown]
# ## What this says of the claims
#
# The rows of this chapter in the ledger of all claims ({doc}`14_claims`). A claim *holds* for a network where the whole
# interval lies on its side, and *fails* where it lies on the other.

# %% tags=["hide-input"]
rows = dissection_findings([net.recipe for net in nets], titles, units)
findings = page.keep({"shares": shares, "summary": summary.reset_index()}, rows)
with_intervals(findings.set_index(["claim", "case"]))

# %% tags=["hide-input"]
page.provenance()
