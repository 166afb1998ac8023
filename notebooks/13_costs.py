# %% [markdown]
# # What it cost
#
# :::{admonition} In short
# :class: in-short
# **Question.** What do the measures and trainings of this book take, and what stands behind the kept studies?
#
# **Answer.** The {glue:text}`studies` kept studies trained for {glue:text}`training-hours` hours and ran for
# {glue:text}`run-hours` hours, all of them on processors without a graphics card.
#
# **What to look at.** {ref}`The studies <the-studies>`: for each, the machine, the commit and the time, and whether the
# library would compute the same numbers now. Today it would for {glue:text}`current` of them.
# :::
#
# This page is an appendix to {doc}`09_results_p1`, {doc}`10_results_p2` and {doc}`12_results_p3`.

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

# %% tags=["hide-input"]
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.book.stamps import cited
from neuron_consistency.workflow.results import read_result

page, kept = open_page("13_costs", globals()), Kept.read()
benchmarks, growth = read_result("benchmarks"), read_result("growth")
timed = benchmarks.tables["table"].drop(columns="apart").set_index(["work", "against", "on"])
page.say(benchmark_device=benchmarks.record["device"], benchmark_torch=benchmarks.record["torch"])
page.table(
    cited(timed, benchmarks.record),
    "benchmarks",
    "Every fast path of the library, timed in turns beside a plain way to the same result; the intervals are of 95 %.",
    decimals=2,
)

# %% [markdown]
# ## What is fast
#
# `make bench` made the table above on this device: {glue:text}`benchmark-device`, PyTorch {glue:text}`benchmark-torch`.
# {doc}`/scaling` says how to read it.
#
# Where does the time of a training step go? What an optimiser does in many small operations counts among the sums and
# the rest; kinds that no step has are left out.

# %% tags=["hide-input"]
profiled = benchmarks.tables["profile"].set_index("operation")
page.table(
    cited(profiled[(profiled > 0).any(axis=1)], benchmarks.record),
    "step-profile",
    "Share of a training step's time that each kind of operation takes, in per cent, as PyTorch's profiler sees it.",
    decimals=1,
)

# %% [markdown]
# The streaming pass over one layer on one thread, as images and channels grow:

# %% tags=["hide-input"]
grown = growth.tables["growth"].set_index(["grows", "images", "channels"])
page.table(
    cited(grown, growth.record),
    "growth",
    "Seconds and memory of the pass, with the exponents of the power law fitted to each; 1 is linear growth.",
    decimals=2,
)

# %% [markdown]
# (the-studies)=
# ## The studies
#
# *Library* says whether the library still computes what it computed when the study ran: no version of what it measures
# was raised since. *Training h* are the hours of training of all its networks on the device named. *Run h* are those
# of the notebook, with the trainings that it found undone; they are missing where a study ran before they were
# recorded. A study whose networks an earlier one had trained counts their training again, so the hours do not add up
# to what was spent.

# %% tags=["hide-input"]
overview = kept.overview()
hours = overview[["training s", "run s"]] / 3600
overview.insert(overview.columns.get_loc("training s"), "training h", hours["training s"])
overview.insert(overview.columns.get_loc("run s"), "run h", hours["run s"])
page.say(studies=len(overview), current=int((overview["library"] == "the same").sum()))
page.say(training_hours=f"{hours['training s'].sum():.0f}", run_hours=f"{hours['run s'].sum():.0f}")
page.table(
    overview.drop(columns=["training s", "run s"]),
    "studies",
    "The kept studies: what each measured, on which images and seeds, from which commit, and for how many hours.",
    decimals=2,
)
