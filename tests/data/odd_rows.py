"""Stored arrays whose rows misbehave, in a module that workers can import."""

import os
import signal
import time

import numpy as np

from sillar.data import Augmentation, StoredArray


class Odd(StoredArray):
    """Row i is (i, i), but for one row, at which something happens."""

    def __init__(self, n, odd, event):
        self.shape, self.dtype = (n, 2), np.dtype("float32")
        self.odd, self.event = odd, event

    def row(self, number):
        if number == self.odd:
            self.event()
        return np.full(2, number, "float32")


def sleep():
    time.sleep(60)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def leave():
    os._exit(3)


def fail():
    raise LookupError("no such flow")


class Ragged(Odd):
    """One row is longer than the others."""

    def row(self, number):
        return np.zeros(3 if number == self.odd else 2, "float32")


class Slow(Odd):
    """Every row takes a while, all of them longer than a worker may be silent."""

    def row(self, number):
        time.sleep(0.1)
        return super().row(number)


class Threads(Augmentation):
    """Writes the number of OpenCV's threads into the image."""

    def apply(self, image, draw, cv2):
        return np.full_like(image, cv2.getNumThreads())
