# %% [markdown]
# # Your own network: how consistent are its neurons?
#
# :::{admonition} In short
# :class: in-short
# **Question.** How consistent are the neurons of *your* network, and does an attack make them ambiguous?
#
# **Answer.** One command measures any PyTorch image classifier and writes a card that shows every neuron. It has been
# run on two networks that others trained. Under FGSM their consistency falls if images go by their true labels. Of that
# fall at most {glue:text}`most-left` is left if images go by what the network takes them for: the neurons mostly follow
# a wrong decision. The ledger judges <a href="14_claims.html#claim-ambiguous-not-obedient">the same of all networks
# together</a>.
#
# **The number that decides.** The change of U above chance under FGSM by the network's own labels, held against 0. In a
# ResNet-18 of CIFAR-10, attacked at 4/255, it is {glue:text}`own-cifar10-4 predicted`. By the true labels it is
# {glue:text}`own-cifar10-4 true`.
#
# **Change it yourself.** `make notebook N=15 PARAMS="labels=flat"` ({ref}`change-a-parameter`) lets only images of the
# very same class count as alike: U and its chance level fall. With `network=` and `images=` the page is about yours.
# :::
#
#     neuron-consistency score --network model.py:make --weights mine.safetensors \
#         --mean .5 .5 .5 --std .5 .5 .5 --images photos/ --out card/
#
# It ends with a card, like <a class="atlas" href="15_own_network_files/card.html"><strong>the card of this
# page</strong></a>, which shows every neuron of every layer with the images that fire it most.

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
# what is looked at
network: str = ""  # torchvision:NAME, timm:NAME, packaged:NAME, FILE.py:FUNCTION; "" is the book's own ResNet-18
weights: str = ""  # a .safetensors or .pth file; "" the published ones
images: str = ""  # a folder or zip of classes; "" the validation images of the book's networks
classes: str = ""  # the classes in the order of the outputs: a file, or a set's name; "" the order of the folder
labels: str = ""  # distances between classes: a table's path, or "flat"; "" WordNet's
layers: list[str] = []  # names or patterns of modules; [] finds them
before: bool = False  # read a layer before its activation, as is needed where the activation saturates
mean: list[float] = []  # of the normalisation, where the network does not say
std: list[float] = []
image_size: int = 0  # side in pixels; 0 takes the network's own
margin: float = 0.0  # the short side of an image is this times the square that is cut; 0.0 takes the network's own
per_class: int = 20  # images of each class; 0 takes all
# how it is measured
epsilon: float = 4 / 255  # size of FGSM, PGD and the noise, in units of the pixel range
pgd_steps: int = 2  # steps of PGD; 0 leaves it out
auto_attack: int = 0  # how many images AutoAttack attacks too
quantile: float = 0.005  # share of the real images that activate a neuron ...
top_k: int = 20  # ... but at least so many
sigma: float = 2.0  # how fast correlation decays with WordNet distance
train_epochs: int = 0  # epochs of fine-tuning by Eq. 6 of the network that is named; 0 leaves it out
train_per_class: int = 0  # training images of each class for it; 0 takes all
beta: float = 1.0  # weight of the consistent loss in it
learning_rate: float = 1e-4  # peak of its warm-up and cosine
vit_epochs: int = 8  # epochs in which the vision transformer is trained; 0 leaves it out
# how it runs
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
batch_size: int = 64  # images a forward pass
study: str = ""  # a name under which the tables stay in book/results/; "" keeps none

# %% tags=["hide-cell"]
import hashlib
import shutil
from pathlib import Path

import pandas as pd
import torch
import torchvision
from IPython.display import display

from neuron_consistency import wrap
from neuron_consistency.artifacts import artifacts
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.book.tries import try_this
from neuron_consistency.card.measure import Measuring, Setting
from neuron_consistency.card.score import score
from neuron_consistency.card.tables import accuracy_table, change_table, layer_table, reading
from neuron_consistency.card.train import fine_tune
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.ambiguity import measure_with_controls
from neuron_consistency.consistency.measure import chance, consistency_row
from neuron_consistency.data.labels import class_distances, for_outputs
from neuron_consistency.data.own import load_folder_set
from neuron_consistency.networks.load import load_network
from neuron_consistency.networks.models import IMAGENET_MEAN, IMAGENET_STD
from neuron_consistency.show import in_words, interval_text, with_intervals
from neuron_consistency.taxonomy import correlation
from neuron_consistency.training.loop import train
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.obtain import evaluation_images, training_images
from neuron_consistency.training.schedule import Schedule
from neuron_consistency.versions import TRAINING
from neuron_consistency.workflow.run import files_of

