"""The book: what is out of date is run by Snakemake, the pages are built with warnings as errors, then checked."""

import hashlib
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import artifacts, read_json, repository_root, write_json
from neuron_consistency.errors import DatasetError, NeuronConsistencyError
from neuron_consistency.workflow.pairs import sync_pairs
from neuron_consistency.workflow.run import injected_parameters

DATA = "NEURON_CONSISTENCY_DATA"
# What Snakemake says besides the jobs to do, the steps done and the jobs' own lines; errors are in those lines.
CHATTER = re.compile(
    r"Assuming unrestricted|Building DAG|Using shell|Provided|Rules claiming|Select jobs"
    r"|Execute \d+ jobs|\[\w{3} \w{3} +\d+ [\d:]+ \d+\]|Finished jobid|Nothing to be done|RuleException"
    r"|CalledProcessError in file|Command '|Shutting down|Exiting because|Complete log|Elapsed time"
    r"|WorkflowError:$|At least one job|Removing"
)
STAMP = 'class="provenance"'  # of the line under a table or figure, from `stamps`
BUILT = ("notebooks", "_build")  # what a build writes into its site folder


def _plans_file(profile: str) -> Path:
    return artifacts(profile) / "plans.json"


def _state(root: Path, profile: str, device: str | None, site: Path, plans: list[dict[str, Any]]) -> str:
    """A hash of every file that a build reads or writes, by size and time."""
    results = [artifacts(profile) / "models" / f"{plan['stem']}.safetensors" for plan in plans]
    results += [root / site / "_build" / "html" / "index.html", root / site / "notebooks"]
    results += (root / site / "notebooks").glob("*.ipynb")
    sources = [root / name for name in ("_config.yml", "Snakefile", "requirements.lock", "notebooks")]
    sources += (root / "notebooks").glob("**/*.*")
    sources += (root / "lib").glob("**/*.py")
    sources += [path for path in (root / "book").rglob("*") if path.parts[len(root.parts) + 1] not in BUILT]
    lines = [f"{profile} {device}"]
    for path in sorted({*results, *sources}):
        status = path.stat() if path.exists() else None
        lines.append(f"{path} {status and (status.st_size, status.st_mtime_ns)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _nothing_changed(root: Path, profile: str, device: str | None, site: Path) -> bool:
    """Whether the last build ended well and no file has changed since: then not even Snakemake is asked.

    Importing Snakemake and torch costs more than everything else in that case. Where photographs come from a data
    folder, which may be large, it always says no.
    """
    file = _plans_file(profile)
    if os.environ.get(DATA) or not file.is_file():
        return False
    last = read_json(file)
    if last.get("state") != _state(root, profile, device, site, last["plans"]):
        return False
    entries = [{"key": plan["key"], "spec": plan["spec"]} for plan in last["plans"]]
    write_json(artifacts(profile) / "models" / "current.json", {"book": entries, "chosen": []})
    return True


def _clear_lock(root: Path) -> None:
    """Remove the lock that a killed Snakemake left; one whose process lives is an error that names it."""
    import psutil

    locks = list((root / ".snakemake" / "locks").glob("*"))
    if not locks:
        return
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words, folder = process.info["cmdline"] or [], process.info["cwd"]
        if any(Path(word).name == "snakemake" for word in words[:4]) and folder and Path(folder) == root:
            raise NeuronConsistencyError(
                f"the workflow runs here already (process {process.info['pid']}): wait for it, or end it"
            )
    for lock in locks:
        lock.unlink(missing_ok=True)
    print("cleared the lock of a run that was killed", flush=True)


def make_book(
    profile: str,
    device: str | None,
    site: Path,
    cores: int,
    more: Sequence[str] = (),
    *,
    processes: int = 1,
    strict: bool = False,
) -> int:
    """Run the trainings and notebooks that are out of date, build the book, print its path; Snakemake does the rest.

    Args:
        profile: one of notebooks/profiles/, or "demo".
        device: injected where given.
        site: the folder that gets `notebooks/` (executed copies) and `_build/html/`.
        cores: how many processor cores the jobs share.
        more: further arguments for Snakemake.
        processes: how many train a network together, one a GPU where there are GPUs.
        strict: a pair whose halves differ is an error, and not brought together.

    Returns:
        Snakemake's exit code.

    Raises:
        ParameterError: an unknown profile, a parameter that cannot work, or pairs that cannot be brought together.
        DatasetError: the data folder does not exist.
        NeuronConsistencyError: the workflow runs already.
    """
    root = repository_root()
    index = (root / site / "_build" / "html" / "index.html").resolve()
    if os.environ.get(DATA) and not Path(os.environ[DATA]).is_dir():
        raise DatasetError(f"{DATA} (DATA= of make) is {os.environ[DATA]!r}: there is no such folder")
    sync_pairs(root, strict=strict)
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        injected_parameters(notebook, profile, device)
    if not more and _nothing_changed(root, profile, device, site):
        print(f"Nothing has changed. The book: {index}")
        return 0
    _clear_lock(root)
    from neuron_consistency.workflow.networks import default_plans, write_current

    wanted = default_plans(profile, device)
    write_current(profile, wanted, chosen=False)
    plans = [{"stem": plan.path.stem, "key": plan.key, "spec": plan.spec} for plan in wanted]
    write_json(_plans_file(profile), {"plans": plans})
    config = [f"profile={profile}", f"site={site}", f"device={device or ''}", f"processes={processes}"]
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--rerun-incomplete", "--keep-going"]
    command += ["--quiet", "rules", "host", "reason", *more, "--config", *config]
    errors: list[str] = []
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as snakemake:
        for line in snakemake.stderr or ():
            if line.strip() and not CHATTER.match(line):
                print(line, end="", file=sys.stderr, flush=True)
                errors += [line.rstrip()] if line.startswith("error:") else []
    code = snakemake.returncode
    if code == 0:
        if not more:  # which may ask for a part, or for nothing but a plan
            write_json(_plans_file(profile), {"plans": plans, "state": _state(root, profile, device, site, plans)})
        print(f"The book: {index}", flush=True)
    else:  # said again, below whatever ran on beside the failed job
        print("\n".join(["The book is not complete.", *errors]), file=sys.stderr, flush=True)
    return code


# the pages


def build_site(root: Path, site: Path) -> None:
    """Build the pages from book/ and the executed notebooks of `site`, check them, put them in site/_build/html.

    The pages of an earlier build stay until the new ones are whole and have passed.

    Raises:
        NeuronConsistencyError: a warning, a notebook with an error or never executed, a broken link, a request to
            another host; the message lists all of them.
    """
    copies = sorted((root / site / "notebooks").glob("*.ipynb"))
    if faults := [fault for copy in copies for fault in notebook_faults(copy)]:
        raise _faulty(faults)
    built = root / site / "_build"
    stage = built / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(root / "book", stage, ignore=lambda folder, names: BUILT if Path(folder) == root / "book" else ())
    (stage / "notebooks").mkdir()
    for copy in copies:
        shutil.copy(copy, stage / "notebooks")
    config = ["--config", str(root / "_config.yml"), "--path-output", str(stage)]
    builder = str(Path(sys.executable).with_name("jupyter-book"))
    command = [builder, "build", str(stage), *config, "-W", "-n", "--keep-going", "--all"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).replace(f"{stage}/", "book/")
    faults = re.findall(r"^.*(?:WARNING|ERROR|CRITICAL).*$", said, flags=re.MULTILINE)
    pages = stage / "_build" / "html"
    if done.returncode and not faults:
        faults = said.strip().splitlines()[-20:]
    if pages.is_dir():
        faults += page_faults(pages)
    if faults:
        raise _faulty(faults)
    shutil.rmtree(built / "html", ignore_errors=True)
    shutil.move(pages, built / "html")
    shutil.rmtree(stage)


def _faulty(faults: Sequence[str]) -> NeuronConsistencyError:
    return NeuronConsistencyError("\n".join(["the book has faults:", *(f"  {fault}" for fault in faults)]))


def notebook_faults(path: Path) -> list[str]:
    """What makes an executed notebook unfit for the book: errors, a cell that never ran, a figure without a source."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    faults = []
    if notebook["metadata"].get("papermill", {}).get("exception"):
        faults.append(f"{path.name}: its run failed")
    for place, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        if cell["execution_count"] is None:
            faults.append(f"{path.name}: cell {place} was never executed")
        faults += [
            f"{path.name}: cell {place} shows {output['ename']}: {output['evalue']}"
            for output in cell["outputs"]
            if output["output_type"] == "error"
        ]
        shown = [output.get("data", {}) for output in cell["outputs"] if output["output_type"] == "execute_result"]
        stamped = any(STAMP in "".join(output.get("data", {}).get("text/html", "")) for output in cell["outputs"])
        if any(data.keys() & {"text/html", "image/png"} for data in shown) and not stamped:
            faults.append(f"{path.name}: cell {place} does not say what made it: call stamp_outputs after the imports")
    return faults


class _Page(html.parser.HTMLParser):
    """The names that a page can be entered at, the links in it, and what a browser loads to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names, self.links, self.loads = set[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        loads = given.get("src", "")
        if tag == "link" and not {"canonical", "alternate", "author"} & set(given.get("rel", "").split()):
            loads = given.get("href", "")
        if loads and not loads.startswith("data:"):
            self.loads.append(loads)


def page_faults(folder: Path) -> list[str]:
    """Broken links inside a built site, and whatever a page would load from another host."""
    # the theme leaves templates of its own in _static
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in paths}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        for address in [*page.loads, *page.links]:
            parts = urllib.parse.urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.loads:
                    faults.append(f"{name} loads {address} from another host")
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                faults.append(f"{name}: {address} leads nowhere")
            elif target in pages and parts.fragment and urllib.parse.unquote(parts.fragment) not in pages[target].names:
                faults.append(f"{name}: {address} names no place on that page")
    for path in sorted(folder.rglob("*.css")):
        outside = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8"))
        faults += [f"{path.relative_to(folder)} loads {address} from another host" for address in outside]
    return faults
