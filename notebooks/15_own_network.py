# %% [markdown]
# # Your own network: how consistent are its neurons?
#
# Every other chapter measures networks that this book has trained. This one takes a network as you would bring it: a
# plain PyTorch module and its weights, about which the library knows nothing. Its layers are found by one forward pass
# of an empty image; from there on it is measured as all others are, on real, attacked and noisy images, beside the
# chance level and under both kinds of label.
#
# Unless the parameters name another network, the stranger is an acquaintance: the ResNet-18 of
# {doc}`03_consistent_loss_training`, stripped to torchvision's own module. If the way in is right, it must come out of
# it with the very numbers of {doc}`04_evaluation`. A vision transformer, whose neurons respond to tokens and not to
# places of a map, comes after it.
#
# The same is one command, for your network and your images, and ends with a page that shows every neuron:
#
#     neuron-consistency score --network model.py:make --weights mine.safetensors \
#         --mean .5 .5 .5 --std .5 .5 .5 --images photos/ --out card/
#
# and `neuron-consistency train` with the same arguments fine-tunes it by P1's Eq. 6 and shows what that changed.

# %% tags=["parameters"]
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

# %% tags=["hide-input"]
import hashlib
import textwrap
from pathlib import Path

import pandas as pd
import torch
import torchvision
from IPython.display import display

from neuron_consistency import wrap
from neuron_consistency.artifacts import artifacts
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.page import open_page
from neuron_consistency.card.measure import Setting
from neuron_consistency.card.score import score
from neuron_consistency.card.tables import accuracy_table, change_table, layer_table, reading
from neuron_consistency.card.train import fine_tune
from neuron_consistency.consistency import figures
from neuron_consistency.consistency.ambiguity import measure_with_controls
from neuron_consistency.consistency.measure import consistency_row
from neuron_consistency.data.labels import class_distances, for_outputs
from neuron_consistency.data.own import load_folder_set
from neuron_consistency.networks.load import load_network
from neuron_consistency.networks.models import IMAGENET_MEAN, IMAGENET_STD
from neuron_consistency.show import with_intervals
from neuron_consistency.taxonomy import correlation
from neuron_consistency.training.loop import train
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.obtain import evaluation_images, training_images
from neuron_consistency.training.schedule import Schedule
from neuron_consistency.versions import TRAINING

page = open_page("15_own_network", globals(), "consistency")
own = not network
setting = Setting(
    epsilon=epsilon, pgd_steps=pgd_steps, auto_attack=auto_attack, quantile=quantile, top_k=top_k, sigma=sigma
)
cards = artifacts(profile) / "cards"

# %% [markdown]
# ## Bringing it in
#
# `wrap` needs the module and how its images are normalised; normalisation then lives in the model, which takes images
# in [0, 1]. It finds the layers and counts their neurons.

# %%
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
print(f"{source}: {len(shown)} images of {shown.num_classes} classes")
pd.DataFrame({"layer": model.layers.keys(), "neurons": model.layers.values()}).set_index("layer")

# %% [markdown]
# ## What its neurons fire for
#
# One call makes all passes: real images, on which each neuron's threshold is set; FGSM and PGD images made against this
# network; noise of the same size; and the real images that it gets wrong unaided. A pass that is stopped goes on when
# the cell is run again.

# %% tags=["remove-stderr"]
pieces = score(model, shown, cards, page.on, setting=setting, labels=labels or None, source=source, keyed=True)
print(textwrap.fill(reading(pieces, model.last_layer), 100))

# %% tags=["hide-input"]
table = layer_table(pieces)
figures.consistency_intervals(table.assign(model=table["layer"]))

# %% [markdown]
# Each panel is a layer; a dot is the mean U of its neurons on a set, with the interval of 95 %, and the red tick is
# what neurons would reach that fire at random. Early layers stand near chance: they see edges and colours, which all
# classes have. If the attack made neurons ambiguous, the orange dots, which name each image as the network does, would
# fall too.

# %% tags=["hide-input"]
last = table[table["layer"] == model.last_layer].drop(columns="layer").set_index(["set", "labels"])
with_intervals(last[["images", "m", "U", "U low", "U high", "U chance", "excluded"]])

