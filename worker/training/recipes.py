"""What a training run is made of, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Everything but data and seed that decides the weights. Rates are per step, sizes in images or units."""

    name: str
    #: Goes into the model's version: raise it with every change of the values.
    revision: int
    #: Units of each fully connected layer, input first.
    layers: tuple[int, ...]
    batch: int
    steps: int
    learning_rate: float
    #: The learning rate is multiplied by this every `decay_steps` steps, at once (staircase).
    decay: float
    decay_steps: int
    #: Factor of the sum of `tf.nn.l2_loss` over the weights, not the biases.
    l2: float
    #: Decay of the moving average of the weights that is served.
    ema: float
    #: The first images of the training set, held out to watch the run; never trained on.
    validation: int
    checkpoint_every: int

    # Distorted digits want another way of training: what follows is set altogether or not at all.

    #: How many distorted digits and how many pictures are made beforehand, see `worker.training.bank`; None if batches
    #: are MNIST's images as they are.
    bank: tuple[int, int] | None = None
    #: How many images of a batch are pictures.
    pictures: int = 0
    #: Weight decay of AdamW, which takes the place of plain gradient descent, in parts of the learning rate.
    #: Source: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2019.
    adamw: float | None = None
    #: The learning rate rises for so many steps, and falls to 0 along half a cosine: no staircase. It falls in so many
    #: cycles, each from half as high as the one before.
    #: Source: I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.
    warm_up: int = 0
    cycles: int = 1
    #: The share of hidden units left out of a step.
    dropout: float = 0.0
    #: The share of a label's probability that is spread over all classes.
    label_smoothing: float = 0.0

    #: The recipe of the network whose answers are learnt in place of the labels, and what its logits and ours are
    #: divided by first. Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015.
    teacher: str | None = None
    temperature: float = 1.0
    #: Channels of convolutions in front of the layers, the first of 5x5, the others of 3x3; one to more channels halves
    #: the sides. Teachers have them; what is served has none.
    convolutions: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """The recipe whose `dataclasses.asdict` went through JSON, where a tuple becomes a list."""
        tuples: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values | tuples)

    @property
    def version(self) -> str:
        """The version of a model made by this recipe, such as "seed-1"."""
        return f"{self.name}-{self.revision}"

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step 0, 1, 2, …; 0 from the last on if it falls along a cosine."""
        if not self.warm_up:
            return self.learning_rate * self.decay ** (step // self.decay_steps)
        if step >= self.steps:
            return 0.0
        cycle, position = divmod(step, self.steps // self.cycles)
        falling = 0.5 * (1 + math.cos(math.pi * position / (self.steps // self.cycles)))
        return self.learning_rate * 0.5**cycle * falling * min(1, (step + 1) / self.warm_up)

    def ema_decay_at(self, step: int) -> float:
        """The decay of the moving average after step 0, 1, 2, …: young averages forget their random start sooner.

        Source: `num_updates` of `tf.train.ExponentialMovingAverage`.
        """
        return min(self.ema, (1 + step) / (10 + step))


#: The plain recipe of the textbook example MNIST_best_practice (Zheng, Gu: "TensorFlow: Google Deep Learning Framework
#: in Practice", 2017, section 5.5), with the learning rate, the batch and the steps of the seed.
SEED = Recipe(
    name="seed",
    revision=1,
    layers=(784, 500, 10),  # the book's INPUT_NODE, LAYER1_NODE, OUTPUT_NODE
    batch=200,  # the seed
    steps=50_000,  # the seed: 167 passes
    learning_rate=0.1,  # the seed; the book's 0.8 is less stable on batches of 200
    decay=0.99,  # the book's LEARNING_RATE_DECAY
    decay_steps=300,  # one pass over 60,000 images in batches of 200
    l2=0.0001,  # the book's REGULARIZATION_RATE
    ema=0.99,  # the book's MOVING_AVERAGE_DECAY
    validation=5_000,  # the first ones, as the book's reader read_data_sets does
    checkpoint_every=1_000,  # the book
)

#: Who answers for the labels of distorted digits: a network that sees neighbourhoods, which one of fully connected
#: layers has to learn. All convolutions, strides for pooling, as in J. Springenberg et al., "Striving for Simplicity",
#: 2015. The eleventh class is what is no digit.
TEACHER = replace(
    SEED,
    name="teacher",
    layers=(7 * 7 * 96, 256, 11),
    batch=256,
    steps=9_000,
    learning_rate=1.5e-3,
    l2=0.0,  # adamw decays
    ema=0.999,
    bank=(1_998_848, 196_608),
    pictures=96,
    adamw=0.05,
    warm_up=300,
    dropout=0.3,
    label_smoothing=0.02,
    convolutions=(48, 48, 96, 96),
)

#: A network seven times the seed's, taught by the teacher on distorted digits and pictures. The layers are as large as
#: 12 MB allow; rates, decay and dropout are customary values of AdamW and were not searched.
BEST = replace(
    TEACHER,
    name="best",
    revision=2,
    layers=(784, 1024, 1024, 1024, 11),
    batch=1024,
    steps=16_000,  # 298 passes, forty minutes on two cores
    cycles=2,
    learning_rate=4e-3,
    pictures=448,
    dropout=0.0,
    label_smoothing=0.0,
    teacher="teacher",
    temperature=2.0,
    convolutions=(),
)

RECIPES = {recipe.name: recipe for recipe in (SEED, TEACHER, BEST)}
