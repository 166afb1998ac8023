# %% [markdown]
# # What do the neurons stand for?
#
# :::{admonition} In short
# :class: in-short
# **Question.** Which {term}`concepts <concept>` do neurons stand for, and do they lose them under attack?
#
# **Answer.** In {glue:text}`dissected-first`, {glue:text}`aligned-all` of the neurons match a concept that people name.
# With the labels of other images, {glue:text}`aligned-all-chance` do. In the kept studies on photographs, that
# <a href="14_claims.html#claim-neurons-have-concepts">neurons match concepts beyond chance</a>
# {glue:text}`ledger-have`; that <a href="14_claims.html#claim-concepts-lost-beyond-chance">an attack takes matches
# away</a> {glue:text}`ledger-lost`; and that <a
# href="14_claims.html#claim-training-keeps-concepts-beyond-chance">the consistent loss saves some</a>
# {glue:text}`ledger-saved`.
#
# **The number that decides.** The per cent of neurons that match a concept beyond chance, on attacked images less on
# the same images before: {glue:text}`lost` points, held against 0. So {glue:text}`lost-words`.
#
# **Change it yourself.** `make notebook N=05 PARAMS="iou_threshold=0.02"` ({ref}`change-a-parameter`) asks for half the
# overlap. More neurons match a concept, and more match one by chance.
# :::
#
# Consistency says *whether* the images that fire a neuron have something in common. Network Dissection
# {cite}`bau2017network` asks *what* it is. It holds each neuron's map against images whose every pixel is labelled. The
# picture shows the neurons whose maps fit a concept best.

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

# %% tags=["hide-input", "remove-output"]
from functools import partial

from neuron_consistency.artifacts import artifacts
from neuron_consistency.attacks.linf import least_likely
from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
from neuron_consistency.data.broden import CATEGORIES
from neuron_consistency.data.load import open_dense_set
from neuron_consistency.dissection import figures, tables
from neuron_consistency.dissection.controls import ADVERSARIAL, RANDOM, REAL, dissect_with_controls, shuffled
from neuron_consistency.dissection.gallery import best_units, example_masks
from neuron_consistency.plotting import picture_grid
from neuron_consistency.runtime import describe_device
from neuron_consistency.show import in_words, interval_text
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
by_title = {titles[net.recipe.key]: net for net in nets}
dissected = {}
for title, found in dissect_with_controls(
    models, labelled, page.on, blank=lambda title, seed: untrained(by_title[title], seed=seed),
    attack=partial(least_likely, epsilon=epsilon), attacked=attacked, own_thresholds=own_thresholds,
    exchanges=exchanges, random_networks=random_networks, image_size=image_size, quantile=quantile, max_kept=max_kept,
):  # fmt: skip
    dissected[title] = found
    print(f"{title}, shown at {found.image_size} px: dissected", flush=True)
units = tables.labelled_units(dissected, iou_threshold=iou_threshold, min_images=min_images)

# %% tags=["hide-input"]
best = best_units(units[first, REAL], count=shown_neurons)
pictures = example_masks(shown, labelled, page.on, dissected=dissected[first], units=best, count=shown_images)
page.figure(
    picture_grid(pictures),
    "best",
    f"The neurons of {first} that fit a concept best, each of another concept: a row a neuron, its strongest images, "
    "bright inside the neuron's mask. Below each image stands how much of the mask lies inside the concept (per cent). "
    "See whether the bright part is what the row is named after.",
    alt="Rows of small pictures, dark outside a mask. "
    + " ".join(
        f"{title.replace(chr(10), ' ')}: {', '.join(each.caption for each in row)}." for title, row in pictures.rows
    ),
)

# %% [markdown]
# P1 dissects its networks in this way, on real images and on {term}`adversarial ones <adversarial image>`
# {cite}`dong2019towards` (its Table 2). It finds that fewer neurons have a meaning on adversarial images, and that
# training with the consistent loss saves some of them. It does not say how many neurons match a concept by chance.
#
# ## How a neuron is dissected
#
# Let $M_u(x)$ be the map of neuron $u$ on image $x$. The threshold $T_u$ is the value that only a share of .005 of all
# places of the map reaches, over all images. The map is enlarged to the size of the label maps, and the neuron's *mask*
# is where it exceeds $T_u$. Let $L_c(x)$ be the region that is labelled with concept $c$. The fit of neuron and concept
# is the intersection over union,
#
# $$
# \mathrm{IoU}(u, c) = \frac{\sum_x |M_u(x) > T_u \;\cap\; L_c(x)|}{\sum_x |M_u(x) > T_u \;\cup\; L_c(x)|},
# $$ (eq-iou)
#
# summed over all images that have labels of the concept's category. A neuron whose best concept has an IoU over .04 is
# *aligned* with it. It counts once, in the category of that concept.
#
# The network runs once over the images. Its maps give the thresholds, and then the masks, whose pixels are counted. The
# first neuron of the picture is worked out here from these counts:

