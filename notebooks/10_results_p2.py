# %% [markdown]
# # P2 on photographs
#
# Do adversarial images that fool several networks at once fire the neurons of what they show, or of what they are
# taken for, and do influential neurons give them away, when the images are photographs? Here are the kept studies of
# P2's set and measures; {doc}`09_results_p1` says how they are kept, {doc}`13_costs` what each was run on.

# %% tags=["parameters"]
# how it runs
profile: str = "demo"  # only names the run: this page trains nothing
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-input"]
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.representation.figures import cs_curves, merely_targets
from neuron_consistency.tracing.figures import auroc_intervals
from neuron_consistency.workflow.results import paper_table

page, kept = open_page("10_results_p2", globals()), Kept.read()
large, own, tracing = "adversarial-photographs", "representation-photographs", "tracing-photographs"
warm = "representation-warm-photographs"

# %% [markdown]
# ## The adversarial set
#
# Ten targets, the least likely ones, for each of 204 photographs, made on three normally trained networks at once: how
# many per cent reach their target on each network, with an interval over photographs; how strongly pixels change (root
# mean square, in grey levels of 255); and how the networks that had no part in it see the set.

# %% tags=["hide-input"]
kept.shown(kept.table(large, "success").set_index(["set", "network"]).drop(columns="RMSD"), large, decimals=1)

# %% tags=["hide-input"]
kept.shown(kept.table(large, "transfer").set_index(["set", "network"]), large, decimals=1)

# %% tags=["hide-input"]
full_size = kept.table(large, "full-size").set_index(["device", "devices"]).round(2)
page.say(full_size=full_size)
kept.cited(full_size, large)

# %% [markdown]
# What the paper's half a million images of 224 pixels would take at that rate, scaled by the number of pixels.
#
# ## What neurons respond to
#
# First what P2 concludes from it: does training cure dummy detectors? The share of a neuron's top adversarial images
# that merely target its concept, for each network on images made against networks like it (red) and against others
# (blue), as {ref}`cure` explains. Red right of blue: what looks like a cure is that others' images do not reach. First
# of EfficientNet-Lite0, trained on, over three seeds; then of networks of twelve classes from random weights:

# %% tags=["hide-input"]
kept.cited(merely_targets(kept.table(warm, "cure")), warm)

# %% tags=["hide-input"]
kept.shown(kept.table(warm, "cure").set_index("network").drop(columns=["architecture", "objective"]), warm)

# %% tags=["hide-input"]
cure = kept.table(own, "neurons").query("layer == 'all'")
cure = cure.assign(own=cure["network"].str.contains("own set|, normal"))
kept.cited(merely_targets(cure), own)

# %% [markdown]
# What {doc}`06_representations` measures with the larger set: CS1 and CS2 over LC,

# %% tags=["hide-input"]
kept.cited(cs_curves(kept.table(large, "curves")), large)

# %% [markdown]
# the means over neurons, and those of the distances in feature space, beside the same images under noise and the
# paper's means. Lines marked *own set* are of a second, smaller set, made on the consistently trained networks
# themselves.

# %% tags=["hide-input"]
neurons = kept.with_own_sets("neurons").set_index(["network", "layer"])
kept.shown(neurons.filter(regex="^(U|CS1|CS2|shows|merely)( |$)"), large, own)

# %% tags=["hide-input"]
ratios = kept.with_own_sets("ratios")
ratios = ratios[(ratios["of"] != "difference") & (ratios["clean images"] > 1)]
ratios = ratios.set_index(["network", "subset", "images", "clean images", "ratio", "of"])
values = kept.shown(ratios, large, own, decimals=2)["value"]
kept.cited(values.unstack(["ratio", "of"], sort=False), large, own)

# %% tags=["hide-input"]
paper_table("distance_ratios")

# %% [markdown]
# ## What influential neurons give away
#
# How well the influential neurons tell adversarial images from honest ones, as in {doc}`07_tracing`, beside two
# rivals; then under an attacker who knows them.

# %% tags=["hide-input"]
kept.cited(auroc_intervals(kept.table(tracing, "detections")), tracing)

# %% tags=["hide-input"]
kept.cited(auroc_intervals(kept.table(tracing, "adaptive")), tracing)
