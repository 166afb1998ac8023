"""The papers' own numbers, to stand beside ours; nothing is computed from them."""

import pandas as pd

# P1, Table 1: means over the neurons of the last convolutional layer, ImageNet validation set, 1000 classes.
TABLE_1 = pd.DataFrame(
    [
        ("AlexNet", 0.0162, 0.0116),
        ("AlexNet-Adv", 0.0161, 0.0121),
        ("VGG-16", 0.0296, 0.0187),
        ("VGG-16-Adv", 0.0287, 0.0220),
        ("ResNet-18", 0.0261, 0.0133),
        ("ResNet-18-Adv", 0.0251, 0.0206),
    ],
    columns=["network (paper)", "consis(n)", "consis_adv(n)"],
).set_index("network (paper)")

# The distance of two classes in WordNet, as both papers' figure of the tree has it.
TREE_DISTANCES = {("Persian cat", "wolfhound"): 4}

# P1, Table 2: % of the neurons of the last convolutional layer aligned with a concept of each category, on Broden.
TABLE_2 = pd.DataFrame(
    [
        ("real", "AlexNet", 0.4, 13.3, 0.8, 0.4, 6.6, 17.2),
        ("real", "AlexNet-Adv", 0.4, 20.7, 0.0, 0.4, 4.3, 16.4),
        ("real", "VGG-16", 0.2, 11.9, 0.8, 4.7, 10.2, 34.6),
        ("real", "VGG-16-Adv", 0.2, 18.0, 1.2, 5.7, 8.6, 30.9),
        ("real", "ResNet-18", 0.0, 12.7, 0.8, 5.9, 4.3, 33.8),
        ("real", "ResNet-18-Adv", 0.2, 21.3, 1.6, 6.1, 6.8, 33.8),
        ("adversarial", "AlexNet", 0.4, 12.1, 0.4, 0.0, 5.5, 10.2),
        ("adversarial", "AlexNet-Adv", 0.4, 18.8, 0.0, 0.4, 4.3, 11.3),
        ("adversarial", "VGG-16", 0.2, 2.9, 0.0, 0.2, 3.3, 6.4),
        ("adversarial", "VGG-16-Adv", 0.4, 14.1, 0.6, 1.4, 6.4, 17.4),
        ("adversarial", "ResNet-18", 0.0, 4.3, 0.2, 0.6, 1.0, 6.1),
        ("adversarial", "ResNet-18-Adv", 0.2, 15.0, 0.4, 1.2, 3.1, 6.8),
    ],
    columns=["images", "network (paper)", "color", "texture", "material", "scene", "part", "object"],
).set_index(["images", "network (paper)"])

# P2: the span of LC over the neurons of all convolutional layers, as its text has it, ImageNet validation set.
LC_RANGES = pd.DataFrame(
    [("AlexNet", 0.018, 0.30), ("VGG-16", 0.019, 0.10), ("ResNet-18", 0.019, 0.36)],
    columns=["network (paper)", "LC from", "LC to"],
).set_index("network (paper)")

# P2, figure 5: means over 500,000 adversarial images, before and after training with the consistent loss.
DISTANCE_RATIOS = pd.DataFrame(
    [
        ("AlexNet", 1.07, 0.98, 0.80, 0.90),
        ("VGG-16", 1.26, 0.99, 0.73, 0.92),
        ("ResNet-18", 1.34, 0.98, 0.76, 0.87),
    ],
    columns=["network (paper)", "r1 before", "r1 after", "r2 before", "r2 after"],
).set_index("network (paper)")

for table, place in (
    (TABLE_1, "P1, Table 1"),
    (TABLE_2, "P1, Table 2"),
    (LC_RANGES, "P2, text"),
    (DISTANCE_RATIOS, "P2, figure 5"),
):
    table.attrs["sources"] = place  # what a notebook says below it