# %%
counts, neuron = dissected[first].overlaps[REAL][0], best.iloc[0]
is_it = (counts.concepts[["label", "category"]] == neuron[["label", "category"]]).all(axis=1)
u, c = neuron["unit"], counts.concepts.index[is_it][0]
shared = int(counts.intersection[u, c])
mask = int(counts.unit_area[u, CATEGORIES.index(neuron["category"])])
region = int(counts.concept_area[c])
by_hand = shared / (mask + region - shared)

# %% tags=["remove-input"]
page.say(concept=neuron["label"], shared=f"{shared:,}", mask=f"{mask:,}", region=f"{region:,}")
page.say(by_hand=f"{by_hand:.3f}", by_library=f"{neuron['iou']:.3f}", exchanges=exchanges)

# %% [markdown]
# The mask has {glue:text}`mask` pixels and the concept, *{glue:text}`concept`*, has {glue:text}`region`. They share
# {glue:text}`shared`, so the IoU is {glue:text}`by-hand`. The library gives {glue:text}`by-library`.
#
# ## The controls
#
# Beside the real images stand networks of the same architecture with *random weights*, those that training starts from.
# Then come the adversarial images. They are made with the iterative least-likely-class method
# {cite}`kurakin2017adversarial` as in the paper, and keep the thresholds of the real images. The real images that they
# were made of stand beside them.
#
# Each of these sets has a {term}`chance level` of its own: the same masks, with each image's labels taken from
# *another* image. The masks stay, and what they have to do with the labels goes. This level depends on how many images
# there are and on how large the masks are, and an attack changes the masks. So what a network *loses* under attack has
# to be counted above chance, before and after. One exchange of labels moves many neurons at once, since all see the
# same images. So there are {glue:text}`exchanges` exchanges, and how far they lie apart is part of every interval of
# what is above chance.
#
# ## What we see
#
# P1's Table 2 counts the aligned neurons of each category.

# %% tags=["hide-input"]
shares = tables.category_shares(units)
summary = tables.summarised(units, dissected)
page.figure(
    figures.category_shares(shares),
    "categories",
    "Neurons aligned with a concept of each category, in per cent, a panel a network, with 95 % intervals over "
    "neurons. Grey strokes are what shuffled labels give on the same images: only what lies to the right of its "
    "stroke means something. Compare the real images that were attacked with the adversarial ones.",
    alt="Dots with intervals, a line a category, on an axis of per cent. With any concept are aligned, "
    + in_words(summary["aligned, %"], decimals=0)
    + ".",
)

# %% [markdown]
# The numbers behind the figure are in the folded table:

# %% tags=["hide-cell"]
page.table(
    tables.table_two(shares),
    "categories",
    "Neurons aligned with a concept of each category, in per cent. In brackets stands the 95 % interval over neurons, "
    "for random weights and shuffled labels also over networks and over exchanges of labels.",
    exact=shares,
)

# %% tags=["hide-input"]
page.table(
    summary,
    "aligned",
    "Neurons aligned with any concept, in per cent, with 95 % intervals; images counted; the mean of the neurons' best "
    "IoU (0 to 1), which does not depend on where the line is drawn; and the neurons that have a mask at all, in per "
    "cent. Hold each line against the one below it, with the same images and shuffled labels.",
    decimals=2,
)

# %% [markdown]
# ### What the attack takes away

