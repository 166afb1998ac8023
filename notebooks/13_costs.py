# %% [markdown]
# # What it cost
#
# What do the measures and trainings of this book take, where is the library fast, and what stands behind the kept
# studies: on which machine, from which commit, for how long? An appendix to {doc}`09_results_p1`,
# {doc}`10_results_p2` and {doc}`12_results_p3`.

# %% tags=["parameters"]
# how it runs
profile: str = "demo"  # only names the run: this page trains nothing
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-input"]
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.book.stamps import cited
from neuron_consistency.show import with_intervals
from neuron_consistency.workflow.results import read_result

page, kept = open_page("13_costs", globals()), Kept.read()
benchmarks, growth = read_result("benchmarks"), read_result("growth")

# %% [markdown]
# ## What is fast
#
# `make bench` times every fast path of the library beside a plain way to the same result, in turns. {doc}`/scaling`
# says how to read it.

# %% tags=["hide-input"]
print(f"{benchmarks.record['device']}, PyTorch {benchmarks.record['torch']}, commit {benchmarks.record['commit']}")
timed = benchmarks.tables["table"].drop(columns="apart").set_index(["work", "against", "on"])
timed = with_intervals(timed, decimals=2)
page.say(benchmarks=timed)
cited(timed, benchmarks.record)

# %% [markdown]
# Where the time of a training step goes, in per cent, as the profiler sees it. What an optimiser does in many small
# operations counts among the sums and the rest; kinds that no step has are left out.

# %% tags=["hide-input"]
profiled = benchmarks.tables["profile"].set_index("operation").round(1)
profiled = profiled[(profiled > 0).any(axis=1)]
page.say(step_profile=profiled)
cited(profiled, benchmarks.record)

# %% [markdown]
# The streaming pass over one layer on one thread: seconds and memory as images and channels grow, and the exponents of
# the power law fitted to each (1 is linear).

# %% tags=["hide-input"]
grown = growth.tables["growth"].set_index(["grows", "images", "channels"]).round(2)
page.say(growth=grown)
cited(grown, growth.record)

# %% [markdown]
# ## The studies
#
# *Library* says whether the library still computes what it computed when the study ran: no version of what it measures
# was raised since. *Training s* are the seconds of training of all its networks on the device named, *run s* those of
# the notebook, with the trainings that it found undone; blank: run before that was recorded.

# %% tags=["hide-input"]
overview = kept.overview()
overview

# %% [markdown]
# In hours. A study whose networks an earlier one had trained counts their training again, so the column does not add
# up to what was spent:

# %% tags=["hide-input"]
hours = (overview[["training s", "run s"]] / 3600).round(2).set_axis(["training h", "run h"], axis=1)
spent = overview[["on"]].join(hours.astype(object).fillna(""))
page.say(spent=spent)
spent
