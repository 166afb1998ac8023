# %% [markdown]
# # What we found
#
# **The question.** A neuron of a vision network fires for some images and not for others. If these images belong
# together, dogs say, we call it a dog detector and explain the network by it. Does such a neuron keep its meaning when
# images are attacked, changed so little that nobody sees it, and yet so that the network errs?

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

# %% tags=["parameters"]
# how it runs
profile: str = "demo"  # only names the run: this page trains nothing
device: str = "auto"  # unused here; every page has it

# %% tags=["remove-input"]
from neuron_consistency.book.found import Found
from neuron_consistency.book.found_figure import alt_text, found_figure
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page

page, kept = open_page("00_what_we_found", globals()), Kept.read()
found = Found(kept)
page.say(found_counts=found.counts(), found_outdated=f"{len(kept.outdated())} of {len(kept.studies)}")
found.html("answer")

# %% tags=["remove-input"]
studies = list(found.left["study"].unique())
page.figure(
    kept.cited(found_figure(found.left), *studies),
    "left",
    "How much of the consistency of its neurons a network keeps, in per cent: 100 on real images, 0 at chance. Blue "
    "dots: attacked images, sorted by what they show; little is left. Orange squares: the same images, sorted by what "
    "the network says they are; much more is left. Open diamonds: images that it gets wrong without any attack. A line "
    "a network, with the share of clean images that it gets right. 12 and 40 classes are of Tiny ImageNet; networks of "
    "ImageNet and CIFAR-10 were trained by others, and “trained on” says that we went on. FGSM of 4/255, last layer, "
    "intervals of 95 %. An interval may reach beyond the picture.",
    alt=alt_text(found.left),
)

# %% [markdown]
# ## The findings
#
# *U*, the consistency of a neuron, says how near to each other the classes are of the images that fire it: 1 if all are
# of one class; a neuron without meaning has U at *chance*. In brackets: the interval of 95 %, the verdict of the
# {doc}`ledger <14_claims>`, and how many cases (networks, or attacks on one) show it.

# %% tags=["remove-input"]
found.html("found")

# %% [markdown]
# ## Whose claims these are
#
# - **P1** {cite}`dong2019towards` measures with WordNet how consistent a neuron's images are, finds that attacks lower
#   it, and proposes a *consistent loss* that keeps an image's features where they are under attack.
# - **P2** {cite}`dong2017towards`, its longer first version, looks at images made to fool several networks at once, and
#   traces predictions and errors to the neurons behind them.
# - **P3** {cite}`wu2024improving` trains with more weight on images whose *explanation*, a heat map, gives way when
#   only their background is attacked.
#
# ## What is new here, and how sure it is
#
# The papers do not ask these questions. *Could be seen* is the least difference that the median case could have shown.
#
# - Do neurons become ambiguous, or do they follow the network's decision? Every consistency is measured under both
#   kinds of label, and beside ordinary mistakes.
# - Is the cure of neurons more than transfer? Trained networks also face images that were made to fool *them*.
# - What does the consistent loss add? Beside it stands the same training without it: plain adversarial training.
# - What does reweighting weigh? Beside it stand the same weights, dealt to other images at random.

# %% tags=["remove-input"]
asked = ["related-by-training", "ambiguous-not-obedient", "errors-alike", "cure-on-own-images"]
asked += ["consistent-loss-adds", "choice-accuracy"]
page.table(
    kept.cited(found.evidence(asked), *kept.findings().query("claim in @asked")["study"].unique()),
    "sure",
    "Verdict, cases, pooled number with its interval, and the least difference that could be seen.",
)

# %% [markdown]
# ## What we do not know

# %% tags=["remove-input"]
found.html("unknown")

# %% [markdown]
# Nor do we know whether all this is so at the papers' own size. They train on all thousand classes of ImageNet; our own
# trainings stop at forty classes and small images. Most cases are few networks with one to three seeds, so an effect
# may well be there and be smaller than what could be seen.
#
# ## The whole ledger
#
# {glue:text}`found-counts` The {doc}`ledger <14_claims>` shows each with its cases. Studies whose numbers today's
# library would compute otherwise are not counted until they are run again: {glue:text}`found-outdated`. What is kept
# of them, and all tables behind this page: {doc}`09_results_p1`, {doc}`10_results_p2` and {doc}`12_results_p3`.
