"""Which numbers this library computes: raised by hand when they are meant to change, guarded by the golden numbers.

A network's key, a cached picture and a kept result hold these, not a hash of source: tidying the code renames nothing.
`tests/golden` fails when numbers change while their version stands. Raise the version in the same commit, write the
golden numbers anew (`make golden`), and run again the studies that then read "changed since" (`make results`).
"""

TRAINING = 1  # what a training computes; part of every network's key
GROUPS = 2  # the groups of filters; part of the keys of networks that are trained with groups
RENDERER = 1  # the pictures of the rendered scenes; part of their datasets' fingerprints
ATTACK = 2  # P1's Eq. 4, with which stored adversarial sets are made
MEASURES = {  # the tables of each topic
    "consistency": 1,
    "dissection": 2,
    "representation": 2,
    "tracing": 2,
    "explanation": 2,
    "choices": 2,
}


def current_versions() -> dict[str, int]:
    """Every version by name, as the record of a result holds those that matter to it."""
    return {"training": TRAINING, "groups": GROUPS, "renderer": RENDERER, "attack": ATTACK, **MEASURES}
