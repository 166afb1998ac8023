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
