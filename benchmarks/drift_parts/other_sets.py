"""A watch's sensors, letters as 16 numbers, mails as sentences, molecules as graphs: clean and shifted."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from compile_tasks import data

from drift_parts import environments, nets
from drift_parts.nets import Array, Set

MOLECULES = {"test": 34_000, "test_scaffolds": 4000}
"""How many of each part of MOSES (Polykovskiy et al., 2020; MIT): real molecules of ZINC; those of ``test_scaffolds``
have Bemis-Murcko scaffolds that no other part has."""
TRAINED = 16_000
data.FILES["molecules"] = data.Pinned(
    "pip",
    "molsets==0.3.1",
    None,
    "7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
)


def watch() -> tuple[nets.Net, Set]:
    """A watch's sensors, in order of time: 5 subjects trained on, 3 held out as the reference's, 2 unseen, and
    turned."""
    raw = np.load(data.fetch("watch"), allow_pickle=True).item()
    subjects = np.asarray(raw["subject"])
    train_on = np.isin(subjects, (1, 2, 3, 4, 5))
    rows = np.concatenate([series for series, kept in zip(raw["X"], train_on, strict=True) if kept])
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)

    def windows(chosen: Array, hop: int, turn: bool = False) -> tuple[Array, Array]:
        inputs, labels = [], []
        for row in np.flatnonzero(chosen):
            series = np.array(raw["X"][row], dtype=np.float64)
            if turn:  # the watch is worn upside down: two axes of either sensor change sign
                series[:, [0, 1, 3, 4]] *= -1
            series = ((series - mean) / deviation).astype(np.float32)
            for start in range(0, len(series) - 128 + 1, hop):
                inputs.append(series[start : start + 128].T)
                labels.append(raw["y"][row])
        return np.stack(inputs), np.array(labels, np.int64)

    net = nets.train(nets.series(6, 7), *windows(train_on, 32), epochs=6)
    held = np.isin(subjects, (6, 7, 8))
    return net, {
        "clean": windows(held, 8),
        "unseen subjects": windows(np.isin(subjects, (9, 10)), 8),
        "turned": windows(held, 8, turn=True),
    }


def letters() -> tuple[nets.Net, Set]:
    """LetterRecognition: another prior, a field that drops to zero, one that is scaled."""
    folder = data.prepare("letters")
    with np.load(folder / "train.npz") as raw, np.load(folder / "reference.npz") as other:
        inputs = np.concatenate([raw["inputs"], other["inputs"]])
        labels = np.concatenate([raw["labels"], other["labels"]])
    order = np.random.default_rng(3).permutation(len(inputs))
    inputs, labels = inputs[order], labels[order]
    net = nets.train(nets.table(16, 26), inputs[:6000], labels[:6000], epochs=15)
    clean, kept = inputs[6000:], labels[6000:]
    some, of = clean[-3000:], kept[-3000:]
    weights = np.where(of < 5, 2.0, 1.0)
    shifted = np.random.default_rng(4).choice(len(of), 3000, p=weights / weights.sum())
    dropped = some.copy()
    dropped[:, 7] = (0 - 7.5) / 4
    scaled = some.copy()
    scaled[:, 9] *= 1.3
    return net, {
        "clean": (clean[:-3000], kept[:-3000]),
        "A to E doubled": (some[shifted], of[shifted]),
        "field dropped": (dropped, of),
        "field scaled 1.3": (scaled, of),
    }


def mails() -> dict[str, Array]:
    """Paragraphs of mails through MiniLM-L3: those of two groups, and, as a control without drift, of two later ones of
    the same kinds. There is no classifier, so there are no scores."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(data.fetch("minilm")), options)
    wanted = {each.name for each in session.get_inputs()}
    folder = data.prepare("sentences")
    found: dict[str, Array] = {}
    for shift, split in (("clean", "train"), ("other mails (control)", "reference")):
        with np.load(folder / f"{split}.npz") as raw:
            ids, mask = raw["input_ids"], raw["attention_mask"]
        parts = []
        for start in range(0, len(ids), 50):
            feed = {"input_ids": ids[start : start + 50], "attention_mask": mask[start : start + 50]}
            feed["token_type_ids"] = np.zeros_like(feed["input_ids"])
            tokens = session.run(None, {name: array for name, array in feed.items() if name in wanted})[0]
            weights = feed["attention_mask"][:, :, None]
            pooled = tokens if tokens.ndim == 2 else (tokens * weights).sum(axis=1) / weights.sum(axis=1)
            parts.append(pooled.astype(np.float32))
        found[f"{shift}_e"] = np.concatenate(parts)
    return found


def molecules() -> tuple[nets.Net, Set]:
    """Molecules; the net tells in which fifth their logP lies. Other scaffolds; another mix of families (sulfonyls
    twice as often); a toolkit that writes aromatic bonds as single and double ones."""
    graphs = _graphs()
    edges = np.quantile(graphs["test:logp"][:TRAINED], (0.2, 0.4, 0.6, 0.8))
    labels = {name: np.digitize(graphs[f"{name}:logp"], edges) for name in MOLECULES}
    found, of = graphs["test"], labels["test"]
    net = nets.train(nets.graphs(5), found[:TRAINED], of[:TRAINED], epochs=10)
    last = len(of) - 4000
    sulfonyl = graphs["test:sulfonyl"][last:]
    weights = np.where(sulfonyl, 2.0, 1.0)
    drawn = last + np.random.default_rng(7).choice(len(sulfonyl), len(sulfonyl), p=weights / weights.sum())
    return net, {
        "clean": (found[TRAINED:last], of[TRAINED:last]),
        "unseen scaffolds": (graphs["test_scaffolds"], labels["test_scaffolds"]),
        "sulfonyls doubled": (found[drawn], of[drawn]),
        "aromatic bonds lost": (graphs["test:plain"][last:], of[last:]),
    }


def _graphs() -> dict[str, Array]:
    """What ``molecules.py`` makes of a random draw from each part."""
    smiles = {}
    with zipfile.ZipFile(data.fetch("molecules")) as wheel:
        for name, count in MOLECULES.items():
            lines = gzip.decompress(wheel.read(f"moses/dataset/data/{name}.csv.gz")).decode().split()[1:]
            chosen = np.random.default_rng(6).choice(len(lines), count, replace=False)
            smiles[name] = [lines[row] for row in chosen]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "smiles.json", Path(folder) / "graphs.npz"
        source.write_text(json.dumps(smiles))
        environments.run("peers", "molecules.py", source, target)
        with np.load(target) as raw:
            return dict(raw)