page = open_page("15_own_network", globals(), "consistency")
own = not network
setting = Setting(
    epsilon=epsilon, pgd_steps=pgd_steps, auto_attack=auto_attack, quantile=quantile, top_k=top_k, sigma=sigma
)
cards = artifacts(profile) / "cards"

# %% tags=["hide-input"]
kept = Kept.read()
studies = [name for name in kept.named("own-") if name != "own-cifar10-trained"]
called = {
    "own-efficientnet-lite0": "EfficientNet-Lite0, after its activation",
    "own-efficientnet-lite0-before": "EfficientNet-Lite0, before its activation",
    **{f"own-cifar10-{size}": f"ResNet-18 of CIFAR-10, {size}/255" for size in (2, 4, 8)},
}
rows = kept.table(studies, "layers").reset_index(drop=True)
rows = rows[rows["layer"] == rows.groupby("study")["layer"].transform("last")].replace({"study": called})
true = rows[rows["labels"] == "true"].set_index(["study", "set"])["U"]
page.figure(
    kept.cited(figures.consistency_intervals(rows.assign(model=rows["study"]), sharex=False), *studies),
    "others",
    "Mean U of the last layer's neurons of two networks that others trained, a panel a study, with 95 % intervals over "
    "images; the panels have scales of their own. Dots file images under their true labels, squares under the labels "
    "that the network gave them; grey strokes are chance. See whether FGSM moves the squares as far down as the dots.",
    alt="Dots and squares with intervals on an axis of U. Under true labels, on real images, "
    f"{in_words(true.xs('real', level='set'))}; on FGSM images, {in_words(true.xs('FGSM', level='set'))}.",
)

# %% [markdown]
# One network is an EfficientNet-Lite0 of ImageNet's thousand classes, shown one photograph of each. Its neurons are
# read after their activation and *before* it: the activation saturates at 6, so that after it many images tie as the
# strongest. The other is a ResNet-18 of CIFAR-10, shown a hundred test photographs of each class and attacked at three
# radii: 2, 4 and 8/255.
#
# Every other chapter measures networks that this book has trained. This one takes a network as you would bring it: a
# plain PyTorch module and its weights, about which the library knows nothing. If the parameters name none, the
# stranger is an acquaintance: the ResNet-18 of {doc}`03_consistent_loss_training`, stripped to torchvision's own
# module. If the way in is right, it must come out with the very numbers of {doc}`04_evaluation`.
#
# ## Bringing it in
#
# `wrap` needs the module and how its images are normalised. Normalisation then lives in the model, which takes images
# in [0, 1]. One forward pass of an empty image finds the layers and counts their neurons.

# %% tags=["remove-output"]
if own:
    net = next(net for net in page.current() if net.title == "ResNet-18, normal")
    shown = evaluation_images(net.recipe, per_class=per_class)
    plain = torchvision.models.resnet18(num_classes=shown.num_classes)
    plain.load_state_dict(net.model.network.state_dict())  # as if it had come in a file
    model = wrap(plain, mean=IMAGENET_MEAN, std=IMAGENET_STD, image_size=shown.image_size)
    source = "the book's ResNet-18, as a stranger"

# %% tags=["hide-input"]
if not own:
    loaded = load_network(
        network, weights=Path(weights) if weights else None, mean=mean or None, std=std or None,
        image_size=image_size or None, layers=layers or None, before=before,
    )  # fmt: skip
    model, source = loaded.model, loaded.source
    found = load_folder_set(
        images, split=None, image_size=loaded.image_size, margin=margin or loaded.margin,
        interpolation=loaded.interpolation, per_class=per_class or None,
    )  # fmt: skip
    shown = for_outputs(found, model.num_classes, classes or None)
page.say(source=source, images=len(shown), classes=shown.num_classes, last_layer=model.last_layer)
page.table(
    pd.DataFrame({"layer": model.layers.keys(), "neurons": model.layers.values()}).set_index("layer"),
    "layers",
    f"The layers that were found in {source}, and how many neurons each has.",
)

# %% [markdown]
# ## What its neurons fire for
#
# One call makes all passes: real images, on which each neuron's {term}`threshold` is set; FGSM and PGD images made
# against this network; noise of the same size; and the real images that it gets wrong unaided. If a pass is stopped,
# run the cell again, and it goes on.

# %% tags=["remove-output"]
how = {"setting": setting, "labels": labels or None, "source": source}
pieces = score(model, shown, cards, page.on, keyed=True, **how)

