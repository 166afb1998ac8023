# %% [markdown]
# # Studies over several seeds, and on photographs
#
# The chapters before this one are made to be rerun in minutes, so they train each network once and mostly on rendered
# scenes. What needs several seeds, or photographs, is run once and kept: small tables with a record of what made
# them. This page shows those tables. It computes nothing anew but differences and their intervals, and a table that
# does not fit its record stops it.
#
# `make results` runs the studies again, where they are out of date. They are listed in `notebooks/studies.yaml`, each a
# run of a chapter with the parameters given there.

# %% tags=["parameters"]
profile: str = "demo"  # only names the run: this page trains nothing
device: str = "auto"  # unused here; every page has it

# %%
from neuron_consistency.parameters import check

check(globals())

# %%
import pandas as pd
from myst_nb import glue

from neuron_consistency.results import read_result, record_table
from neuron_consistency.studies import read_studies
from neuron_consistency.tables import with_intervals

pd.set_option("display.max_rows", 500)  # tables are shown whole
pd.set_option("display.max_colwidth", 200)
studies = read_studies()
kept = {name: read_result(name) for name in studies}
record_table({name: one.about for name, one in studies.items()}, kept)

# %% [markdown]
# *Library* says whether what the study uses of this library still computes the same as when it ran.
#
# ## P1 on photographs
#
# Twelve classes of Tiny ImageNet, two architectures, each trained normally, with Eq. 6, and with Eq. 6 at
# $\beta = 0$; measured as in {doc}`04_evaluation`, on photographs that no network was trained on. One seed, so the
# intervals are over images. First consistency on real and on FGSM images, under both kinds of label; then the
# differences between trainings, and accuracy in per cent.

# %%
evaluated = kept["evaluation-photographs"].tables
rows = evaluated["consistency"]
rows = rows[rows["set"].isin(["real", "FGSM"])].set_index(["model", "set", "labels"])
with_intervals(rows[["images", "m", "V", "V chance", "U", "U low", "U high", "U chance", "excluded"]])

# %%
with_intervals(evaluated["differences"].set_index(["first", "second", "set", "labels"]))

# %%
accuracies = evaluated["accuracy"].set_index(["model", "images"])
with_intervals(accuracies, decimals=1)["accuracy"].unstack(sort=False)

# %% [markdown]
# The neurons of the same networks against the concepts of a densely labelled set of photographs, as in
# {doc}`05_dissection`: how many in a hundred are aligned with any concept, beside the two chance levels.

# %%
dissected = kept["dissection-photographs"].tables
dissected["summary"].set_index(["model", "images"]).round(3)

# %% [markdown]
# What both say of the paper's claims, case by case, is in {doc}`10_claims`.
#
# ## P2's adversarial set on photographs
#
# Ten targets, the least likely ones, for each of 204 photographs, made on three normally trained networks at once: how
# many per cent reach their target on each network, with an interval over photographs; how strongly pixels change (root
# mean square, in grey levels of 255); and how the networks that had no part in it see the set.

# %%
made = kept["adversarial-photographs"].tables
with_intervals(made["success"].set_index(["set", "network"]).drop(columns="RMSD"), decimals=1)

# %%
with_intervals(made["transfer"].set_index(["set", "network"]), decimals=1)

# %%
full_size = made["full-size"].set_index(["device", "devices"]).round(2)
glue("full-size", full_size, display=False)
full_size

# %% [markdown]
# What the paper's half a million images of 224 pixels would take at that rate, scaled by the number of pixels.
#
# ## P3 on photographs
#
# Twelve classes of Tiny ImageNet, three seeds, ResNet-18: trained normally, with the paper's weights, and with the same
# weights divided by their mean. First each measure's mean over seeds, with the lowest and the highest seed in
# brackets, then the differences to the normally trained networks. The unit is the
# seed: an interval of three seeds is wide, and the intervals of one table share their 95 % among the measures (each
# is wider, by Bonferroni). A difference counts where its interval leaves zero out, so half an interval's width is the
# least difference that could have been seen: with three seeds only a large one. The spread over seeds, in the first
# table, says more about how the trainings went.


# %%
def over_seeds(study: str) -> pd.DataFrame:
    """By measure and objective the mean over seeds, lowest and highest in brackets; untrained; chance."""
    measures = kept[study].tables["measures"]
    seeds = measures.dropna(subset="seed").groupby(["measure", "objective"], sort=False)["mean"]
    spread = with_intervals(seeds.agg(["mean", "min", "max"]).rename(columns={"min": "low", "max": "high"}))
    others = measures[measures["seed"].isna()].set_index("measure")[["mean", "chance"]].round(3)
    others.columns = ["untrained", "chance"]
    return spread["mean"].unstack("objective", sort=False).join(others.astype(object).fillna(""))


