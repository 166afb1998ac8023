# %% [markdown]
# # P3 over several seeds, and on photographs
#
# :::{admonition} In short
# :class: in-short
# **Question.** Does training that weighs images by how stable their explanations are make networks better: more
# accurate, more robust, with explanations that lie on the object, less tied to backgrounds?
#
# **Answer.** The ledger's verdicts: that <a href="14_claims.html#claim-reweighting-accuracy">P3's weights raise
# accuracy</a> *{glue:text}`accuracy-verdict`*; that <a href="14_claims.html#claim-reweighting-fgsm">they make a network
# more robust to FGSM</a> *{glue:text}`fgsm-verdict`*; that <a
# href="14_claims.html#claim-reweighting-consistency-of-right-answers">explanations hold better</a>
# *{glue:text}`holds-verdict`*; and that it is <a href="14_claims.html#claim-choice-accuracy">the choice of images that
# raises accuracy</a>, and not unequal weights as such, *{glue:text}`choice-verdict`*.
#
# **The number that decides.** Accuracy after training with P3's weights, less that after normal training:
# {glue:text}`accuracy`, held against 0. The least difference that could have been seen is {glue:text}`accuracy-least`.
# {ref}`The table of verdicts <p3-verdicts>` has all claims.
#
# **Change it yourself.** `make notebook N=08 PARAMS="map_distance=ssim"` trains the demo's networks by another distance
# between explanations; `make results` runs the studies of this page again where they are out of date.
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
import pandas as pd

from neuron_consistency.book.found import Found
from neuron_consistency.book.kept import Kept, over_seeds
from neuron_consistency.book.page import open_page
from neuron_consistency.explanation import figures
from neuron_consistency.explanation.figures import WORDS
from neuron_consistency.show import in_words

page, kept = open_page("12_results_p3", globals()), Kept.read()
forty, twelve = "explanation-photographs", "explanation-twelve-photographs"
warm = "explanation-warm-photographs"
debiasing, ablations = kept.named("explanation-debiasing-"), kept.named("explanation-ablation-")
found = Found(kept)
asked = {"accuracy": "reweighting-accuracy", "fgsm": "reweighting-fgsm", "choice": "choice-accuracy"}
asked |= {"holds": "reweighting-consistency-of-right-answers", "pgd": "reweighting-pgd"}
page.say({name: found.numbers[claim].bare for name, claim in asked.items()})
page.say({f"{name}-verdict": found.ledger.loc[claim, "verdict"] for name, claim in asked.items()})
page.say(accuracy_least=found.numbers[asked["accuracy"]].digits("least") + found.numbers[asked["accuracy"]].unit)
page.say({f"flips-{name}": value for name, value in found.numbers["flips"].items()})


def differences(studies):
    """The verdicts of studies, whatever they tell; the older ones compare with normal training alone."""
    rows = kept.table(studies, "verdicts").drop(columns=["architecture", "filters"], errors="ignore")
    return rows.assign(against=rows.get("against", "normal"), why=rows.get("why", pd.Series("", rows.index)).fillna(""))


def in_order(rows, *index):
    """A table of differences as it is shown: objectives by their words, and first what a row is of."""
    return rows.replace({"objective": WORDS, "against": WORDS}).set_index([*index, "objective", "against", "measure"])


def means(study):
    """Each measure's mean over seeds, with the lowest and the highest seed."""
    return kept.cited(over_seeds(kept.table(study, "measures")).rename(columns=WORDS), study)


# %% [markdown]
# (p3-verdicts)=
# ## The verdicts

# %% tags=["hide-input"]
judged = found.ledger[found.ledger["chapter"] == "08_explanation_consistency"]
behind = kept.findings().query("claim in @judged.claim")["study"].unique()
page.table(
    kept.cited(found.evidence(judged["claim"]), *behind),
    "verdicts",
    "The verdicts on P3's claims, and on our own questions beside them: in how many cases each holds and fails, the "
    "pooled number with its 95 % interval, and the least difference that the median case could have shown. No number: "
    "no study counts, or a map of the image's centre does better than the networks, so that nothing can be told.",
)