# %% tags=["hide-input"]
distances = class_distances(shown, labels or None)
key = Measuring(model, shown, correlation(distances, sigma=sigma), page.on, setting).key
left = files_of(profile, "15_own_network")
left.mkdir(parents=True, exist_ok=True)
shutil.copyfile(cards / key / "index.html", left / "card.html")
page.say(reading=reading(pieces, model.last_layer))
table = layer_table(pieces)
last = table[table["layer"] == model.last_layer].drop(columns="layer").set_index(["set", "labels"])
page.figure(
    figures.consistency_intervals(table.assign(model=table["layer"])),
    "layers",
    f"Mean U of the neurons of {source}, a panel a layer, with 95 % intervals over images. Early layers stand near "
    "chance (grey strokes): they see edges and colours, which all classes have. If an attack makes neurons ambiguous, "
    "the squares, which file each image as the network does, fall too.",
    alt=f"Dots and squares with intervals on an axis of U. In the last layer, {in_words(last['U'])}.",
)

# %% [markdown]
# In words, for the last layer, as the card says it:
#
# > {glue:text}`reading`
#
# The sets that an attack or noise makes, and the images that the network gets wrong, are compared with the real images.
# The table takes U less the chance level of its own labels, since a network that is attacked may give most images a few
# labels, among which neurons agree by chance.

# %% tags=["hide-input"]
changes = change_table(pieces, model.last_layer)
page.table(
    changes.set_index(["set", "labels"]),
    "changes",
    "U above chance on each set, less the same on the real images, in the last layer, with 95 % intervals. Pairs share "
    "their images, but for those that the network gets wrong, which are other images.",
)

# %% tags=["hide-cell"]
page.table(
    last[["images", "m", "U", "U low", "U high", "U chance", "excluded"]],
    "last-layer",
    "The last layer's numbers of the figure. m: active images a neuron; U: from 0 to 1; excluded: share of the neurons "
    "that fewer than two images activate.",
)

# %% tags=["hide-input"]
accuracies = accuracy_table(pieces, shown)
page.table(
    accuracies.set_index("set"),
    "accuracy",
    f"Accuracy of {source} in per cent, with 95 % intervals over images.",
    decimals=1,
)

# %% [markdown]
# ## Is the way in right?
#
# The same network, built by this book and read at the layer it knows by name, must give the same numbers: the
# thresholds to the last bit, and U as chapter 4 computes it. The thresholds are {glue:text}`thresholds`.

# %% tags=["hide-input"]
thresholds = "not compared, since the network is yours"
if own:
    known = measure_with_controls(net.model, shown, page.on, epsilon=epsilon, quantile=quantile, top_k=top_k)
    A = correlation(class_distances(shown), sigma=sigma)
    bits = known.sets["real"].layers["layer4"].thresholds.tolist() == pieces["real"]["thresholds"][model.last_layer]
    both = {
        (name, kind): {
            "as a stranger": pieces[name]["rows"][f"{model.last_layer}/{kind}"]["U"],
            "as in chapter 4": consistency_row(known.sets[name], "layer4", A, kind=kind, equal_m=top_k)["U"],
        }
        for name in ("real", "FGSM")
        for kind in ("true", "predicted")
    }
    same = pd.DataFrame.from_dict(both, orient="index").rename_axis(["set", "labels"])
    same["difference"] = same["as a stranger"] - same["as in chapter 4"]
    thresholds = f"{'the same' if bits else 'different'} in all {model.layers[model.last_layer]} neurons"
    what = "U of the last layer, of the network as a stranger and of the network as chapter 4 knows it."
    display(page.table(same, "same", what, decimals=6))
page.say(thresholds=thresholds)

# %% [markdown]
# ## A network of another kind
#
# A vision transformer has no maps of channels: each of its blocks gives a vector for every token, a square of the
# image. A neuron is one place of that vector, and its response is the largest over the tokens, the class token apart.
# Such a response may be negative, and 0 does not mean silence, so every neuron has its strongest images.
#
# Here the transformer is small, and trained for some epochs on the rendered scenes, so its accuracy is nothing to be
# proud of: {glue:text}`vit-right`.

# %%
if own and vit_epochs:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = torchvision.models.VisionTransformer(
            image_size=shown.image_size, patch_size=8, num_layers=4, num_heads=4, hidden_dim=128, mlp_dim=256,
            num_classes=shown.num_classes,
        )  # fmt: skip
    transformer = wrap(vit, mean=IMAGENET_MEAN, std=IMAGENET_STD, image_size=shown.image_size)
    training, _ = training_images(net.recipe)
    schedule = Schedule(epochs=vit_epochs, learning_rate=1e-3, precision=page.on.precision)

