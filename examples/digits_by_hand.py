"""The training loop written out: a small CNN on the digits, in ten lines.

    python examples/digits_by_hand.py

`sillar.fit` is these lines plus notifications. At the end the same run is done with
`fit`, and the weights of the two are compared bit by bit.
"""

import numpy as np

import sillar as sl
from sillar import nn

SEED, LR, BATCH = 0, 3e-3, 32


def network() -> nn.Sequential:
    """Return a CNN for images (n, 8, 8, 1): ten scores, about 3,000 parameters."""
    return nn.Sequential(
        nn.Conv2D(1, 32, kernel=3),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Dense(288, 10),
    )


def by_hand(train: sl.data.Dataset, epochs: int) -> nn.Sequential:
    """Return a network trained by the loop, written out."""
    rng = sl.Rng(SEED)
    model = network().init(rng.split("weights"))
    loss = sl.CrossEntropy()
    optimizer = sl.Adam(LR).bind(model.parameters())
    loader = sl.data.DataLoader(train, BATCH, shuffle=True, seed=SEED)
    for epoch in range(epochs):
        for x, y in loader.epoch(epoch):
            outputs = model(x, rng=rng.split("step", optimizer.updates))
            value = loss(outputs, y)
            optimizer.step(sl.grad(value, optimizer.params))
        print(f"epoch {epoch + 1}: loss of the last batch {value.item():.4f}")
    return model


def main(epochs: int = 10) -> bool:
    """Train by hand and with `fit`; say whether the weights are the same."""
    train, test = sl.data.digits().split(test=0.2, seed=0)
    ours = by_hand(train, epochs)
    predicted = sl.predict(ours, test.x).argmax(axis=1)
    print(f"{np.mean(predicted == test.y):.1%} of {len(test)} test digits are right")

    theirs = network()
    options = {"epochs": epochs, "batch_size": BATCH, "seed": SEED, "callbacks": ()}
    sl.fit(theirs, sl.CrossEntropy(), sl.Adam(LR), train, **options)
    same = np.array_equal(ours.parameters().vector, theirs.parameters().vector)
    print("fit gives", "the same weights, bit for bit" if same else "other weights")
    return same


if __name__ == "__main__":
    main()
