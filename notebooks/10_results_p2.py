# %% [markdown]
# # P2 on photographs
#
# :::{admonition} In short
# :class: in-short
# **Question.** Do adversarial images that fool several networks at once fire the neurons of what they show, or of what
# they are taken for? And do influential neurons give such images away, when the images are photographs?
#
# **Answer.** The ledger says, of adversarial images that fire a neuron most: <a
# href="14_claims.html#claim-dummy-detectors-mostly">those that merely target its concept outnumber those that show
# it</a>, {glue:text}`mostly-verdict`, {glue:text}`mostly`; <a href="14_claims.html#claim-cure-on-own-images">training
# lowers the share that merely targets, even of images made against the trained network</a>,
# {glue:text}`cure-verdict`. Of influential neurons: <a href="14_claims.html#claim-neurons-tell-attacks">they tell
# adversarial images from real ones</a>, {glue:text}`tell-verdict`; their {term}`AUROC` is {glue:text}`tell`, and a coin
# has 0.5.
#
# **The number that decides.** How the share of images that merely target a neuron's concept changes by training, each
# network on images made against itself: {glue:text}`cure`, held against 0. The least change that could have been seen
# is {glue:text}`cure-least`. {ref}`The table of verdicts <p2-verdicts>` has all claims.
#
# **Change it yourself.** `make notebook N=06 PARAMS="purity=0.8"` measures the demo's networks with a stricter concept;
# `make results` runs the studies of this page again where they are out of date.
# :::

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
# how it runs
profile: str = "demo"  # only names the run: this page trains nothing
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-cell"]
from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.representation.figures import cs_curves, merely_targets
from neuron_consistency.show import in_words
from neuron_consistency.tracing.figures import auroc_intervals
from neuron_consistency.workflow.results import paper_table

page, kept = open_page("10_results_p2", globals()), Kept.read()
large, own, tracing = "adversarial-photographs", "representation-photographs", "tracing-photographs"
warm = "representation-warm-photographs"
found = Found(kept)
asked = {"mostly": "dummy-detectors-mostly", "cure": "cure-on-own-images", "tell": "neurons-tell-attacks"}
asked |= {"leaves": "leaves-its-class", "rivals": "better-than-rivals", "others": "one-image-fools-others"}
page.say({name: found.numbers[claim].bare for name, claim in asked.items()})
page.say({f"{name}-verdict": found.ledger.loc[claim, "verdict"] for name, claim in asked.items()})
names = {
    large: "the larger set",
    own: "the smaller set on twelve classes",
    tracing: "tracing",
    warm: "EfficientNet-Lite0",
}
page.say(waiting=", ".join(names[study] for study in kept.outdated() if study in names) or "none")
page.say(cure_least=found.numbers[asked["cure"]].digits("least") + found.numbers[asked["cure"]].unit)

# %% [markdown]
# (p2-verdicts)=
# ## The verdicts

# %% tags=["hide-input"]
judged = found.ledger[found.ledger["chapter"].isin(["06_representations", "07_tracing"])]
behind = kept.findings().query("claim in @judged.claim")["study"].unique()
page.table(
    kept.cited(found.evidence(judged["claim"]), *behind),
    "verdicts",
    "The verdicts on P2's claims, and on our own questions beside them: in how many cases each holds and fails, the "
    "pooled number with its 95 % interval, and the least difference that the median case could have shown.",
)

# %% [markdown]
# The {doc}`ledger <14_claims>` shows every case behind a verdict. Only studies count in it whose numbers today's
# library would compute alike. The other studies of this page are shown below all the same, and wait to be run again:
# {glue:text}`waiting`. What each was run on, and for how long, stands in {doc}`13_costs`. What such a study shows may
# differ from the verdicts, also because its networks differ: those from random weights get fewer images right than
# EfficientNet-Lite0, which others trained on ImageNet, and which we trained on.
#
# ## What neurons respond to
#
# P2 concludes that training cures *dummy* detectors, neurons that images fire which lack their concept. {ref}`cure`
# explains why this is to be judged by images made against the trained networks themselves.

# %% tags=["hide-input"]
rows = kept.table(warm, "cure")
page.figure(
    kept.cited(merely_targets(rows), warm),
    "cure",
    "The share of a neuron's top adversarial images that merely target its concept, for EfficientNet-Lite0, trained "
    "on, three seeds. Filled marks: images made against networks like this one. Open marks: images made against the "
    "normal networks. Grey strokes: chance. Intervals of 95 % over images and seeds. A cure has the filled mark of a "
    "trained network left of the normal network's.",
    alt="Marks with intervals. " + in_words(rows.set_index("network")["merely targets"], decimals=3) + ".",
)

# %% tags=["hide-cell"]
page.table(
    kept.cited(rows.set_index("network").drop(columns=["architecture", "objective"]), warm),
    "cure",
    "The numbers of the figure above, and the share that shows the concept. Own: whether the images were made against "
    "networks like this one. Lowest and highest: of the share that merely targets, among the seeds.",
)

# %% tags=["hide-input"]
rows = kept.table(own, "neurons").query("layer == 'all'")
rows = rows.assign(own=rows["network"].str.contains("own set|, normal"))
page.figure(
    kept.cited(merely_targets(rows), own),
    "cure-twelve",
    "The same share of networks from random weights on twelve classes, one seed: intervals of 95 % over images alone.",
    alt="Marks with intervals. " + in_words(rows.set_index("network")["merely targets"], decimals=3) + ".",
)