# %% tags=["hide-input", "remove-output"]
before = tables.before_attack(units)
aligned = summary["aligned, %"].round().astype(int).astype(str) + " %"
said = {"all": REAL, "before": before, "after": ADVERSARIAL}
said |= {f"{word}-chance": shuffled(name) for word, name in said.items()}
page.say({f"aligned-{word}": aligned[first, name] for word, name in said.items()}, dissected_first=first)
above = [tables.above_chance(units, first, name) for name in (ADVERSARIAL, before)]
lost = tables.mean_above_chance(above[0] - above[1])
words = ("neurons lose concepts here", "neurons gain matches here", "this page cannot tell whether neurons lose any")
page.say(lost=interval_text(lost.value, lost.low, lost.high, decimals=1), lost_words=lost.verdict(below=0, words=words))
claims = Found(Kept.read()).numbers
asked = {"have": "neurons-have-concepts", "lost": "concepts-lost-beyond-chance"}
asked["saved"] = "training-keeps-concepts-beyond-chance"
page.say({f"ledger-{word}": f"{claims[name].row['verdict']}: {claims[name].bare}" for word, name in asked.items()})

# %% tags=["hide-input"]
changes = tables.changes_under_attack(units)
page.table(
    changes,
    "changes",
    "Neurons aligned with any concept, in per cent, on the real images that were attacked and on the adversarial "
    "images made of them, and the change in points; then the same above the chance level of these very images. The "
    "last column is what the attack takes from the neurons.",
    decimals=1,
)

# %% [markdown]
# In {glue:text}`dissected-first`, {glue:text}`aligned-all` of the neurons are aligned on all real images, where
# shuffled labels give {glue:text}`aligned-all-chance`. Of the images that were attacked there are fewer. On these,
# {glue:text}`aligned-before` of the neurons are aligned before the attack (chance {glue:text}`aligned-before-chance`)
# and {glue:text}`aligned-after` after it (chance {glue:text}`aligned-after-chance`).
#
# The paper's networks are from ImageNet, and it dissects them on the whole of Broden: 63,000 images and over a thousand
# concepts. How many neurons find a concept depends on what is offered, so only the direction compares.

# %% tags=["hide-input"]
page.table(
    paper_table("table_2"),
    "paper-categories",
    "The paper's Table 2: neurons aligned with each category, in per cent. There are fewer on adversarial images in "
    "every network, and fewer are lost in those trained with the consistent loss (there called Adv). The paper gives "
    "no chance level.",
    decimals=1,
)

# %% [markdown]
# ### Which concepts

# %% tags=["hide-input"]
page.table(
    tables.commonest_concepts(units),
    "concepts",
    "The concepts that the most neurons of each network are aligned with, on real images: how many neurons, and the "
    "best IoU of one of them (0 to 1).",
)

# %% tags=["hide-input"]
page.table(
    tables.kept_concepts(units),
    "same-concept",
    "Neurons that are aligned before the attack, and how many of these, in per cent, are aligned with the same concept "
    "on the adversarial images.",
    decimals=1,
)

# %% [markdown]
# ## What to doubt
#
# **Large concepts.** A mask covers half a per cent of all pixels. A concept that covers more than
# {glue:text}`largest-concept` of them cannot reach the line, however well the mask fits. The table tells how large the
# concepts are.

# %% tags=["hide-input"]
page.say(largest_concept=f"{100 * quantile / iou_threshold:.1f} %")
page.table(
    tables.offered_concepts(counts, labelled.label_size, min_images=min_images),
    "offered",
    "What can be found here: by category, the number of concepts, and of the median concept the images that show it "
    "and its share of the pixels of all images (per cent).",
    decimals=2,
)

# %% [markdown]
# **Silent neurons.** A neuron that is silent, or that responds alike everywhere, exceeds its threshold nowhere and has
# no mask. Where many neurons are so, few *can* be aligned, and a low share of aligned neurons is no chance level.
# Random weights are to be read with the column of masks beside them.
#
# **Scale.** Each network sees the images at the smallest size that gives its last layer maps of 7x7, since coarser maps
# cannot outline anything. Networks trained on 64 pixels therefore see everything larger than in training.
#
# **What is offered.** A neuron can only be aligned with a concept that somebody has labelled. On rendered scenes the
# concepts are few and cleanly cut, and no neuron can stand for something that is not among them.
#
# ## What this says of the claims
#
# A claim of the {doc}`ledger <14_claims>` *holds* for a network where the whole interval lies on its side, and *fails*
# where it lies on the other.

# %% tags=["hide-input"]
rows = dissection_findings([net.recipe for net in nets], titles, units)
findings = page.keep({"shares": shares, "summary": summary.reset_index()}, rows)
page.findings(findings)

# %% [markdown]
# ## What all of Broden would take
#
# The paper dissects its networks on the whole of Broden. The table scales up the time that each network took above,
# with its chance levels and attacked images, for one device like this one and for eight. Broden's maps do not fit into
# memory, so a network runs over the real images twice there and not once, which adds up to a third.