# %% [markdown]
# The kept studies of {doc}`08_explanation_consistency` ask all this with several seeds. Only those count in the ledger
# whose numbers today's library would compute alike; the table above cites them. The other studies of this page are
# shown below all the same, and wait to be run again. {doc}`09_results_p1` says how studies are kept, {doc}`13_costs`
# what each was run on.
#
# In {glue:text}`flips-studies` studies, {glue:text}`flips-low` to {glue:text}`flips-high` % of the weight lies on
# images whose prediction changes when the background is attacked. So P3's weights say mostly *whether* a prediction
# changes, and hardly how firm its explanation is.
#
# ## A competent network
#
# EfficientNet-Lite0, which others trained on ImageNet, was trained on for two epochs on forty classes of Tiny ImageNet,
# with three seeds: normally, with weights of mean one, and with the same weights dealt to other images at random
# (*permuted*). The last is the null. A change that it makes as well is not due to *which* images weigh more.

# %% tags=["hide-input"]
verdicts = differences(warm)
page.figure(
    kept.cited(figures.differences(verdicts), warm),
    "warm",
    "What the weights change in EfficientNet-Lite0, three seeds: differences of shares, areas and E, with intervals of "
    "95 % over images and seeds. Filled marks are shown to be better or worse, open ones are not. Which images the "
    "weights choose counts only where weights of mean one also differ from permuted ones.",
    alt="Marks with intervals. "
    + in_words(verdicts.dropna(subset="p").set_index(["measure", "objective", "against"])["difference"])
    + ".",
)

# %% tags=["hide-input"]
page.table(
    means(warm),
    "warm-measures",
    "Every measure's mean over the seeds, with the lowest and the highest seed in brackets, beside chance and the "
    "untrained network. Accuracy, hits and IoU are shares, insertion and deletion are areas; all go from 0 to 1.",
)

# %% tags=["hide-cell"]
page.table(
    kept.cited(in_order(verdicts), warm),
    "warm-differences",
    "The numbers of the figure above, and the measures that are not judged, with the reason. Unit: what the interval "
    "covers. p is adjusted by Holm among the measures of one comparison.",
)

# %% [markdown]
# ## From random weights
#
# ResNet-18 was trained from random weights on forty classes of Tiny ImageNet, with three seeds: normally, with the
# paper's weights, with the same weights divided by their mean, with P1's Eq. 6, and with both papers' methods together
# (each image's Eq. 6 times its weight).
#
# This study is from before the rule of today. Its intervals cover other seeds alone, and share 95 % among the measures
# (Bonferroni). With ten measures and three seeds they reach fourteen standard errors to each side, so that only a very
# large difference could have been seen. The ledger leaves such studies out.

# %% tags=["hide-input"]
verdicts = differences(forty)
own = verdicts["objective"].str.startswith("reweighted") & (verdicts["against"] == "normal")
counts = verdicts.loc[own, "verdict"].value_counts()
page.say(
    {f"photographs-{word.replace(' ', '-')}": f"{counts.get(word, 0)}" for word in ("better", "worse", "not shown")}
)
page.say(photographs_differences=f"{counts.sum()}")
shown = verdicts[~verdicts["measure"].isin(["E under random signs", "share of the image spared"])]
page.figure(
    kept.cited(figures.differences(shown), forty),
    "forty",
    "What four trainings change in ResNet-18, three seeds: differences from normal training, with the wide intervals "
    "of the older rule. Filled marks are shown to be better or worse, open ones are not. A lower deletion is better.",
    alt="Marks with intervals. " + in_words(shown.set_index(["measure", "objective"])["difference"]) + ".",
)