# %% [markdown]
# What each set changes, against the real images: U less the chance level of its own labels, since a network that is
# attacked may give most images a few labels, among which neurons agree by chance. Paired by images, but for those that
# the network gets wrong, which are other images.

# %% tags=["hide-input"]
changes = change_table(pieces, model.last_layer)
with_intervals(changes.set_index(["set", "labels"]))

# %% tags=["hide-input"]
accuracies = accuracy_table(pieces, shown)
with_intervals(accuracies.set_index("set"), decimals=1)

# %% [markdown]
# ## Is the way in right?
#
# The same network, built by this book and read at the layer it knows by name, must give the same numbers: the
# thresholds to the last bit, and U as chapter 4 computes it.

# %% tags=["hide-input"]
if own:
    known = measure_with_controls(net.model, shown, page.on, epsilon=epsilon, quantile=quantile, top_k=top_k)
    A = correlation(class_distances(shown), sigma=sigma)
    bits = known.sets["real"].layers["layer4"].thresholds.tolist() == pieces["real"]["thresholds"][model.last_layer]
    rows = {
        (name, kind): {
            "as a stranger": pieces[name]["rows"][f"{model.last_layer}/{kind}"]["U"],
            "as in chapter 4": consistency_row(known.sets[name], "layer4", A, kind=kind, equal_m=top_k)["U"],
        }
        for name in ("real", "FGSM")
        for kind in ("true", "predicted")
    }
    same = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["set", "labels"])
    same["difference"] = same["as a stranger"] - same["as in chapter 4"]
    print(f"all {model.layers[model.last_layer]} thresholds are {'the same' if bits else 'different'}")
    display(same)

# %% [markdown]
# ## A network of another kind
#
# A vision transformer has no maps of channels: each of its blocks gives a vector for every token, a square of the
# image. A neuron is one place of that vector, and its response is the largest over the tokens, the class token apart.
# Such a response may be negative and means no silence at 0, so that every neuron has its strongest images.
#
# Here it is small, and trained for some epochs on the rendered scenes, so its accuracy is nothing to be proud of.

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
if own and vit_epochs:
    made_of = hashlib.sha256(f"{training.fingerprint} {schedule} {TRAINING}".encode()).hexdigest()[:12]
    train(
        transformer, training, Objective(), schedule, device=page.on.device,
        checkpoint=cards / f"transformer-{made_of}.checkpoint", checkpoint_key=made_of,
    )  # fmt: skip
    seen = score(transformer, shown, cards, page.on, setting=setting, source="a vision transformer", keyed=True)
    transformer_table = layer_table(seen)
    print(f"right on {accuracy_table(seen, shown)['accuracy'][0]:.0f} % of the images")
    print(textwrap.fill(reading(seen, transformer.last_layer), 100))
    display(figures.consistency_intervals(transformer_table.assign(model=transformer_table["layer"])))

# %% [markdown]
# ## Two networks that others trained
#
# What comes out for networks that this book has no part in: an EfficientNet-Lite0 of ImageNet's thousand classes, shown
# one photograph of each, and a ResNet-18 of CIFAR-10, shown a hundred test photographs of each class. Both were run
# with this notebook, as studies that are kept with the book. Of the larger network the neurons are read after their
# activation and before it: it saturates at 6, so that after it many images tie as the strongest.

# %% tags=["hide-input"]
if own:
    kept = Kept.read()
    studies = [name for name in kept.named("own-") if name != "own-cifar10-trained"]
    rows = kept.table(studies, "layers").reset_index(drop=True)
    rows = rows[rows["layer"] == rows.groupby("study")["layer"].transform("last")]
    display(kept.cited(figures.consistency_intervals(rows.assign(model=rows["study"])), *studies))

# %% [markdown]
# The same in numbers, and what each set changes, in long tables that open:

