"""The weights of `worker.page.context`: the means of two fits of `benchmarks/context.py`.

For both, thirty to forty pages of each kind were composed, in 30 families of fonts or more. The first had, besides the
kinds of the benchmark, rows of touching digits, forms with numbers beside words, and rows of bubbles; it keeps few
digits on a page of few. The second read digits as they are served, the doubtful ones again, and trusts rings and bars
beside letters too far. Their mean keeps as many digits as the second, and of letters and bubbles as few as the first.
"""

from __future__ import annotations

#: By the names in `context.FEATURES`: log odds for each unit of what is measured.
WEIGHTS = {
    "always": -4.98,
    "digitness": 0.3,
    "height": -6.32,
    "low": 1.36,
    "clutter": 0.39,
    "broken": -2.01,
    "cut": -0.17,
    "cut 1": -0.49,
    "edge": -0.57,
    "class": 0.42,
    "is 0": -1.08,
    "is 1": -1.81,
    "is 2": 0.16,
    "is 3": 1.25,
    "is 4": -0.13,
    "is 5": -0.46,
    "is 6": -0.05,
    "is 7": -0.99,
    "is 8": 0.63,
    "is 9": 0.35,
    "word sure": 2.34,
    "word clear": 1.4,
    "word round": 1.82,
    "word cut": -0.65,
    "word plain": -0.12,
    "word weak": -0.96,
    "word other": 0.16,
    "word count": -2.59,
    "word digitness": 1.68,
    "word height": -1.34,
    "line sure": 4.46,
    "line clear": 4.94,
    "line round": 3.35,
    "line cut": 4.61,
    "line plain": 4.07,
    "line weak": 4.08,
    "line other": 6.03,
    "line count": -4.34,
    "line digitness": 0.29,
    "line height": -4.65,
    "page sure": 5.49,
    "page clear": 7.73,
    "page round": -0.23,
    "page cut": 6.24,
    "page plain": -3.78,
    "page weak": 4.89,
    "page other": 3.01,
    "page count": -2.36,
    "page digitness": 2.27,
    "page height": -14.0,
}