# %% [markdown]
# Of the {glue:text}`photographs-differences` differences that P3's own two trainings make, shown to be for the better:
# {glue:text}`photographs-better`, for the worse: {glue:text}`photographs-worse`, not shown:
# {glue:text}`photographs-not-shown`. The paper claims better accuracy, localisation and robustness.
#
# Two measures say less than they seem to. E follows the *predicted* class, and the untrained network has the highest
# E. It says nothing where accuracies differ, as {doc}`08_explanation_consistency` explains. And a localisation says
# nothing where *chance*, a map of the image's centre, does better than the networks.

# %% tags=["hide-input"]
page.table(
    means(forty),
    "forty-measures",
    "Every measure's mean over the seeds, with the lowest and the highest seed in brackets, beside chance and the "
    "untrained network.",
)

# %% tags=["hide-cell"]
page.table(
    kept.cited(in_order(verdicts), forty),
    "forty-differences",
    "The numbers of the figure above, and the measures that no claim is about.",
)

# %% [markdown]
# What do the weights add to Eq. 6? The next table has networks trained with both methods, less those trained with Eq. 6
# alone:

# %% tags=["hide-input"]
older = kept.results[forty].tables.get("added")
added = verdicts[verdicts["against"] == "consistent"] if older is None else older.drop(columns="architecture")
page.table(
    kept.cited(added.set_index("measure"), forty),
    "added",
    "What P3's weights add to P1's Eq. 6: differences with the intervals of the older rule, three seeds.",
)

# %% [markdown]
# And do P3's networks have more consistent neurons, which is what P1 asks?

# %% tags=["hide-input"]
rows = kept.table(forty, "changes").drop(columns="labels")
page.table(
    kept.cited(rows[rows["first"].str.endswith("seeds")].set_index(["first", "second", "set"]), forty),
    "changes",
    "U of the last layer under true labels, on real images and on each network's own FGSM images: means over the "
    "seeds, and the differences with intervals of 95 %.",
)

# %% tags=["hide-cell"]
rows = kept.table(forty, "neurons").query("labels == 'true'").set_index(["model", "set"])
page.table(
    kept.cited(rows[["images", "m", "V", "V chance", "U", "U low", "U high", "U chance", "excluded"]], forty),
    "neurons",
    "V and U of the same networks one by one, each beside its chance level, under true labels; m is the number of "
    "active images of a neuron, excluded the share of neurons without enough of them.",
)

# %% [markdown]
# The same was asked on twelve classes, with less to learn from:

# %% tags=["hide-input"]
verdicts = differences(twelve)
page.table(
    means(twelve),
    "twelve-measures",
    "Every measure's mean over the seeds on twelve classes, with the lowest and the highest seed in brackets, beside "
    "chance and the untrained network.",
)

# %% tags=["hide-cell"]
page.table(
    kept.cited(in_order(verdicts), twelve),
    "twelve-differences",
    "The differences from normal training on twelve classes, with the intervals of the older rule.",
)

# %% [markdown]
# ## Does reweighting wean a network from backgrounds?
#
# In these rendered scenes each class has a background of its own, before which it stands in 50, 80 or 95 % of the
# training images. The *gap* is the accuracy before backgrounds of the object's own class, less that before those of
# another one. It tells what the background is worth to the network: the smaller the gap the better. Each study has
# three seeds. In the studies called *truth* the attack behind the weights spares the true object. There E does see the
# use of backgrounds, which with the network's own mask it cannot ({doc}`08_explanation_consistency`).