# %% tags=["hide-input", "remove-stderr"]
right = "it was left out of this run"
if own and vit_epochs:
    made_of = hashlib.sha256(f"{training.fingerprint} {schedule} {TRAINING}".encode()).hexdigest()[:12]
    train(
        transformer, training, Objective(), schedule, device=page.on.device,
        checkpoint=cards / f"transformer-{made_of}.checkpoint", checkpoint_key=made_of,
    )  # fmt: skip
    seen = score(transformer, shown, cards, page.on, setting=setting, source="a vision transformer", keyed=True)
    blocks = layer_table(seen)
    right = f"it is right on {accuracy_table(seen, shown)['accuracy'][0]:.0f} % of the images"
    shown_blocks = figures.consistency_intervals(blocks.assign(model=blocks["layer"]))
    what = "The same as for the first network, for the blocks of a small vision transformer. " + reading(
        seen, transformer.last_layer
    )
    alt = in_words(blocks[blocks["layer"] == transformer.last_layer].set_index(["set", "labels"])["U"])
    alt = f"Dots and squares with intervals on an axis of U. In the last block, {alt}."
    display(page.figure(shown_blocks, "transformer", what, alt=alt))
page.say(vit_right=right)

# %% [markdown]
# ## Two networks that others trained
#
# The networks of the first figure, in numbers. Both were run with this notebook, as studies that are kept with the
# book. What each set changes stands in a long table that opens:

# %% tags=["hide-cell"]
differences = kept.table(studies, "changes").set_index(["study", "set", "labels"])
told = with_intervals(differences, decimals=4)["difference"].xs("FGSM", level="set")
page.say({f"{name} {kind}": change for (name, kind), change in told.items()})
falls = differences["difference"].xs("FGSM", level="set").unstack()
part = (falls["predicted"] / falls["true"]).clip(lower=0)
page.say(most_left=f"{100 * part.max():.0f} %")
page.say({f"{name}-part": f"{100 * value:.0f} %" for name, value in part.items()})
page.table(
    kept.cited(differences.rename(called), *studies),
    "others-changes",
    "U above chance on each set, less the same on the real images, by study and kind of label, with 95 % intervals.",
    decimals=4,
)

# %% tags=["hide-input"]
right = with_intervals(kept.table(studies, "accuracy").set_index(["study", "set"]).rename(called), decimals=1)
page.table(
    kept.cited(right["accuracy"].unstack(sort=False).fillna("not measured").rename_axis(columns=None), *studies),
    "others-accuracy",
    "Accuracy of the two networks in per cent, by set, with 95 % intervals over photographs.",
)

# %% [markdown]
# Both networks' neurons stand above chance. On FGSM images U above chance falls if images go by their true labels. It
# changes by {glue:text}`own-efficientnet-lite0-before true` for EfficientNet-Lite0 at 4/255, and for the CIFAR-10
# network by {glue:text}`own-cifar10-2 true`, {glue:text}`own-cifar10-4 true` and {glue:text}`own-cifar10-8 true` at 2,
# 4 and 8/255. If images go by what the network takes them for, the changes are
# {glue:text}`own-efficientnet-lite0-before predicted`, and {glue:text}`own-cifar10-2 predicted`,
# {glue:text}`own-cifar10-4 predicted` and {glue:text}`own-cifar10-8 predicted`. So also in networks that nobody trained
# for this book, most of what an attack does to the paper's measure is that the neurons follow a wrong decision.
#
# ## Made more consistent
#
# `fine_tune`, or the command `neuron-consistency train` with the same arguments, trains the network on by P1's Eq. 6
# and writes the cards before and after.

# %% tags=["hide-input"]
tuned, cite = None, ["own-cifar10-trained"]
if train_epochs and not own:
    half = load_folder_set(images, split="train", image_size=loaded.image_size, per_class=train_per_class or None)
    tuned = fine_tune(
        loaded, for_outputs(half, model.num_classes, classes or None), shown, cards, page.on, keyed=True,
        objective=Objective(alpha=0.5, beta=beta, epsilon=epsilon), setting=setting, labels=labels or None,
        schedule=Schedule(epochs=train_epochs, learning_rate=learning_rate, precision=page.on.precision),
    )  # fmt: skip
trained = kept.cited(kept.table(*cite, "training"), *cite) if tuned is None else tuned
page.table(
    trained.set_index(["measure", "set", "labels"]),
    "training",
    f"{'The CIFAR-10 network' if tuned is None else source} before and after training on by P1's Eq. 6: accuracy in "
    "per cent, and U above chance of the last layer. Differences of U are paired by images, those of accuracy are "
    "taken as independent; 95 % intervals.",
)

