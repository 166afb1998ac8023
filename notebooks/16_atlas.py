# %% [markdown]
# # The atlas
#
# Every neuron of the last convolutional layer of the book's networks, trained normally and by the consistent loss of
# {doc}`03_consistent_loss_training`, each on a card of its own: what fires it, whether these images have anything in
# common, and what an attack changes.
#
# <p><a class="atlas" href="16_atlas_files/atlas.html"><strong>Open the atlas</strong></a></p>
#
# It is one page that needs no network, with {glue:text}`neurons` neurons of {glue:text}`networks` networks. It can be
# sorted by any number, filtered and searched; it shows two networks side by side; and every neuron has an address,
# which the browser shows once its card is open.

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
architectures: list[str] = []  # which of the networks; [] takes all
objectives: list[str] = ["normal", "consistent"]  # trained how; also adversarial; [] takes all
seeds: list[int] = []  # of which seeds; [] takes all
per_class: int = 20  # validation images of each class; 0 takes all
shown_images: int = 6  # real, and as many adversarial, images of a neuron; at most top_k
labelled_set: str = "scenes"  # for the concepts: as in chapter 5; "" leaves them out
labelled_images: int = 160  # how many of its images; 0 takes all
# how it is measured
epsilon: float = 4 / 255  # size of FGSM, in units of the pixel range
quantile: float = 0.005  # share of the real images that activate a neuron, and of its map that is its mask ...
top_k: int = 20  # ... but at least so many images
sigma: float = 2.0  # how fast correlation decays with WordNet distance
iou_threshold: float = 0.04  # over this a neuron has a concept
min_images: int = 5  # concepts in fewer images are left out
# how it runs
profile: str = "demo"  # whose networks and results: artifacts/<profile>/
device: str = "auto"  # "auto" takes the GPU where there is one; "cpu", "cuda"
precision: str = "auto"  # of the forward passes: bfloat16 where the hardware is fast at it
batch_size: int = 32  # images a forward pass

# %% tags=["hide-cell"]
from neuron_consistency.artifacts import artifacts
from neuron_consistency.book.page import open_page
from neuron_consistency.card.atlas import write_atlas
from neuron_consistency.consistency.ambiguity import measure_networks
from neuron_consistency.data.load import open_dense_set
from neuron_consistency.dissection.measure import LayerMaps, dissect, dissection_size, unit_labels, unit_thresholds
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.obtain import evaluation_images
from neuron_consistency.workflow.run import files_of

page = open_page("16_atlas", globals(), "consistency", "dissection")
nets = page.current()
models = {page.titles[net.recipe.key]: net.model for net in nets}
images = evaluation_images(nets[0].recipe, per_class=per_class)
A = correlation(distance_matrix(images.synsets), sigma=sigma)

# %% tags=["hide-input", "remove-output"]
how = {"quantile": quantile, "top_k": top_k}
passes = measure_networks(models, images, page.on, epsilon=epsilon, controls=False, **how)

concepts = None
if labelled_set:
    classes = nets[0].recipe.data["classes"] if nets[0].recipe.dataset == "scenes" else 0  # those the networks know
    labelled = open_dense_set(
        labelled_set, cache=artifacts(profile).parent / "data", images=labelled_images, classes=classes
    )
    concepts = {}
    for title, model in models.items():
        size = dissection_size(model.to(page.on.device), model.last_layer)
        maps = LayerMaps(model, labelled, page.on, layer=model.last_layer, image_size=size)
        overlap = dissect(maps, thresholds=unit_thresholds(maps, quantile=quantile))
        concepts[title] = unit_labels(overlap, iou_threshold=iou_threshold, min_images=min_images)

