"""A character model: a small GPT that learns a text, and then writes.

    python examples/character_model.py [FILE]

Without a file it learns the Python of this one. The last tenth of the text is held
back and measured in nats per character, against a table of pairs of characters; both
know only what the other nine tenths say.
"""

import sys
from pathlib import Path

import numpy as np

import sillar as sl
from sillar import nn

CONTEXT = 32


def parts(text: str, windows: int) -> tuple[sl.data.Dataset, sl.data.Dataset]:
    """Return windows of the first nine tenths of the text, and of the last tenth."""
    kept = len(text) * 9 // 10
    known = tuple(sorted(set(text)))
    train = sl.data.text_windows(text[:kept], CONTEXT, classes=known, count=windows)
    return train, sl.data.text_windows(text[kept:], CONTEXT, classes=known)


def pair_loss(train: sl.data.Dataset, test: sl.data.Dataset) -> float:
    """Return the loss of guessing from how often each character followed the last."""
    counts = np.ones((len(train.classes), len(train.classes)))
    np.add.at(counts, (train.x, train.y), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log(shares[test.x, test.y]).mean())


def write(model: nn.Layer, classes: tuple[str, ...], prompt: str, length: int) -> str:
    """Return the prompt and what the model writes after it, printed as it is drawn."""
    print(prompt, end="")
    text = prompt
    start = [classes.index(character) for character in prompt]
    for number in sl.sample(
        model, start, length=length, context=CONTEXT, temperature=0.5, seed=1
    ):
        text += classes[number]
        print(classes[number], end="", flush=True)
    print()
    return text


def main(text: str = "", steps: int = 600, length: int = 200) -> tuple[float, float]:
    """Learn the text, write, and return both losses: the model's and the table's."""
    text = text or Path(__file__).read_text(encoding="utf-8")
    train, test = parts(text, windows=12 * steps)
    classes = train.classes
    print(f"{len(text):,} characters, {len(classes)} different")

    model = nn.GPT(len(classes), 64, blocks=2, heads=4, context=CONTEXT, bias=False)
    rate = sl.LinearWarmup(sl.CosineAnnealing(2e-3, steps), 20, start_factor=0.05)
    optimizer = sl.AdamW(rate, beta2=0.99, weight_decay=0.1)
    sl.fit(
        model,
        sl.CrossEntropy(),
        optimizer,
        train,
        epochs=1,
        batch_size=12,
        transforms=[sl.ClipNorm(1.0)],
    )
    loss = sl.evaluate(model, test, loss=sl.CrossEntropy())["loss"]
    pairs = pair_loss(train, test)
    print(f"held back: {loss:.3f} nats per character, a table of pairs {pairs:.3f}\n")
    write(model, classes, text[:4], length)
    return loss, pairs


if __name__ == "__main__":
    main(sl.data.read_text(sys.argv[1]) if len(sys.argv) > 1 else "")