# %% [markdown]
# ### The larger set
#
# The larger set has ten targets, the least likely ones, for each of its photographs, and is made on three normally
# trained networks at once. It is measured as in {doc}`06_representations`. Lines marked *own set* are of a second,
# smaller set, made on the consistently trained networks themselves.

# %% tags=["hide-input"]
rows = kept.table(large, "curves")
page.figure(
    kept.cited(cs_curves(rows), large),
    "curves",
    "CS1 (true labels) and CS2 (target labels) over the LC of neurons, a panel a network, with bands of 95 % over "
    "images; broken lines are chance. P2 reports that at high LC, on the right, CS1 is low and CS2 is high in normal "
    "networks. All three have no unit and go from 0 to 1.",
    alt="Curves of CS1 and CS2 over LC. In the last bin, "
    + in_words(rows.groupby(["network", "measure"], sort=False)["value"].last(), most=20)
    + ".",
)

# %% tags=["hide-input"]
rows = kept.with_own_sets("neurons").set_index(["network", "layer"])
page.table(
    kept.cited(rows.filter(regex="^(U|CS1|CS2|shows|merely)( |$)"), large, own),
    "neurons",
    "Means over the neurons of the last layer and over those of all layers, with 95 % intervals over images. Shows, "
    "merely targets: shares of the top adversarial images of neurons that have a concept, each beside its chance.",
)

# %% [markdown]
# ### Distances in feature space

# %% tags=["hide-input"]
ratios = kept.with_own_sets("ratios")
ratios = ratios[(ratios["of"] != "difference") & (ratios["clean images"] > 1)]
ratios = ratios.set_index(["network", "subset", "images", "clean images", "ratio", "of"])
values = kept.shown(ratios, large, own, decimals=2)["value"]
page.table(
    kept.cited(values.unstack(["ratio", "of"], sort=False), large, own),
    "ratios",
    "Means of r1 and r2, beside those of the same images under noise of equal norm, with 95 % intervals over clean "
    "images. r1 above 1: the image has left its class; r2 below 1: it has come nearer to its target. Reached here: the "
    "images that this network takes for the target; reached everywhere: those that every network of the set does.",
    decimals=2,
    exact=ratios,
)

# %% tags=["hide-input"]
page.table(
    paper_table("distance_ratios"),
    "paper-ratios",
    "The paper's means, before and after training with the consistent loss.",
    decimals=2,
)

# %% [markdown]
# ## What influential neurons give away
#
# {doc}`07_tracing` compares what a network predicts with what the neurons behind the prediction stand for. Where the
# two do not match, it suspects an attack.

# %% tags=["hide-input"]
rows = kept.table(tracing, "detections")
page.figure(
    kept.cited(auroc_intervals(rows), tracing),
    "detections",
    "How well the mismatch of influential neurons, and rival detectors, tell adversarial images from honest ones, a "
    "panel a network, a line an attack: AUROC with 95 % intervals; 0.5 is a coin, 1 is perfect.",
    alt="AUROC by network, attack and detector. "
    + in_words(rows.groupby(["detector", "attack"], sort=False)["AUROC"].mean(), most=24)
    + ".",
)

# %% tags=["hide-input"]
rows = kept.table(tracing, "adaptive")
page.figure(
    kept.cited(auroc_intervals(rows), tracing),
    "adaptive",
    "The same detectors under an attacker who knows them, and makes images that avoid them. AUROC with 95 % intervals; "
    "below 0.5, the attacker has turned the detector around.",
    alt="AUROC by network, attack and detector. "
    + in_words(rows.groupby(["detector", "attack"], sort=False)["AUROC"].mean(), most=24)
    + ".",
)

# %% [markdown]
# ## How the larger set was made

# %% tags=["hide-input"]
page.table(
    kept.cited(kept.table(large, "success").set_index(["set", "network"]).drop(columns="RMSD"), large),
    "success",
    "How often the networks that the larger set was made on say the target: reached, in per cent, with 95 % intervals "
    "over photographs, and reached clean, the same before the attack. RMSD: root mean squared change of a pixel, in "
    "grey levels of 255.",
    decimals=1,
)

# %% tags=["hide-input"]
page.table(
    kept.cited(kept.table(large, "transfer").set_index(["set", "network"]), large),
    "transfer",
    "What the networks say of the set that had no part in it: how often the target (reached), and how often any class "
    "but the true one (wrong), in per cent, with 95 % intervals over photographs; beside each that of clean images.",
    decimals=1,
)

# %% tags=["hide-input"]
full_size = kept.table(large, "full-size").set_index(["device", "devices"]).round(2)
page.say(full_size=full_size)
page.table(
    kept.cited(full_size, large),
    "full-size",
    "What the paper's half a million images of 224 pixels would take at the rate of this set, scaled by the number of "
    "pixels: hours, gigabytes on disk, and the cost.",
    decimals=2,
)

# %% [markdown]
# ## Summary
#
# - That an adversarial image leaves its class in feature space {glue:text}`leaves-verdict`: r1 is {glue:text}`leaves`.
# - That an adversarial image reaches its target also on networks that had no part in it {glue:text}`others-verdict`:
#   {glue:text}`others`.
# - That adversarial images fire a neuron mostly by merely targeting its concept {glue:text}`mostly-verdict`. Whether
#   training lowers that share is judged on images made against the trained network: {glue:text}`cure`,
#   {glue:text}`cure-verdict`.
# - That influential neurons tell attacks {glue:text}`tell-verdict`; that they do so better than rivals
#   {glue:text}`rivals-verdict`, their lead being {glue:text}`rivals`.