# %% tags=["hide-input"]
timed = {title: (one.seconds, one.image_size) for title, one in dissected.items()}
costs = dissection_costs(timed, images=len(labelled), devices=[1, 8], price=device_price)
costs.insert(1, "device", describe_device(page.on.device))
costs = costs.set_index(["network", "device", "devices"]).round(2)
page.say(full_dissection=costs)
page.table(
    costs.droplevel("device"),
    "broden",
    "Dissecting on the whole of Broden, on devices like the one that ran this page "
    f"({describe_device(page.on.device)}): images a second of all devices, hours, and cost at {device_price:g} an hour "
    "and device.",
    decimals=2,
)

# %% [markdown]
# ## Summary
#
# - A neuron's strongest places make its mask. The concept that the mask fits best, {eq}`eq-iou`, is what the neuron
#   stands for, if the fit is over a line.
# - Some neurons match a concept by chance: in {glue:text}`dissected-first` {glue:text}`aligned-all-chance` with the
#   labels of other images, beside {glue:text}`aligned-all` with their own.
# - An attack changes the masks, and chance with them. Counted above chance, the attack changes the share by
#   {glue:text}`lost` points.
# - Whether this holds on photographs stands in the {doc}`ledger <14_claims>` and in {doc}`09_results_p1`.
#
# ## Try this

# %% tags=["hide-input"]
try_this("05_dissection")

# %% [markdown]
# ## Exercises
#
# **1.** A concept covers {glue:text}`wide` of all pixels, and the mask of a neuron lies wholly inside it. Every image
# is labelled. What is the IoU? For which value of `quantile` would the neuron be aligned?

# %% tags=["remove-input"]
wide = 0.2
page.say(wide=f"{100 * wide:.0f} %", wide_iou=f"{quantile / wide:.3f}", wide_quantile=f"{iou_threshold * wide:.3f}")
page.say(line=f"{iou_threshold:g}", standing_quantile=f"{quantile:g}")

# %% [markdown]
# :::{dropdown} Answer
# The union is the concept itself, so the IoU is `quantile` over its share of the pixels: {glue:text}`wide-iou` at
# `quantile` = {glue:text}`standing-quantile`, held against the line at {glue:text}`line`. The neuron is aligned if
# `quantile` is above {glue:text}`wide-quantile`. Larger masks find larger concepts, and overlap with more by chance.
# :::
#
# **2.** By how many points does the share of aligned neurons change in {glue:text}`dissected-first` under attack, and
# by how many above chance? Why do the two differ?

# %% tags=["remove-input"]
page.say(plain_change=f"{changes['change'][first]:+.1f}", own_change=f"{changes['change above chance'][first]:+.1f}")
page.say(chance_change=f"{changes['change'][first] - changes['change above chance'][first]:+.1f}")

# %% [markdown]
# :::{dropdown} Answer
# It changes by {glue:text}`plain-change` points, and above chance by {glue:text}`own-change`. The difference,
# {glue:text}`chance-change` points, is how far the chance level moved. The thresholds stay those of the real images, so
# an attack that weakens responses makes the masks smaller, and one that strengthens them makes the masks larger. Masks
# of another size match other labels by chance. P1 reports the first number alone.
# :::
#
# **3.** In the table of aligned neurons, compare the trained network with its random weights. What do you conclude if
# the random network has few aligned neurons and also few that have a mask?

# %% tags=["remove-input"]
among = {"trained": units[first, REAL], "random": units[first, RANDOM]}
page.say({f"aligned-{name}": f"{100 * one['aligned'].mean():.0f} %" for name, one in among.items()})
page.say({f"masked-{name}": f"{100 * one['masked'].mean():.0f} %" for name, one in among.items()})
page.say({f"both-{name}": f"{100 * one['aligned'][one['masked']].mean():.0f} %" for name, one in among.items()})

# %% [markdown]
# :::{dropdown} Answer
# In {glue:text}`dissected-first`, {glue:text}`aligned-trained` of all neurons are aligned and
# {glue:text}`masked-trained` have a mask. With random weights {glue:text}`aligned-random` are aligned and
# {glue:text}`masked-random` have a mask. Among the neurons with a mask, {glue:text}`both-trained` and
# {glue:text}`both-random` are aligned. If few neurons have a mask, the share of all neurons is low whatever the others
# stand for, and only the last two numbers compare.
# :::
