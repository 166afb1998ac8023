# The workflow: one training a network, one run a notebook or a study, then the pages. `make book` and `make results` call
# it, after they have written which networks the book wants; `make book WORKFLOW="--executor slurm --jobs 20"` takes the
# same rules to a cluster.
import json
import logging
import os
import shlex
from modulefinder import ModuleFinder
from pathlib import Path

from snakemake.logging import LogEvent, get_event

from neuron_consistency.artifacts import artifacts, read_json
from neuron_consistency.workflow.parameters import notebooks, profile_parameters

PROFILE = config.get("profile", "demo")
SITE = config.get("site", "book")
DEVICE = config.get("device") or ""
PROCESSES = int(config.get("processes", 1))



def quoted(text):
    """A text as one word of a shell command in which braces name wildcards."""
    return shlex.quote(str(text)).replace("{", "{{").replace("}", "}}")


PYTHON = quoted(sys.executable)
RUN = f"{PYTHON} -m neuron_consistency.workflow"
TOGETHER = f"-m torch.distributed.run --standalone --nproc-per-node={PROCESSES} " if PROCESSES > 1 else ""
TRAIN = f"{PYTHON} {TOGETHER}-m neuron_consistency.workflow train"

NOTEBOOKS = [path.stem for path in notebooks()]


def inside(folder):
    """A folder of this checkout as seen from it, so that the names of those above it mean nothing here."""
    here = os.path.relpath(folder)
    return folder if here.startswith("..") else Path(here)


MODELS = inside(artifacts(PROFILE) / "models")
CURRENT = MODELS / "current.json"
WANTED = read_json(CURRENT, book=list)["book"] if CURRENT.exists() else []
NETWORKS = [str(MODELS / f"{net['name']}.safetensors") for net in WANTED]
PROSE = [
    str(path)
    for path in sorted(Path("book").rglob("*"))
    if path.is_file() and path.parts[1] not in ("notebooks", "_build")
]
RESULTS = [path for path in PROSE if path.startswith("book/results/")]
LIBRARY = sorted(str(path) for ending in ("py", "tsv") for path in Path("lib").rglob(f"*.{ending}"))
WITHOUT = ("01", "03", "16")  # pages that tell nothing of kept results, by number
LEDGER = "14_claims"  # the last of them
CARD = DEVICE != "cpu" and Path("/dev/nvidia0").exists()
CORES = workflow.cores or 1


def told(record):
    """Whether the terminal shows it: what there is to do, what is done and what failed; the steps say the rest."""
    shown = get_event(record) in (LogEvent.RUN_INFO, LogEvent.PROGRESS) or record.getMessage().startswith("Nothing")
    return shown or record.levelno > logging.INFO


def library_of(wanted):
    """The files of the library that a notebook imports, at first or second hand, and all that hold or read data."""
    finder = ModuleFinder(path=["lib"])
    finder.run_script(f"notebooks/{wanted.notebook}.py")
    imported = {str(Path(module.__file__).resolve()) for module in finder.modules.values() if module.__file__}
    return [path for path in LIBRARY if str(Path(path).resolve()) in imported or "/data/" in path or path[-3:] == "tsv"]


for handler in logger.handlers:
    if not isinstance(handler, logging.FileHandler):
        handler.addFilter(told)


wildcard_constraints:
    notebook="[^/]+",
    model="[^/]+",
    study="[^/]+",


rule book:
    input:
        f"{SITE}/_build/html/index.html",
    default_target: True


# What a training computes is all in the key that its file name holds: only a missing file sets it off. Where it runs
# and how stands in its resources, which no other file depends on. One processor core trains one network, with the same
# sums wherever it is; graphics cards train one network at a time.
rule train:
    output:
        weights=str(MODELS / "{model}.safetensors"),
        record=str(MODELS / "{model}.json"),
    resources:
        device=DEVICE or "auto",
    threads: CORES if CARD else PROCESSES
    priority: 1
    shell:
        f"OMP_NUM_THREADS=1 {TRAIN} {{wildcards.model}} --profile {quoted(PROFILE)} --device {{resources.device:q}}"


# The script, not the .ipynb: the pair agrees, and saving outputs in Jupyter is no change.
rule notebook:
    input:
        script="notebooks/{notebook}.py",
        library=library_of,
        models=lambda wanted: [] if wanted.notebook.startswith("01") else NETWORKS,
        results=lambda wanted: [] if wanted.notebook[:2] in WITHOUT else RESULTS,
        chapters=lambda wanted: (  # the ledger reads what they found
            [f"{SITE}/notebooks/{name}.ipynb" for name in NOTEBOOKS if "01" <= name < "09"]
            if wanted.notebook == LEDGER
            else []
        ),
        claims=lambda wanted: [] if wanted.notebook[:2] in WITHOUT else "notebooks/claims.yaml",
        words=lambda wanted: "notebooks/found.yaml" if wanted.notebook[:2] == "00" else [],
    output:
        f"{SITE}/notebooks/{{notebook}}.ipynb",
    params:
        values=lambda wanted: json.dumps(profile_parameters(PROFILE, wanted.notebook, DEVICE), sort_keys=True),
    threads: max(1, CORES // 2)
    shell:
        "OMP_NUM_THREADS={threads} "
        + f"{RUN} run {{wildcards.notebook}} {{output:q}} --profile {quoted(PROFILE)} --device {quoted(DEVICE)}"


# One at a time, since studies share networks. Its tables go to book/results/ once it is whole, which hold their record:
# `make results` asks for those whose record is not what the study and the library ask for.
rule study:
    output:
        str(inside(artifacts("studies")) / "{study}.ipynb"),
    threads: CORES
    shell:
        "OMP_NUM_THREADS={threads} " + f"{RUN} study {{wildcards.study}} {{output:q}} --device {quoted(DEVICE)}"


rule pages:
    input:
        [f"{SITE}/notebooks/{name}.ipynb" for name in NOTEBOOKS],
        PROSE,
        "_config.yml", "tools/book_site.py", "tools/search_rank.js",
        LIBRARY,
    output:
        f"{SITE}/_build/html/index.html",
    threads: CORES
    shell:
        f"{RUN} pages --site {quoted(SITE)}"