# %% [markdown]
# ## The card
#
# `score` writes a folder for each network, in `artifacts/<profile>/cards/`: `neurons.csv` with a row for every neuron
# of every layer, `layers.csv`, `summary.md`, and `index.html`, a page of its own that needs no network. It shows every
# neuron with the real and the adversarial images that fire it most, sorted and filtered as you like. This page has
# <a href="15_own_network_files/card.html">put a copy beside itself</a>.
#
# ## What to doubt
#
# - **The network.** It must be a PyTorch module that maps images to one row of logits each, and its layers must be
#   modules. A function such as `F.relu` leaves no trace that could be read; then name the module before it in `layers`.
# - **The labels.** A distance between any two classes is needed. WordNet gives it if the classes have synsets; if not,
#   bring a table or a tree of your own. With `"flat"` all classes are equally far apart, and U is just the chance that
#   two images of a neuron are of the same class.
# - **The images.** They decide what a neuron can be seen to fire for. Few images a class make wide intervals, and a
#   network that has been trained on them is flattered.
#
# ## Summary
#
# - `wrap`, `score` and `fine_tune`, or the commands `score` and `train`, do for any network what the chapters do for
#   the book's own. The thresholds of the network that came in as a stranger are {glue:text}`thresholds`.
# - A network is judged beside the chance level, under noise, and under both kinds of label.
# - Two networks that others trained show what the book's networks show: under the network's own labels at most
#   {glue:text}`most-left` of the fall under FGSM is left.
#
# ## Try this

# %% tags=["hide-input"]
try_this("15_own_network")

# %% [markdown]
# ## Exercises
#
# **1.** With `labels=flat` only images of the same class count as alike. This page shows {glue:text}`images` images of
# {glue:text}`classes` classes. Which U does a neuron reach that fires at random? Is that more or less than by the
# distances that this page uses?

# %% tags=["remove-input"]
tree, flat = (correlation(one, sigma=sigma) for one in (distances, class_distances(shown, "flat")))
page.say(
    {
        f"chance-{name}": f"{chance(shown.labels, one).unbiased:.3f}"
        for name, one in {"tree": tree, "flat": flat}.items()
    }
)

# %% [markdown]
# :::{dropdown} Answer
# It reaches the share of pairs of different images that are of one class. With $n$ images in each of $K$ classes that
# is $(n - 1)/(nK - 1)$, here {glue:text}`chance-flat`. By the distances of this page it is {glue:text}`chance-tree`:
# wherever relatives count for something, chance is higher.
# :::
#
# **2.** Which part of the fall of U under FGSM is left by the CIFAR-10 network's own labels, at 2, 4 and 8/255? What
# would the parts be if the neurons had become ambiguous?

# %% [markdown]
# :::{dropdown} Answer
# Divide the change by the network's own labels by the change by true labels: {glue:text}`own-cifar10-2-part`,
# {glue:text}`own-cifar10-4-part` and {glue:text}`own-cifar10-8-part`. If neurons fired for images that belong to
# nothing in common, whatever they are filed under, the parts would be near 100 %.
# :::
#
# **3.** Why are the neurons of EfficientNet-Lite0 read before their activation? Compare U on real images with the same
# after the activation.

# %% tags=["remove-input"]
real = rows[(rows["set"] == "real") & (rows["labels"] == "true")].set_index("study")
for name in ("own-efficientnet-lite0", "own-efficientnet-lite0-before"):
    row = real.loc[called[name]]
    value = interval_text(*row[["U", "U low", "U high"]].to_numpy(float), decimals=4)
    page.say({f"{name}-real": value, f"{name}-m": f"{row['m']:.0f}"})

# %% [markdown]
# :::{dropdown} Answer
# After the activation U is {glue:text}`own-efficientnet-lite0-real`, with {glue:text}`own-efficientnet-lite0-m` active
# images a neuron; before it {glue:text}`own-efficientnet-lite0-before-real`, with
# {glue:text}`own-efficientnet-lite0-before-m`. Responses that saturate are equal for many images. A threshold at that
# value lets all of them in, and the neuron is no longer seen through its strongest images. Before the
# activation they do not saturate.
# :::

# %% tags=["remove-cell"]
tables = {"layers": table, "accuracy": accuracies, "changes": changes}
tables |= {} if tuned is None else {"training": tuned}
page.keep(tables, made_of={"network": source, "dataset": shown.name, "fingerprint": shown.fingerprint})
