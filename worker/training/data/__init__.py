"""The data of the training: MNIST's files, distorted digits, and pictures to evaluate with."""
