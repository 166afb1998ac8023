"""Draws book/_static/social_card.png, which is shown beside a link to the book.

python tools/social_card.py
"""

import math
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle

CARD = Path(__file__).parents[1] / "book" / "_static" / "social_card.png"
WIDTH, HEIGHT, DPI = 1200, 630, 100
DEEP, PAPER = "#16324f", "#f4f7fa"
ONE, MANY = ["#ffb000"], ["#ffb000", "#6fc3ff", "#f08fb4", "#7bd389", "#c3a6ff"]


def neuron(axes: Axes, x: float, y: float, colours: list[str], said: str) -> None:
    """A neuron at (x, y) with the images that fire it around, each in the colour of its class."""
    for place in range(10):
        angle = 2 * math.pi * place / 10
        end = x + 105 * math.cos(angle), y + 105 * math.sin(angle)
        axes.plot([x, end[0]], [y, end[1]], color=PAPER, linewidth=1.5, alpha=0.5, zorder=1)
        axes.add_patch(Circle(end, 21, color=colours[place * 3 % len(colours)], zorder=2))
    axes.add_patch(Circle((x, y), 36, facecolor=DEEP, edgecolor=PAPER, linewidth=3, zorder=3))
    axes.text(x + 165, y, said, color=PAPER, fontsize=19, va="center", linespacing=1.5)


def draw(path: Path) -> None:
    figure = plt.figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=DEEP)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    axes.text(70, 450, "Consistent\nNeurons", color=PAPER, fontsize=54, weight="bold", va="center", linespacing=1.2)
    asked = "Does a neuron of a network\nmean one thing, and does it\nstill when it is attacked?"
    axes.text(70, 225, asked, color=PAPER, fontsize=22, va="center", linespacing=1.5)
    axes.text(70, 75, "Three papers, measured again", color=ONE[0], fontsize=18, va="center")
    neuron(axes, 780, 460, ONE, "fires for\none thing")
    neuron(axes, 780, 165, MANY, "fires for\nunrelated things")
    figure.savefig(path, dpi=DPI, facecolor=DEEP, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(CARD)
