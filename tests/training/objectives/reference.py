"""Slow and plain: each objective from its definition, image by image, in float64."""

import numpy as np
import tensorflow as tf


class Net:
    """Two dense layers as a function of images and weights, in float64."""

    def __init__(self, model):
        self.weights = [tf.constant(w, tf.float64) for w in model.get_weights()]

    def __call__(self, image):
        first, bias, last, last_bias = self.weights
        hidden = tf.tanh(tf.reshape(image, [1, -1]) @ first + bias)
        return (hidden @ last + last_bias)[0]


def softmax(z):
    return tf.exp(z) / tf.reduce_sum(tf.exp(z))


def ce(z, y):
    return -tf.math.log(softmax(z)[y])


def kl(z, other):
    p, q = softmax(z), softmax(other)
    return tf.reduce_sum(p * tf.math.log(p / q))


def sign_of_gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return np.sign(tape.gradient(value, x).numpy())


def into_ball(moved, x, epsilon):
    return np.clip(np.clip(moved, x - epsilon, x + epsilon), 0, 1)


def pgd(net, x, y, noise, s):
    moved = into_ball(x + s.epsilon * (2 * noise["uniform"] - 1), x, s.epsilon)
    for _ in range(s.steps):
        step = s.epsilon / 4 * sign_of_gradient(lambda p: ce(net(p), y), moved)
        moved = into_ball(moved + step, x, s.epsilon)
    return ce(net(moved), y)


def fgsm_rs(net, x, y, noise, s):
    start = into_ball(x + s.epsilon * (2 * noise["uniform"] - 1), x, s.epsilon)
    step = 1.25 * s.epsilon * sign_of_gradient(lambda p: ce(net(p), y), start)
    return ce(net(into_ball(start + step, x, s.epsilon)), y)


def n_fgsm(net, x, y, noise, s):
    start = x + 2 * s.epsilon * (2 * noise["uniform"] - 1)
    step = s.epsilon * sign_of_gradient(lambda p: ce(net(p), y), start)
    return ce(net(np.clip(start + step, 0, 1)), y)


def trades(net, x, y, noise, s):
    moved = x + 0.001 * noise["normal"]
    clean = tf.stop_gradient(net(x))
    for _ in range(s.steps):
        step = s.epsilon / 4 * sign_of_gradient(lambda p: kl(clean, net(p)), moved)
        moved = into_ball(moved + step, x, s.epsilon)
    return ce(net(x), y) + s.beta * kl(net(x), net(moved))


def mart(net, x, y, noise, s):
    moved = x + 0.001 * noise["normal"]
    for _ in range(s.steps):
        step = s.epsilon / 4 * sign_of_gradient(lambda p: ce(net(p), y), moved)
        moved = into_ball(moved + step, x, s.epsilon)
    p, q = softmax(net(x)), softmax(net(moved))
    rival = max((k for k in range(len(q)) if k != y), key=lambda k: float(q[k]))
    bce = -tf.math.log(q[y]) - tf.math.log(1 - q[rival])
    return bce + s.weight * kl(net(x), net(moved)) * (1 - p[y])


def noise(net, x, y, noise, s):
    return ce(net(np.clip(x + s.sigma * noise["normal"], 0, 1)), y)


def augmix(net, x, y, noise, s):
    clean, *others = (softmax(net(image)) for image in (x, *noise["mixed"]))
    mean = (clean + others[0] + others[1]) / 3
    js = sum(tf.reduce_sum(p * tf.math.log(p / mean)) for p in (clean, *others)) / 3
    return ce(net(x), y) + s.weight * js


OBJECTIVES = {
    "pgd": pgd,
    "fgsm_rs": fgsm_rs,
    "n_fgsm": n_fgsm,
    "trades": trades,
    "mart": mart,
    "noise": noise,
    "augmix": augmix,
}


def loss_and_gradients(name, model, images, labels, noise, settings):
    """Returns the mean loss of a batch and its gradients with respect to all weights."""
    net = Net(model)
    with tf.GradientTape() as tape:
        tape.watch(net.weights)
        losses = [
            OBJECTIVES[name](
                net,
                images[i].astype(np.float64),
                int(labels[i]),
                {key: value[i].astype(np.float64) for key, value in noise.items()},
                settings,
            )
            for i in range(len(images))
        ]
        loss = tf.add_n(losses) / len(images)
    return loss.numpy(), [g.numpy() for g in tape.gradient(loss, net.weights)]
