"""Slow scorings written from their descriptions, to check the fast ones against. Nothing here uses mlrec."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def random_case(seed: int, *, unknown: bool = False, ties: bool = False, samples: int = 0, labels: int = 0):
    """Logits (N, C) and targets with a positive and a negative of each label; `ties` leaves few distinct values."""
    rng = np.random.default_rng(seed)
    N, C = samples or int(rng.integers(4, 60)), labels or int(rng.integers(1, 9))
    targets = (rng.random((N, C)) < rng.uniform(0.05, 0.6)).astype(int)
    logits = rng.normal(size=(N, C)) + targets * rng.uniform(0, 2)
    if ties:
        logits = np.round(logits * 2) / 2
    if unknown:
        targets[rng.random((N, C)) < 0.15] = -1
    positive = rng.integers(N, size=C)
    targets[positive, np.arange(C)] = 1
    targets[(positive + 1) % N, np.arange(C)] = 0
    return logits, targets


def exact_average_precision(scores, positive) -> Fraction:
    """AP by its definition, in fractions: the mean over positives of the precision among all that score as high."""
    total = Fraction(0)
    for score, is_positive in zip(scores, positive, strict=True):
        if is_positive:
            above = [bool(p) for s, p in zip(scores, positive, strict=True) if s >= score]
            total += Fraction(sum(above), len(above))
    return total / int(sum(positive))


def envelope_average_precision(scores, positive, *, eleven: bool) -> float:
    """VOC's AP by the development kit's description, over precision and recall at each distinct score."""
    points = []
    for score in sorted(set(scores), reverse=True):
        above = [bool(p) for s, p in zip(scores, positive, strict=True) if s >= score]
        points.append((Fraction(sum(above), int(sum(positive))), Fraction(sum(above), len(above))))
    best = lambda recall: max((p for r, p in points if r >= recall), default=Fraction(0))  # noqa: E731
    if eleven:
        return float(sum(best(Fraction(k, 10)) for k in range(11)) / 11)
    area, last = Fraction(0), Fraction(0)
    for recall, _ in points:
        area += (recall - last) * best(recall)
        last = recall
    return float(area)


def paper_code(scores, targets, *, wider: bool = False, top3: bool = False) -> dict[str, float]:
    """The paper's public code as described: loops over lists of records; probabilities; threshold >= 0.5.

    VOC and COCO leave unknown labels out everywhere; WIDER leaves them out of AP and keeps them as negatives in P and
    R. A label never predicted counts one prediction, in OP too. Labels without positives are left out of mAP and CR.
    """
    N, C = len(scores), len(scores[0])
    kept = [[float(s) for s in row] for row in scores]
    if top3:
        for row in kept:
            highest = sorted(range(C), key=lambda c: -row[c])[:3]
            for c in range(C):
                if c not in highest:
                    row[c] = 0.0
    aps, precisions, recalls, made, right, there = [], [], [], 0, 0, 0
    for c in range(C):
        records = [(float(scores[n][c]), int(targets[n][c])) for n in range(N) if targets[n][c] != -1]
        hits, ap = 0, 0.0
        for rank, (_, target) in enumerate(sorted(records, key=lambda record: -record[0]), 1):
            if target == 1:
                hits += 1
                ap += hits / rank
        predicted = positive = correct = 0
        for n in range(N):
            if targets[n][c] == -1 and not wider:
                continue
            predicted += kept[n][c] >= 0.5
            positive += targets[n][c] == 1
            correct += kept[n][c] >= 0.5 and targets[n][c] == 1
        predicted = predicted or 1
        if positive:
            aps.append(ap / hits)
            recalls.append(correct / positive)
        precisions.append(correct / predicted)
        made, right, there = made + predicted, right + correct, there + positive
    CP, CR, OP, OR = sum(precisions) / C, sum(recalls) / len(recalls), right / made, right / there
    f1 = lambda p, r: 2 * p * r / (p + r) if p + r else 0.0  # noqa: E731
    return {
        "mAP": math.fsum(aps) / len(aps),
        "CP": CP,
        "CR": CR,
        "CF1": f1(CP, CR),
        "OP": OP,
        "OR": OR,
        "OF1": f1(OP, OR),
    }
