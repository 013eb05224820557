"""A static classifier by model2vec, in an environment of its own: TEACHER ROWS.json OUT.npz; nothing of the project.

As https://minish.ai/packages/model2vec/training/ shows it, with its defaults: the teacher's states of each token alone
are distilled into embeddings (256 principal components, weighted by the tokens' ranks), and a classifier on their mean
is fitted to the labels, embeddings included, until it gets no better on the validation rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from model2vec.distill import distill
from model2vec.train import StaticModelForClassification

if __name__ == "__main__":
    teacher, rows, out = sys.argv[1:]
    given = json.loads(Path(rows).read_text(encoding="utf-8"))
    torch.set_num_threads(given["threads"])
    learned = set(given["train"]["labels"])
    pairs = zip(given["validation"]["texts"], given["validation"]["labels"], strict=True)
    known = [(text, label) for text, label in pairs if label in learned]  # it refuses others
    model = StaticModelForClassification.from_static_model(model=distill(teacher, device="cpu"))
    model.fit(
        given["train"]["texts"],
        given["train"]["labels"],
        X_val=[text for text, _ in known],
        y_val=[label for _, label in known],
        device="cpu",
        random_seed=given["seed"],
    )
    places = [int(name) for name in model.classes]
    said = {}
    for split in ("validation", "test"):
        logits = np.full((len(given[split]["texts"]), given["classes"]), np.log(np.finfo(np.float32).tiny), np.float32)
        logits[:, places] = np.log(np.maximum(model.predict_proba(given[split]["texts"]), np.finfo(np.float32).tiny))
        said[split] = logits
    np.savez(out, validation=said["validation"], test=said["test"])