# %% tags=["hide-input", "remove-output"]
first = nets[0].recipe
twins = (net.recipe for net in nets if (net.recipe.architecture, net.recipe.seed) == (first.architecture, first.seed))
opened = [page.titles[recipe.key] for recipe in twins][:2]  # of the first seed, trained otherwise
facts = [
    ("images", f"{len(images)} validation images of {images.num_classes} classes ({images.name})"),
    ("active", f"the strongest {quantile:g} of the real images, at least {top_k}; an attacked one if it is as strong"),
    ("attack", f"FGSM against the network itself, {epsilon * 255:.3g}/255"),
    ("classes compared by", f"WordNet, sigma {sigma:g}"),
    ("concepts from", f"{len(labelled)} images of {labelled_set}, IoU over {iou_threshold:g}" if labelled_set else "-"),
    *((page.titles[net.recipe.key], net.recipe.key) for net in nets),
]
reading = (
    "Every neuron of the last convolutional layer of each network. Choose a network, and another to stand beside it; "
    "open a neuron by its name for its larger images and its classes on the tree."
)
atlas = files_of(profile, "16_atlas") / "atlas.html"
neurons = write_atlas(
    atlas, models, passes, images, page.on, A, epsilon=epsilon, top_k=top_k, shown=shown_images, concepts=concepts,
    facts=facts, reading=reading, opened=opened, back=("../16_atlas.html", "Back to the book"),
)  # fmt: skip
page.say(neurons=len(neurons), networks=len(nets), first=opened[0])
print(atlas)

# %% [markdown]
# ## An example
#
# What the cards of the most consistent neurons of one network say, {glue:text}`first`:

# %% tags=["hide-input"]
columns = ["neuron", "classes", "U", "U low", "U high", "U chance", "U FGSM", "U FGSM predicted"]
columns += ["concept", "IoU"] if concepts else []
best = neurons[neurons["layer"] == opened[0]].nlargest(8, "U")
page.table(
    best[columns].set_index("neuron"),
    "atlas-best",
    "The most consistent neurons of one network: the classes that most of their active images have, with how many they "
    "are; U with its interval and chance; U on FGSM images by true and by predicted labels.",
)

# %% [markdown]
# ## How to read a card
#
# - **U** is the consistency of {doc}`04_evaluation`, measured here by the same functions: how alike, on the tree of
#   WordNet, the classes of two of the neuron's active images are. In brackets is the interval of 95 %, and beside it
#   *chance*, which a neuron reaches that fires at random. Only what is above chance means anything.
# - The **strip** shows U on real images (circles) and on FGSM images (squares), by true labels (filled) and by the
#   labels that the network gives (hollow). A neuron that follows the network's decision loses U by true labels alone;
#   one that becomes ambiguous loses both.
# - The **bars** are the classes of its active images, in the order of the tree: upwards the real images, downwards the
#   adversarial ones. The open card has the same as a tree with numbers.
# - The **images** are those to which it responds most. Each is bright where the neuron responds: where its map,
#   enlarged to the image, is above half of its greatest value. The last layer's map of a small image has few fields, so
#   these regions are coarse.
# - The **concept** is that of {doc}`05_dissection`: what its map overlaps best on images whose every pixel is labelled,
#   where the overlap, *IoU*, is large enough.
#
# Two networks side by side are two lists in the same order, one beside the other. Neurons of the same number are not
# the same neuron: a network that is trained anew numbers its neurons anew.
#
# ## How it is made
#
# As in {doc}`04_evaluation`, one pass over the real images sets each neuron's threshold, and a second one shows it the
# FGSM images made against its own network. The other controls are in {doc}`02_ambiguity_discovery` and
# {doc}`04_evaluation`. One more pass over each neuron's strongest images finds the regions. The concepts are found as
# in {doc}`05_dissection`, with its thresholds and masks.
#
# To change what is measured, change a parameter and run this page again. For a network of yours, the command of
# {doc}`15_own_network` makes the same page.

# %% tags=["hide-input"]
page.table(
    page.provenance().set_index("network"),
    "networks",
    "The networks in the atlas: their data, seed, commits and machine.",
)