over_seeds("explanation-photographs")


# %%
def verdicts(study: str) -> pd.DataFrame:
    """The differences of a study, as they are shown."""
    return with_intervals(
        kept[study].tables["verdicts"].set_index(["objective", "measure"]).drop(columns="architecture")
    )


photographs = kept["explanation-photographs"].tables
counts = photographs["verdicts"]["verdict"].value_counts()
for word in ("better", "worse", "not shown"):
    glue(f"photographs-{word.replace(' ', '-')}", f"{counts.get(word, 0)}", display=False)
glue("photographs-differences", f"{len(photographs['verdicts'])}", display=False)
verdicts("explanation-photographs")

# %% [markdown]
# Of {glue:text}`photographs-differences` differences on photographs, shown to be for the better:
# {glue:text}`photographs-better`, for the worse: {glue:text}`photographs-worse`, not shown:
# {glue:text}`photographs-not-shown`. The paper claims better accuracy, localisation and robustness.
#
# ## Does reweighting wean a network from backgrounds?
#
# Rendered scenes in which each class has a background of its own, before which it stands in 50, 80 or 95 % of the
# training images. The *gap* is the accuracy before backgrounds of the object's own class, less that before those of
# another one: what the background is worth to the network. Three seeds each; the smaller the gap the better. In the
# studies called *truth* the attack behind the weights spares the true object: there E does see the use of backgrounds,
# which with the network's own mask it cannot ({doc}`08_explanation_consistency`).

# %%
COLUMNS = [
    "accuracy",
    "accuracy, same background",
    "accuracy, other background",
    "background gap",
    "E",
    "E, object spared",
]
debiasing = {name: kept[name].tables for name in studies if "debiasing" in name}
rows = pd.concat(
    {name.removeprefix("explanation-debiasing-"): tables["measures"] for name, tables in debiasing.items()},
    names=["study"],
)
rows = rows[rows["seed"].notna() & rows["measure"].isin(COLUMNS)]
rows.groupby(["study", "objective", "measure"], sort=False)["mean"].mean().unstack("measure")[COLUMNS].round(3)

# %%
gaps = pd.concat(
    {name.removeprefix("explanation-debiasing-"): tables["verdicts"] for name, tables in debiasing.items()},
    names=["study"],
)
gaps = gaps.reset_index("study")
gaps = gaps[gaps["measure"].isin(["accuracy", "accuracy, other background", "background gap"])]
words = gaps.loc[gaps["measure"] == "background gap", "verdict"].value_counts()
for word in ("better", "worse", "not shown"):
    glue(f"gap-{word.replace(' ', '-')}", f"{words.get(word, 0)}", display=False)
with_intervals(gaps.set_index(["study", "objective", "measure"]).drop(columns="architecture"))

# %% [markdown]
# Of these comparisons of the gap, {glue:text}`gap-better` show reweighting to narrow it, {glue:text}`gap-worse` to
# widen it, and {glue:text}`gap-not-shown` neither.
#
# ## The open choices
#
# What the paper leaves open, changed one at a time, on the rendered scenes of chapter 8 and with weights of mean one:
# the distance between two explanations, how much of a map counts as background, how often weights are renewed, and
# whose mask the attack spares. One seed each, so the unit is the image, and a verdict is of these two networks alone. E
# is measured as it was trained with: with the distance and threshold of its row.

# %%
CHOICES = ["accuracy", "accuracy, FGSM", "background gap", "pointing game", "box IoU", "E", "E, object spared"]
ablation = {name: kept[name].tables["verdicts"] for name in studies if "ablation" in name}
rows = pd.concat(
    {name.removeprefix("explanation-ablation-"): table for name, table in ablation.items()}, names=["changed"]
)
rows = rows.reset_index("changed")
with_intervals(
    rows[rows["measure"].isin(CHOICES)].set_index(["measure", "changed"]).drop(columns=["architecture", "objective"])
).sort_index()

# %% [markdown]
# ## What is fast
#
# `make bench` times every fast path of the library beside a plain way to the same result, in turns. {doc}`/scaling`
# says how to read it.

# %%
benchmarks = read_result("benchmarks")
print(f"{benchmarks.record['device']}, PyTorch {benchmarks.record['torch']}, commit {benchmarks.record['commit']}")
timed = benchmarks.tables["table"].drop(columns="apart").set_index(["work", "against", "on"])
timed = with_intervals(timed, decimals=2)
glue("benchmarks", timed, display=False)
timed

# %%
growth = read_result("growth").tables["growth"].set_index(["grows", "images", "channels"]).round(2)
glue("growth", growth, display=False)
growth

# %% [markdown]
# The streaming pass over one layer on one thread: seconds and memory as images and channels grow, and the exponents of
# the power law fitted to each (1 is linear).
