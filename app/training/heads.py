"""Small Keras heads on stored embeddings: several towers trained side by side, their answers averaged in one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.inference.model_input import Floats

_BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class Tower:
    """One opinion: which columns of the embedding it sees, its hidden width (0: linear) and how much it forgets."""

    first: int
    last: int
    hidden: int
    dropout: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Training history of a head: number of epochs, the epoch that was kept, and its loss on the validation rows."""

    epochs: int
    best_epoch: int
    validation_loss: float


def build(dimensions: int, outputs: int, towers: Sequence[Tower], rows: Floats, seed: int) -> tuple[Any, Any]:
    """The training model (one output a tower) and the serving model (their averaged logits), sharing weights.

    Standard layers only, so that the artefact loads in Keras' safe mode.
    """
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    source = keras.Input((dimensions,), dtype="float32")
    mean, variance = rows.mean(axis=0), rows.var(axis=0) + 1e-3
    column = layers.Reshape((dimensions, 1))(layers.Normalization(mean=mean, variance=variance)(source))
    logits = []
    for index, tower in enumerate(towers):
        cut = layers.Flatten()(layers.Cropping1D((tower.first, dimensions - tower.last))(column))
        value = layers.Dropout(tower.dropout)(cut)
        if tower.hidden:
            value = layers.Dense(tower.hidden, activation="gelu")(value)
            value = layers.Dropout(0.5)(value)
        logits.append(layers.Dense(outputs, name=f"tower_{index}")(value))
    averaged = layers.Average()(logits) if len(logits) > 1 else logits[0]
    return keras.Model(source, logits), keras.Model(source, averaged)


def fit(
    training: Any,
    serving: Any,
    rows: tuple[Floats, Floats],
    validation: tuple[Floats, Floats],
    *,
    loss: Callable[[], Any],
    epochs: int,
    patience: int,
    progress: Callable[[int, float], None],
    learning_rate: float = 1e-3,
) -> Fit:
    """Train all towers; stop when the averaged answer has not improved on the validation rows for `patience` epochs."""
    values, targets = rows
    steps = max(1, len(values) // _BATCH_ROWS)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    training.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-3), loss=[loss() for _ in training.outputs])
    measure = loss()
    best, best_epoch, kept = float("inf"), 0, serving.get_weights()
    epoch = 0
    for epoch in range(1, epochs + 1):
        order = np.random.default_rng(epoch).permutation(len(values))
        for step in range(steps):
            chosen = order[step * _BATCH_ROWS : (step + 1) * _BATCH_ROWS]
            training.train_on_batch(values[chosen], [targets[chosen]] * len(training.outputs))
        measured = float(measure(validation[1], serving.predict(validation[0], batch_size=1024, verbose=0)))
        progress(epoch, measured)
        if measured < best:
            best, best_epoch, kept = measured, epoch, serving.get_weights()
        if epoch - best_epoch >= patience:
            break
    serving.set_weights(kept)
    return Fit(epochs=epoch, best_epoch=best_epoch, validation_loss=best)


def temperature(logits: Floats, targets: NDArray[np.int64]) -> float:
    """The factor on the logits that makes the probabilities of a softmax fit best what really happened."""

    def loss(factor: float) -> float:
        scaled = logits * factor
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        norms = np.log(np.exp(scaled).sum(axis=1))
        return float((norms - scaled[np.arange(len(targets)), targets]).mean())

    return min((float(factor) for factor in np.geomspace(0.4, 3.0, 80)), key=loss)


def with_softmax(serving: Any, factor: float) -> Any:
    """The head as it ships: probabilities, sharpened or softened by `factor`."""
    scaled = keras.layers.Rescaling(factor)(serving.output)
    return keras.Model(serving.input, keras.layers.Softmax()(scaled))


def with_sigmoid(serving: Any) -> Any:
    """The head as it ships: one probability a label."""
    return keras.Model(serving.input, keras.layers.Activation("sigmoid")(serving.output))


def with_overall(serving: Any, labels: int) -> Any:
    """One probability a label, and last the overall score: the probability that none holds, as a product."""
    layers = keras.layers
    faults = layers.Activation("sigmoid")(serving.output)
    # 1 - p, with fixed weights instead of code in the artefact.
    fine = layers.Dense(labels, trainable=False, name="fine")
    column = layers.Reshape((labels, 1))(fine(faults))
    fine.set_weights([-np.eye(labels, dtype=np.float32), np.ones(labels, dtype=np.float32)])
    parts = [layers.Flatten()(layers.Cropping1D((index, labels - index - 1))(column)) for index in range(labels)]
    return keras.Model(serving.input, layers.Concatenate()([faults, layers.Multiply()(parts)]))
