# The workflow: one training a network, one run a notebook, then the pages. `make book` calls it, after it has written
# the list of networks; `make book WORKFLOW="--executor slurm --jobs 20"` takes the same rules to a cluster.
import json
from pathlib import Path

from neuron_consistency.artifacts import artifacts, read_json, repository_root
from neuron_consistency.workflow.run import injected_parameters

PROFILE = config.get("profile", "demo")
SITE = config.get("site", "book")
DEVICE = config.get("device", "")
OPTIONS = f"--profile {PROFILE}" + (f" --device {DEVICE}" if DEVICE else "")
RUN = "OMP_NUM_THREADS={threads} " + f"{sys.executable} -m neuron_consistency.workflow"
PROCESSES = int(config.get("processes", 1))
TORCHRUN = f"-m torch.distributed.run --standalone --nproc-per-node {PROCESSES} " if PROCESSES > 1 else ""

NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
MODELS = artifacts(PROFILE) / "models"
STEMS = [plan["stem"] for plan in read_json(artifacts(PROFILE) / "plans.json")["plans"]]
PROSE = [
    str(path)
    for path in sorted(Path("book").rglob("*"))
    if path.is_file() and path.parts[1] not in ("notebooks", "_build")
]
RESULTS = [path for path in PROSE if path.startswith("book/results/")]

# Trainings share the cores of a processor evenly; a graphics card, or several, train one network at a time.
missing = sum(not (MODELS / f"{stem}.safetensors").exists() for stem in STEMS)
card = DEVICE != "cpu" and Path("/dev/nvidia0").exists()
at_once = int(config.get("trainings", 1 if card or TORCHRUN else max(1, missing)))
cores = workflow.cores or 1


wildcard_constraints:
    notebook="[^/]+",
    model="[^/]+",


rule book:
    input:
        f"{SITE}/_build/html/index.html",
    default_target: True


# What a training computes is all in the key that its file name holds, so nothing else sets it off.
rule train:
    output:
        weights=str(MODELS / "{model}.safetensors"),
        record=str(MODELS / "{model}.json"),
    threads: max(1, cores // at_once)
    params:
        each=lambda wildcards, threads: max(1, threads // PROCESSES),
    priority: 1
    shell:
        "OMP_NUM_THREADS={params.each} "
        + f"{sys.executable} {TORCHRUN}-m neuron_consistency.workflow"
        + " train {wildcards.model} "
        + OPTIONS


# The script, not the .ipynb: the pair agrees, and saving outputs in Jupyter is no change.
rule notebook:
    input:
        script="notebooks/{notebook}.py",
        library=[str(path) for path in sorted(Path("lib").rglob("*.py"))],
        models=lambda wanted: (
            [] if wanted.notebook.startswith("01") else [str(MODELS / f"{stem}.safetensors") for stem in STEMS]
        ),
        results=lambda wanted: RESULTS if wanted.notebook.startswith(("09", "10")) else [],
        chapters=lambda wanted: (  # the ledger reads what they found
            [f"{SITE}/notebooks/{name}.ipynb" for name in NOTEBOOKS if name < "09"]
            if wanted.notebook.startswith("10")
            else []
        ),
        claims=lambda wanted: "notebooks/claims.yaml" if wanted.notebook.startswith("10") else [],
    output:
        f"{SITE}/notebooks/{{notebook}}.ipynb",
    params:
        profile=PROFILE,
        values=lambda wanted: json.dumps(
            injected_parameters(repository_root() / f"notebooks/{wanted.notebook}.ipynb", PROFILE, DEVICE),
            sort_keys=True,
        ),
    threads: max(1, cores // 2)
    shell:
        RUN + " run {wildcards.notebook} {output} " + OPTIONS


rule html:
    input:
        [f"{SITE}/notebooks/{name}.ipynb" for name in NOTEBOOKS],
        PROSE,
        "_config.yml",
        [str(path) for path in sorted(Path("lib").rglob("*.py"))],
    output:
        f"{SITE}/_build/html/index.html",
    threads: cores
    shell:
        f"{sys.executable} -m neuron_consistency.workflow html --site {SITE}"
