"""The baseline: scikit-learn's logistic regression with its defaults, on the sentence vectors."""

from __future__ import annotations

import numpy as np
from published import Places, Published

from misalign_bench.build.classify.head import spans
from misalign_bench.records import Dimension


def untuned(published: Published, fit_on: Places, held_out: Places) -> dict[Dimension, Places]:
    """Return the label of each held-out prompt by dimension, -1 where it says none."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found]

    found: dict[Dimension, Places] = {}
    for name, span in spans().items():
        held = published.truth[:, span]
        classes = np.where(held.any(axis=1), held.argmax(axis=1), -1)
        model = LogisticRegression(max_iter=200)
        model.fit(published.data.vectors[fit_on], classes[fit_on])
        found[name] = model.predict(published.data.vectors[held_out]).astype(np.int64)
    return found