# %% tags=["hide-input"]
measures = [
    *("accuracy", "accuracy, same background", "accuracy, other background", "background gap"),
    *("E", "E, object spared"),
]
rows = kept.table(debiasing, "measures").replace({"study": "explanation-debiasing-"}, "", regex=True)
rows = rows[rows["seed"].notna() & rows["measure"].isin(measures)].replace({"objective": WORDS})
rows = rows.groupby(["study", "objective", "measure"], sort=False)["mean"].mean().unstack("measure")
page.table(
    kept.cited(rows[measures], *debiasing),
    "backgrounds",
    "Means over three seeds. Study: how many per cent of the training images show a class before its own background. "
    "Accuracies are shares (0 to 1), and the gap is the difference of two. Compare the gap of the weighted trainings "
    "with that of normal training.",
)

# %% tags=["hide-input"]
gaps = differences(debiasing).replace({"study": "explanation-debiasing-"}, "", regex=True)
gaps = gaps[gaps["measure"].isin(["accuracy", "accuracy, other background", "background gap"])]
words = gaps.loc[gaps["measure"] == "background gap", "verdict"].value_counts()
page.say({f"gap-{word.replace(' ', '-')}": f"{words.get(word, 0)}" for word in ("better", "worse", "not shown")})
gap = gaps[gaps["measure"] == "background gap"]
page.figure(
    kept.cited(figures.differences(gap.assign(measure="in %: " + gap["study"].str.replace("-", ", "))), *debiasing),
    "gaps",
    "How the background gap changes from normal training, with the wide intervals of the older rule, by how many per "
    "cent of the training images show a class before its own background. Left of zero the network relies less on "
    "backgrounds. Truth: the attack spares the true object.",
    alt="Marks with intervals. " + in_words(gap.set_index(["study", "objective"])["difference"]) + ".",
)

# %% tags=["hide-cell"]
page.table(
    kept.cited(in_order(gaps, "study"), *debiasing),
    "gap-differences",
    "The numbers of the figure above, and the differences of the accuracies.",
)

# %% [markdown]
# Of these comparisons of the gap, {glue:text}`gap-better` show reweighting to narrow it, {glue:text}`gap-worse` to
# widen it, and {glue:text}`gap-not-shown` neither.
#
# ## The open choices
#
# The paper leaves some choices open. Each was changed alone, on the rendered scenes of chapter 8 and with weights of
# mean one: the distance between two explanations, how much of a map counts as background, how often weights are
# renewed, and whose mask the attack spares. Each has one seed, so a verdict is of these two networks alone. E is
# measured as it was trained with: with the distance and the threshold of its row.

# %% tags=["hide-input"]
measures = ["accuracy", "accuracy, FGSM", "background gap", "pointing game", "pointing game, off centre", "box IoU"]
measures += ["box IoU, off centre", "E", "E of right answers", "E, object spared"]
rows = differences(ablations).replace({"study": "explanation-ablation-"}, "", regex=True)
rows = rows[rows["measure"].isin(measures)].rename(columns={"study": "changed"}).set_index(["measure", "changed"])
page.table(
    kept.cited(rows.drop(columns=["objective", "against", "why"]).sort_index(), *ablations),
    "choices",
    "Weights of mean one less normal training, by what was changed: the distance (iou, rank, ssim), the period of "
    "renewal, the threshold of the mask, and the mask (truth). Intervals of 95 % cover images of one seed.",
)

# %% [markdown]
# ## Summary
#
# - P3's weights change accuracy by {glue:text}`accuracy`: that they raise it, *{glue:text}`accuracy-verdict`*. Accuracy
#   under FGSM changes by {glue:text}`fgsm` (*{glue:text}`fgsm-verdict`*), under PGD by {glue:text}`pgd`
#   (*{glue:text}`pgd-verdict`*).
# - Against the same weights, dealt to other images at random, accuracy differs by {glue:text}`choice`. Without such a
#   difference an effect is not due to explanations.
# - E of right answers changes by {glue:text}`holds` (*{glue:text}`holds-verdict`*).
# - Of the comparisons of the background gap, {glue:text}`gap-better` show it narrower. Their rule is an older one that
#   only a very large difference passes.
# - Where the explanations of the networks are worse than a map of the image's centre, localisation cannot be told.
