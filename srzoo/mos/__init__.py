"""Mean-opinion-score studies: made from zoo entries, rated by people in a browser, and reported with statistics.

``study`` and ``plan`` say what is shown in which order, ``making`` renders it, ``ratings`` keeps what people answer,
``app`` asks them, ``analysis`` and ``report`` say what may be concluded. Only ``making`` needs torch.
"""