# %% tags=["hide-cell"]
if own:
    shown_columns = ["images", "m", "U", "U low", "U high", "U chance", "excluded"]
    display(kept.shown(rows.set_index(["study", "set", "labels"])[shown_columns], *studies, decimals=4))
    differences = kept.table(studies, "changes").set_index(["study", "set", "labels"])
    differences = kept.shown(differences, *studies, decimals=4)
    display(differences)
    attacked = differences["difference"].xs("FGSM", level="set")
    page.say({f"{name} {kind}": change for (name, kind), change in attacked.items()})
    falls = kept.table(studies, "changes").set_index(["set", "study", "labels"])["difference"]["FGSM"].unstack()
    page.say(most_left=f"{100 * (falls['predicted'] / falls['true']).max():.0f} %")

# %% tags=["hide-input"]
if own:
    right = kept.shown(kept.table(studies, "accuracy").set_index(["study", "set"]), *studies, decimals=1)
    display(kept.cited(right["accuracy"].unstack(sort=False).fillna("not measured"), *studies))

# %% [markdown]
# Both networks' neurons stand above chance. Shown FGSM images, U above chance falls where images go by their true
# labels: by {glue:text}`own-efficientnet-lite0-before true` for EfficientNet-Lite0 at 4/255, and for the CIFAR-10
# network by {glue:text}`own-cifar10-2 true`, {glue:text}`own-cifar10-4 true` and
# {glue:text}`own-cifar10-8 true` at 2, 4 and 8/255. Where images go by what the network takes them for, the changes are
# {glue:text}`own-efficientnet-lite0-before predicted`, and {glue:text}`own-cifar10-2 predicted`,
# {glue:text}`own-cifar10-4 predicted` and {glue:text}`own-cifar10-8 predicted`. So for networks that nobody trained for
# this book, too, most of what an attack does to the paper's measure is that the neurons follow a wrong decision; what
# is left under the network's own labels is {glue:text}`most-left` of it at most.
#
# ## Made more consistent
#
# `fine_tune`, or the command `train`, takes the network on by P1's Eq. 6 and writes the cards before and after. Here
# are both for the CIFAR-10 network. Differences of U above chance are paired by images; those of accuracy are taken as
# independent.

# %% tags=["hide-input"]
tuned = None
if train_epochs and not own:
    half = load_folder_set(images, split="train", image_size=loaded.image_size, per_class=train_per_class or None)
    tuned = fine_tune(
        loaded, for_outputs(half, model.num_classes, classes or None), shown, cards, page.on, keyed=True,
        objective=Objective(alpha=0.5, beta=beta, epsilon=epsilon), setting=setting, labels=labels or None,
        schedule=Schedule(epochs=train_epochs, learning_rate=learning_rate, precision=page.on.precision),
    )  # fmt: skip
    display(with_intervals(tuned.set_index(["measure", "set", "labels"])))
elif own:
    trained = kept.table("own-cifar10-trained", "training").set_index(["measure", "set", "labels"])
    display(kept.shown(trained, "own-cifar10-trained"))

# %% [markdown]
# ## The card
#
# `score` has also written a folder for each network, in `artifacts/<profile>/cards/`: `neurons.csv` with a row for
# every neuron of every layer, `layers.csv`, `summary.md`, and `index.html`, a page of its own that needs no network. It
# shows every neuron with the real and the adversarial images that fire it most, sorted and filtered as you like. For a
# network of yours the command at the top of this page writes the same.
#
# What is needed of a network: that it is a PyTorch module which maps images to one row of logits each, and that its
# layers are modules. A function such as `F.relu` leaves no trace that could be read; then name the module before it
# in `layers`. What is needed of the labels: a distance between any two classes. WordNet's where they have synsets, a
# table or a tree of your own where not; or `"flat"`, where all classes are equally far apart and U is just the chance
# that two images of a neuron are of the same class.

# %% tags=["hide-input"]
tables = {"layers": table, "accuracy": accuracies, "changes": changes}
tables |= {} if tuned is None else {"training": tuned}
made_of = {"network": source, "dataset": shown.name, "fingerprint": shown.fingerprint}
page.keep(tables, made_of=made_of)
page.provenance() if own else pd.DataFrame([made_of])
