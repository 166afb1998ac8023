# %% [markdown]
# # The ledger of claims
#
# :::{admonition} In short
# :class: in-short
#
# **Question.** What of all that the three papers claim do our studies find again, and what is the answer to the
# questions that the papers leave open?
#
# **Answer.** Of the {glue:text}`ledger-papers` claims of the papers, {glue:text}`ledger-papers-say`. Of our
# {glue:text}`ledger-ours` own questions, put as claims, {glue:text}`ledger-ours-say`.
#
# **The number that decides.** The p value of each claim, adjusted for all claims on this page: below 0.05 gives a
# verdict.
#
# **Change it yourself.** No parameter changes this page. A study does: `make results N=evaluation-photographs` runs one
# again ({doc}`/running`), and the ledger counts what it finds.
# :::
#
# No number of ours on this page is typed: all come from the studies that are kept with the book, and each case links to
# the study's record. The studies themselves are told in {doc}`09_results_p1`, {doc}`10_results_p2`,
# {doc}`12_results_p3` and {doc}`15_own_network`.

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
profile: str = "demo"  # whose chapters are read: artifacts/<profile>/
device: str = "auto"  # unused here; every page has it

# %% tags=["remove-input"]
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.ledger import case_by_case, judged
from neuron_consistency.book.ledger_page import case_tables, example_table, ledger_list, verdicts_in_words
from neuron_consistency.book.page import open_page
from neuron_consistency.workflow.claims import read_claims, read_findings

page, kept, claims = open_page("14_claims", globals()), Kept.read(), read_claims()
found = kept.findings()
table, example = judged(claims, found), judged(claims, read_findings(profile))
ours, outdated = table["paper"] == "ours", kept.outdated()
page.say(ledger_papers=int((~ours).sum()), ledger_papers_say=verdicts_in_words(table[~ours]))
page.say(ledger_ours=int(ours.sum()), ledger_ours_say=verdicts_in_words(table[ours]))
page.say(ledger_outdated=len(outdated), ledger_studies=len(kept.studies), ledger_profile=profile)

# %% [markdown]
# ## The claims

# %% tags=["remove-input"]
ledger_list(table, example)

# %% [markdown]
# ## The rule
#
# One rule gives all verdicts. A *case* is a network, or a group of seeds of one training, perhaps under one attack. The
# claim holds for a case where the whole interval of 95 % lies on the claim's side of the line, and fails where it lies
# on the other side. The verdict is about more than half of the cases (the partial conjunction of Benjamini and Heller),
# with p values adjusted by Holm: were no claim true, one ledger in twenty would give any verdict. A claim
#
# - *holds* or *fails*; it *mostly holds* or *mostly fails* where some case says the contrary;
# - *differs by case* where a case holds and another fails, and neither side is surely more than half: a draw, or a
#   majority that is not sure, as the numbers of cases tell;
# - *cannot be told* where none of this is so: the claim itself says why;
# - *holds for the null too* where something without meaning, such as a network of random weights, passes as well;
# - is true *by construction* where it would hold whatever a network had learned. That is said and not counted;
# - is *not measured* where no study that is up to date measures it.
#
# The number of a claim is the mean over its cases, and its interval covers other cases of their kind (a random-effects
# model, with the interval of Knapp and Hartung), so two or three networks that differ give a wide one. The smallest
# difference that could have been shown is half the interval of the median case. The interval of a single seed says how
# far other images could have moved a number, not how far another seed could have.
#
# Of {glue:text}`ledger-studies` studies, {glue:text}`ledger-outdated` are left out until they are run again, since the
# library would compute their numbers otherwise by now ({doc}`/running`).
#
# ## Case by case
#
# The cases behind each claim that is measured. A row links to the record of its study, to the table that the number
# stands in or follows from, and back to the claim.

# %% tags=["remove-input"]
case_tables(table, case_by_case(claims, found), kept.studies)

# %% [markdown]
# ## Beside the studies
#
# The chapters of this build train each network once, with the profile {glue:text}`ledger-profile`. What they find is
# an example and is not counted: one seed of a small training changes from machine to machine.

# %% tags=["remove-input"]
example_table(example)
