"""The multilayer perceptron and one step of its training, as pure functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from worker.inference.mlp import tensorflow
from worker.training.recipes import Recipe


class _TensorFlow:
    """TensorFlow, imported when it is first used: it takes seconds."""

    def __getattr__(self, name: str) -> Any:
        return getattr(tensorflow(), name)


tf: Any = _TensorFlow()


@cache
def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return the function of tensors as a graph, the same for each call, so that it is traced once."""
    return tf.function(function, **options)  # type: ignore[no-any-return]


#: One (weights [inputs, outputs], biases [outputs]) for each layer: float32 tensors, or NumPy arrays.
Parameters = list[tuple[Any, Any]]


def initial(recipe: Recipe, seed: int) -> Parameters:
    """Zero biases, and weights from a normal of standard deviation sqrt(2 / inputs), cut at two of them.

    Layers (784, 500, 10) give two pairs; before them come those of the convolutions, kernels [5, 5, 1, to] and
    [3, 3, from, to].
    Source: He et al., "Delving Deep into Rectifiers", 2015, section 2.2. The textbook example behind the seed has 0.1:
    with the seed's learning rate that read 98.2 % of the held-out images, and this 98.5 % (one run each).
    """
    kernels = [(5 if channels[0] == 1 else 3,) * 2 + channels for channels in pairwise((1, *recipe.convolutions))]
    shapes: list[tuple[int, ...]] = [*kernels, *pairwise(recipe.layers)]
    deviations = [math.sqrt(2 / math.prod(shape[:-1])) for shape in shapes]
    return [
        (tf.random.stateless_truncated_normal(shape, [seed, depth], stddev=deviation), tf.zeros(shape[-1]))
        for depth, (shape, deviation) in enumerate(zip(shapes, deviations, strict=True))
    ]


def forward(parameters: Parameters, pixels: Any, kept: Sequence[Any] = ()) -> Any:
    """Images float32 [n, 28, 28] in [0, 1] -> logits float32 [n, classes]: ReLU after every layer but the last.

    A convolution to more channels halves the sides. `kept`, if given, is multiplied to the outputs of each
    hidden layer that is fully connected: see `dropout`.
    """
    kernels, (*hidden, (weights, biases)) = _parted(parameters)
    activations = pixels[..., None] if kernels else pixels
    for kernel, kernel_biases in kernels:
        stride = 2 if kernel.shape[3] > kernel.shape[2] else 1
        activations = tf.nn.relu(tf.nn.conv2d(activations, kernel, stride, "SAME") + kernel_biases)
    activations = tf.reshape(activations, [-1, (hidden[0][0] if hidden else weights).shape[0]])
    for depth, (hidden_weights, hidden_biases) in enumerate(hidden):
        activations = tf.nn.relu(activations @ hidden_weights + hidden_biases)
        if kept:
            activations *= kept[depth]
    return activations @ weights + biases


def _parted(parameters: Parameters) -> tuple[Parameters, Parameters]:
    """Those of the convolutions, and those of the fully connected layers."""
    kernels = sum(len(weights.shape) == 4 for weights, _ in parameters)
    return parameters[:kernels], parameters[kernels:]


def dropout(parameters: Parameters, dice: Any, share: float) -> list[Any]:
    """A factor for each hidden unit and image: 0 for about `share` of them, and for the others what evens that out.

    `dice` uint8 [n, hidden units] are random bytes from outside: TensorFlow's own cost more than a layer.
    Source: N. Srivastava et al., "Dropout", 2014.
    """
    left_out = round(256 * share)
    factors = tf.cast(dice >= left_out, tf.float32) * (256 / (256 - left_out))
    return list(tf.split(factors, [weights.shape[1] for weights, _ in _parted(parameters)[1][:-1]], axis=1))


def loss(parameters: Parameters, pixels: Any, labels: Any, l2: float) -> Any:
    """Mean softmax cross-entropy, plus `l2` times half the sum of the squared weights (not the biases)."""
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, forward(parameters, pixels))
    return tf.reduce_mean(entropy) + l2 * tf.add_n([tf.nn.l2_loss(weights) for weights, _ in parameters])


def soft_loss(parameters: Parameters, pixels: Any, targets: Any, temperature: float, kept: Sequence[Any]) -> Any:
    """Mean cross-entropy of targets [n, classes] and of the logits over the temperature, times its square.

    Source: G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015: the square evens out the gradients.
    """
    logits = forward(parameters, pixels, kept) / temperature
    return temperature**2 * tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))


def backward(
    parameters: Parameters, averages: Parameters, pixels: Any, labels: Any, rate: Any, ema: Any, l2: float
) -> tuple[Parameters, Parameters, Any]:
    """One step of stochastic gradient descent and of the moving averages: returns both anew, and the loss before it.

    `pixels` float32 [n, 28, 28] and `labels` int32 [n] are the batch, `rate` the learning rate,
    `ema` the decay of the averages: average = ema * average + (1 - ema) * parameter.
    """
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        value = loss(parameters, pixels, labels, l2)
    gradients = tape.gradient(value, parameters)
    parameters = tf.nest.map_structure(lambda p, gradient: p - rate * gradient, parameters, gradients)
    averages = tf.nest.map_structure(lambda average, p: average - (1 - ema) * (average - p), averages, parameters)
    return parameters, averages, value


def backward_adamw(
    state: Sequence[Parameters], batch: tuple[Any, Any, Any], rates: tuple[Any, Any, Any], recipe: Recipe
) -> tuple[list[Parameters], Any]:
    """One step of AdamW and of the moving averages: returns the state anew, and the loss before it.

    `state` are parameters, their averages, and the first and second moments of the gradients; `batch` pixels, targets
    and the dice of `dropout`; `rates` the learning rate, the decay of the averages, and the number of the step from 1,
    as float32. The first `recipe.frozen` layers stay as they are.
    """
    frozen, state = [one[: recipe.frozen] for one in state], [one[recipe.frozen :] for one in state]
    parameters = state[0]
    pixels, targets, dice = batch
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        every = [*frozen[0], *parameters]
        kept = dropout(every, dice, recipe.dropout) if recipe.dropout else ()
        value = soft_loss(every, pixels, targets, recipe.temperature, kept)
    gradients = tape.gradient(value, parameters)
    columns = zip(*map(tf.nest.flatten, [*state, gradients]), strict=True)
    # Compiled, it goes through memory once.
    fused = compiled(_adamw, jit_compile=True)
    updated = [fused(*column, *rates, recipe.adamw) for column in columns]
    moved = [tf.nest.pack_sequence_as(parameters, one) for one in map(list, zip(*updated, strict=True))]
    return [[*first, *one] for first, one in zip(frozen, moved, strict=True)], value


def _adamw(
    parameter: Any, average: Any, first: Any, second: Any, gradient: Any, rate: Any, ema: Any, step: Any, decay: float
) -> tuple[Any, Any, Any, Any]:
    """Return the next state of a parameter; the constants are those of D. Kingma, J. Ba, "Adam", 2015."""
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient * gradient
    direction = first / (1 - 0.9**step) / (tf.sqrt(second / (1 - 0.999**step)) + 1e-8)
    parameter = parameter - rate * (direction + decay * parameter)
    return parameter, average - (1 - ema) * (average - parameter), first, second
