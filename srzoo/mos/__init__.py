"""Mean-opinion-score studies: made from zoo entries, rated by people in a browser, and reported with statistics.

``study`` and ``plan`` say what is shown in which order, ``making`` renders it. ``ratings`` keeps what people answer,
``app`` asks them, ``serving`` and ``connections`` run it. ``answers``, ``analysis`` and ``pairs`` say what may be
concluded, ``correlation`` and ``scores`` put it beside automatic metrics, ``report`` writes it down. Only ``making``
needs torch.
"""
