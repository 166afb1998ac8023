# %% [markdown]
# # The ledger of claims
#
# Every claim of the three papers that can be measured, and the questions that they leave open, each with the number
# that decides. None of our numbers on this page is typed. They come from the studies kept with the book
# ({doc}`09_results_p1`, {doc}`10_results_p2`, {doc}`12_results_p3`, {doc}`15_own_network`): runs on photographs, and on
# rendered scenes over several seeds. Only these are counted. What the chapters of this build found stands beside them
# as an example: they train each network once, and one seed of a small training changes from machine to machine.
#
# **The rule is one for all.** A case is a network, or a group of seeds of one training, perhaps under one attack. A
# claim *holds* for a case where the whole interval of 95 % lies on its side of the line, and *fails* where it lies on
# the other. The verdict on the claim is about more than half of its cases, by the partial conjunction of Benjamini and
# Heller. All claims are one family, and their p values are adjusted by Holm: were none of them true, one such ledger in
# twenty would give any verdict. A claim then
#
# - *holds*, or *mostly holds* where some case fails; *fails*, or *mostly fails*, likewise;
# - *differs by case* where a case holds, another fails, and neither side has shown its majority;
# - *cannot be told* where that is not so either;
# - *holds for the null too* where something without meaning, such as a network of random weights, passes as well;
# - is true *by construction* where it would hold whatever a network had learned. That is said and not counted.
#
# The number under a verdict is the mean over the cases with an interval that covers other cases of their kind (of a
# random-effects model, with the interval of Knapp and Hartung), so two or three networks that differ give a wide one.
# Then follows half the interval of the median case: a smaller difference would not have been seen. Intervals of one
# seed say how far other images could have moved a number, not other seeds.

# %% tags=["parameters"]
# how it runs
profile: str = "demo"  # whose chapters are read: artifacts/<profile>/
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-input"]
import pandas as pd

from neuron_consistency.book.kept import Kept
from neuron_consistency.book.ledger import counted, judged, ledger_page
from neuron_consistency.book.page import open_page
from neuron_consistency.show import with_intervals
from neuron_consistency.workflow.claims import read_claims, read_findings

page, kept, claims = open_page("14_claims", globals()), Kept.read(), read_claims()
found, here = kept.findings(), read_findings(profile)
table, example = judged(claims, found), judged(claims, here)
page.say(ledger_claims=f"{len(table)}", ledger_profile=profile, ledger_outdated=", ".join(kept.outdated()) or "none")
papers = {"the papers": table[table["paper"] != "ours"], "our own questions": table[table["paper"] == "ours"]}
pd.DataFrame({f"claims of {of}" if of == "the papers" else of: counted(rows) for of, rows in papers.items()})

# %% [markdown]
# These are {glue:text}`ledger-claims` claims and questions. *This run* is of the profile {glue:text}`ledger-profile`.
# Studies whose numbers the library would compute otherwise by now are left out until they are run again:
# {glue:text}`ledger-outdated`.
#
# ## P1: neurons, ambiguity, the consistent loss

# %% tags=["hide-input"]
chapter = table["chapter"].str[:2]
ledger_page(table[chapter.isin(["04", "05"])], example)

# %% [markdown]
# ## P2: the adversarial set, tracing

# %% tags=["hide-input"]
ledger_page(table[chapter.isin(["06", "07"])], example)

# %% [markdown]
# ## P3: explanation consistency

# %% tags=["hide-input"]
ledger_page(table[chapter == "08"], example)

# %% [markdown]
# ## Case by case
#
# The cases of the studies, in a long table that opens; the name of the study stands in brackets.

# %% tags=["hide-cell"]
with_intervals(found.astype({"value": float, "low": float, "high": float}).set_index(["claim", "case"]).sort_index())
