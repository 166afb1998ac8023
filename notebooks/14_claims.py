# %% [markdown]
# # The ledger of claims
#
# Every claim of the three papers that can be measured, and the questions that they leave open, each with the number
# that decides. None of our numbers on this page is typed: they come from the chapters as they were last run with this
# profile, and, for photographs, from the studies kept with the book ({doc}`09_results_p1`, {doc}`10_results_p2`,
# {doc}`12_results_p3`).
#
# The rule is one for all. A claim *holds* for a case (a network, perhaps under one attack) where the whole interval of
# 95 % lies on its side of the line, *fails* where it lies on the other, and else *cannot be told*. Over its cases
# it is *reproduced* where it holds in all, *not reproduced* where it holds in none and fails in some, and *partly*
# reproduced in between. Where no case is settled, the half-width of the narrowest interval tells the least difference
# that could have been seen. Most chapters train each network once: their intervals say how far other images could
# have moved a number, not other seeds. Those of chapter 5 are over neurons, and where its neurons stand for no concepts
# beyond chance, what an attack changes in their number says little.

# %% tags=["parameters"]
# how it runs
profile: str = "demo"  # whose chapters are read: artifacts/<profile>/
device: str = "auto"  # unused here; every page has it

# %% tags=["hide-input"]
import pandas as pd

from neuron_consistency.show import with_intervals
from neuron_consistency.workflow.claims import counted, ledger, ledger_page, read_claims, read_findings
from neuron_consistency.workflow.kept import Kept
from neuron_consistency.workflow.page import open_page

page, kept = open_page("14_claims", globals()), Kept.read()
here, photographs = f"this run ({profile})", "photographs"
settings = {here: read_findings(profile), photographs: kept.findings("photographs")}
table = ledger(read_claims(), settings)
for setting, short in ((here, "here"), (photographs, "photographs")):
    page.say({f"ledger-{short}-{word.replace(' ', '-')}": f"{n}" for word, n in counted(table, setting).items()})
page.say(ledger_claims=f"{len(table)}")

# %% [markdown]
# | of {glue:text}`ledger-claims` claims | this run | photographs |
# | --- | --- | --- |
# | reproduced | {glue:text}`ledger-here-reproduced` | {glue:text}`ledger-photographs-reproduced` |
# | partly | {glue:text}`ledger-here-partly` | {glue:text}`ledger-photographs-partly` |
# | not reproduced | {glue:text}`ledger-here-not-reproduced` | {glue:text}`ledger-photographs-not-reproduced` |
# | cannot be told | {glue:text}`ledger-here-cannot-be-told` | {glue:text}`ledger-photographs-cannot-be-told` |
# | not measured | {glue:text}`ledger-here-not-measured` | {glue:text}`ledger-photographs-not-measured` |
#
# Under a verdict stands the number with its interval, or, for several networks, its span and in how many the claim
# holds.
#
# ## P1: neurons, ambiguity, the consistent loss

# %% tags=["hide-input"]
chapter = table["tested in"].str[:2]
ledger_page(table[chapter.isin(["04", "05"])], list(settings))

# %% [markdown]
# ## P2: the adversarial set, tracing

# %% tags=["hide-input"]
ledger_page(table[chapter.isin(["06", "07"])], list(settings))

# %% [markdown]
# ## P3: explanation consistency
#
# Here the intervals of one table of differences share their 95 %, and on photographs the unit is the seed
# ({doc}`08_explanation_consistency`).

# %% tags=["hide-input"]
ledger_page(table[chapter == "08"], list(settings))

# %% [markdown]
# ## Case by case

# %% tags=["hide-input"]
cases = pd.concat(settings, names=["setting"]).reset_index("setting").reset_index(drop=True)
with_intervals(cases.set_index(["claim", "setting", "case"]).sort_index())
