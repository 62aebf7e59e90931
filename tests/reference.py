"""The formulas again, written from the paper: slow, plain, and apart from the implementation.

The first half is NumPy in float64, loops that one can check by eye, on one image (C, H, W) at a
time. The second half is torch in float64, for what needs gradients: the formulations with
`interpolate`, `affine_grid` and `grid_sample` that the implementation replaces by matrix products.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

# --- Partition and expansion (Sec. 4.1, Eq. 3) ---------------------------------------------------


def tiles_of(image, partition):
    """The tiles of an image, `partition` a side, row by row; what is left over is in none."""
    _, height, width = image.shape
    h, w = height // partition, width // partition
    return [
        image[:, i * h : (i + 1) * h, j * w : (j + 1) * w]
        for i in range(partition)
        for j in range(partition)
    ]


def enlarged_pixel(tile, row, column, height, width):
    """One pixel (C,) of a tile enlarged to (height, width): bilinear, edges repeated."""
    _, h, w = tile.shape
    y = (row + 0.5) * h / height - 0.5
    x = (column + 0.5) * w / width - 0.5
    value = np.zeros(len(tile))
    for j in (math.floor(y), math.floor(y) + 1):
        for i in (math.floor(x), math.floor(x) + 1):
            weight = (1 - abs(y - j)) * (1 - abs(x - i))
            value += weight * tile[:, min(max(j, 0), h - 1), min(max(i, 0), w - 1)]
    return value


def expand(images, partition):
    """(N, C, H, W) -> (N * tiles, C, H, W): the tiles of the first image, then of the second."""
    _, channels, height, width = images.shape
    expanded = []
    for image in images:
        for tile in tiles_of(image, partition):
            out = np.zeros((channels, height, width))
            for row in range(height):
                for column in range(width):
                    out[:, row, column] = enlarged_pixel(tile, row, column, height, width)
            expanded.append(out)
    return np.stack(expanded)


def shrink(image, partition):
    """The mean over the pixels that each pixel of the small image touches."""
    channels, height, width = image.shape
    h, w = height // partition, width // partition
    out = np.zeros((channels, h, w))
    for row in range(h):
        for column in range(w):
            rows = slice(math.floor(row * height / h), math.ceil((row + 1) * height / h))
            columns = slice(math.floor(column * width / w), math.ceil((column + 1) * width / w))
            out[:, row, column] = image[:, rows, columns].mean(axis=(1, 2))
    return out


def start_from_tiles(real_images, partition):
    """One synthetic image from as many real ones as it has tiles, each shrunk into its tile."""
    start = np.zeros_like(real_images[0])
    for tile, real_image in zip(tiles_of(start, partition), real_images, strict=True):
        tile[...] = shrink(real_image, partition)  # tiles are views
    return start


# --- Siamese augmentation (method of DSA) --------------------------------------------------------


def brightness(image, shift):
    return image + shift


def saturation(image, factor):
    out = np.zeros_like(image)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            pixel = image[:, row, column]
            out[:, row, column] = pixel.mean() + (pixel - pixel.mean()) * factor
    return out


def contrast(image, factor):
    return image.mean() + (image - image.mean()) * factor


def color(image, shift, saturation_factor, contrast_factor):
    return contrast(saturation(brightness(image, shift), saturation_factor), contrast_factor)


def crop(image, down, right):
    """Every pixel reads the one `down` rows below and `right` columns beside it; else 0."""
    _, height, width = image.shape
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                out[:, row, column] = image[:, row + down, column + right]
    return out


def cutout(image, centre_row, centre_column):
    """Zero a square of half the size; its rows and columns are clamped to the image."""
    _, height, width = image.shape
    out = image.copy()
    for row in _cut(centre_row, height):
        for column in _cut(centre_column, width):
            out[:, row, column] = 0
    return out


def _cut(centre, size):
    k = math.floor(size / 2 + 0.5)
    return [min(max(centre - k // 2 + i, 0), size - 1) for i in range(k)]


def flip(image, mirrored):
    return image[:, :, ::-1].copy() if mirrored else image.copy()


def scale(image, down, right):
    """Read at (down * y, right * x), in coordinates that run from -1 to 1 over the image."""
    return _read_at(image, lambda y, x: (down * y, right * x))


def rotate(image, degrees):
    """Read at the coordinates turned by an angle; they run from -1 to 1 on either side."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _read_at(image, lambda y, x: (sin * x + cos * y, cos * x - sin * y))


def _read_at(image, source: Callable[[float, float], tuple[float, float]]):
    _, height, width = image.shape
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = source((2 * row + 1) / height - 1, (2 * column + 1) / width - 1)
            out[:, row, column] = _bilinear(
                image, ((y + 1) * height - 1) / 2, ((x + 1) * width - 1) / 2
            )
    return out


def _bilinear(image, y, x):
    """Value between pixels; pixels outside the image are 0."""
    _, height, width = image.shape
    value = np.zeros(len(image))
    for j in (math.floor(y), math.floor(y) + 1):
        for i in (math.floor(x), math.floor(x) + 1):
            if 0 <= j < height and 0 <= i < width:
                value += (1 - abs(y - j)) * (1 - abs(x - i)) * image[:, j, i]
    return value


def _shift(u, size):
    largest = math.floor(size / 8 + 0.5)
    return math.floor(u * (2 * largest + 1)) - largest


def _centre(u, size):
    even = math.floor(size / 2 + 0.5) % 2 == 0
    return math.floor(u * (size + 1 if even else size))


# What three uniform numbers in [0, 1) mean to each operation on an image of h x w pixels.
PARAMETERS = {
    "color": lambda u, h, w: (u[0] - 0.5, 2 * u[1], 0.5 + u[2]),
    "crop": lambda u, h, w: (_shift(u[0], h), _shift(u[1], w)),
    "cutout": lambda u, h, w: (_centre(u[0], h), _centre(u[1], w)),
    "flip": lambda u, h, w: (u[0] < 0.5,),
    "scale": lambda u, h, w: tuple(1 / 1.2 + (1.2 - 1 / 1.2) * v for v in u[:2]),
    "rotate": lambda u, h, w: (30 * u[0] - 15,),
}

AUGMENT = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}


def augment(image, operation, uniforms):
    """One operation on one image, its parameters from three uniform numbers."""
    parameters = PARAMETERS[operation]([float(u) for u in uniforms], *image.shape[1:])
    return AUGMENT[operation](image, *parameters)


# --- Losses (Eq. 2, 4, 5) ------------------------------------------------------------------------


def class_mean(features):
    """Mean over the images of a class, (B, F) -> (F,)."""
    total = np.zeros(features.shape[1])
    for feature in features:
        total += feature
    return total / len(features)


def matching_loss(real_features, syn_features):
    """Squared distance of two class means, summed over features."""
    real_mean, syn_mean = class_mean(real_features), class_mean(syn_features)
    return sum((r - s) ** 2 for r, s in zip(real_mean, syn_mean, strict=True))


def cross_entropy(logits, label):
    """Of one image: minus the logarithm of the softmax of its class."""
    return math.log(sum(math.exp(z - logits[label]) for z in logits))


def regularization(logits, label, accuracy, lambda_reg):
    """lambda * accuracy in percent * mean cross-entropy of a class's images (M, K)."""
    mean = sum(cross_entropy(row, label) for row in logits) / len(logits)
    return lambda_reg * (100 * accuracy) * mean


def gradient_distance(real, syn):
    """1 - cosine of each output's weights, over all arrays of more than one dimension."""
    total = 0.0
    for one, other in zip(real, syn, strict=True):
        if one.ndim == 1:
            continue
        for row, other_row in zip(one, other, strict=True):
            a, b = row.reshape(-1).tolist(), other_row.reshape(-1).tolist()
            product = sum(x * y for x, y in zip(a, b, strict=True))
            lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
            total += 1 - product / (lengths + 1e-6)
    return total


# --- ConvNet (Sec. 5.1) --------------------------------------------------------------------------


def convnet_features(images, blocks, padding=1):
    """Blocks of 3x3 convolution, instance norm, ReLU and 2x2 mean; flattened, (N, F).

    Each block is (filters (O, C, 3, 3), bias (O,), norm weight (O,), norm bias (O,)).
    """
    out = []
    for image in images:
        x, p = image, padding
        for filters, bias, gain, offset in blocks:
            x = _convolve(np.pad(x, ((0, 0), (p, p), (p, p))), filters, bias)
            x = np.stack([_normed(*channel) for channel in zip(x, gain, offset, strict=True)])
            x = _halved(np.maximum(x, 0))
            p = 1
        out.append(x.reshape(-1))
    return np.stack(out)


def linear(features, weight, bias):
    return np.stack([weight @ feature + bias for feature in features])


def _convolve(padded, filters, bias):
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    out = np.zeros((len(filters), height, width))
    for row in range(height):
        for column in range(width):
            window = padded[:, row : row + 3, column : column + 3]
            out[:, row, column] = (filters * window).sum(axis=(1, 2, 3)) + bias
    return out


def _normed(plane, gain, offset):
    return (plane - plane.mean()) / math.sqrt(plane.var() + 1e-5) * gain + offset


def _halved(x):
    channels, height, width = x.shape
    out = np.zeros((channels, height // 2, width // 2))
    for row in range(height // 2):
        for column in range(width // 2):
            corner = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            out[:, row, column] = corner.mean(axis=(1, 2))
    return out


# --- Optimisers ----------------------------------------------------------------------------------


def sgd(values, gradients, *, lr, momentum, weight_decay=0.0):
    """Where `values` is after each of the given gradients."""
    velocity = np.zeros_like(values)
    path = []
    for gradient in gradients:
        velocity = momentum * velocity + gradient + weight_decay * values
        values = values - lr * velocity
        path.append(values)
    return path


def per_class_sgd(images, gradient_of, *, lr, momentum, iterations):
    """The published step: one momentum step over the images of all C classes, class by class.

    Args:
        images: (C, ...).
        gradient_of: (class, its images) -> gradient of its loss.
        lr: of each of the C steps of an iteration.
        momentum: of one optimiser over all images.
        iterations: how many times all classes have their turn.

    Returns:
        (iterations, C, ...): the images of each class where its gradient was taken.
    """
    images, velocity, points = images.copy(), np.zeros_like(images), []
    for _ in range(iterations):
        points.append(np.zeros_like(images))
        for c in range(len(images)):
            points[-1][c] = images[c]
            gradient = np.zeros_like(images)
            gradient[c] = gradient_of(c, images[c])
            velocity = momentum * velocity + gradient
            images = images - lr * velocity
    return np.stack(points)


# --- Model queue (Sec. 4.2, in the order of the authors' published commands) ---------------------


def queue_history(config, *, num_matched, shuffled) -> Iterator[dict[str, list[int]]]:
    """What each iteration does to a queue of model numbers, without end.

    Args:
        config: of the queue, at least one model long.
        num_matched: models sampled per iteration.
        shuffled: (purpose, iteration, n) -> the numbers 0 ... n - 1 in random order.
    """
    queue, created, iteration = list(range(config.queue_init)), config.queue_init, 0
    while True:
        popped, pushed, trained = [], [], []
        if iteration % config.push_interval == 0:
            pushed = [created]
            queue = [*queue, created]
            created += 1
            if len(queue) > config.queue_size:
                popped, queue = queue[:1], queue[1:]
        order = shuffled("match", iteration, len(queue))
        matched = [queue[i] for i in order][:num_matched]
        if iteration % config.train_interval == 0:
            order = shuffled("train", iteration, len(queue))
            trained = [queue[i] for i in order][: config.num_trained_models]
        yield {
            "queue": queue,
            "popped": popped,
            "pushed": pushed,
            "matched": matched,
            "trained": trained,
        }
        iteration += 1


# --- Evaluation (Sec. 5.1) -----------------------------------------------------------------------


def batches_of_an_epoch(order: Sequence[int], batch: int) -> list[list[int]]:
    """The images in their random order, `batch` at a time; the last batch may be smaller."""
    batches: list[list[int]] = [[]]
    for image in order:
        if len(batches[-1]) == batch:
            batches.append([])
        batches[-1].append(int(image))
    return batches


# --- Class misalignment (Sec. 5.3, Fig. 4) -------------------------------------------------------


def nearest(point, others, k):
    """Numbers of the k others nearest to a point, nearest first; of equally near ones the first."""
    distances = [
        sum((float(p) - float(o)) ** 2 for p, o in zip(point, other, strict=True))
        for other in others
    ]
    found = []
    for _ in range(k):
        best = None
        for number, distance in enumerate(distances):
            if number not in found and (best is None or distance < distances[best]):
                best = number
        found.append(best)
    return found


def consistency_ratio(points, labels, real, real_labels, k):
    """The share of each point's k nearest real ones that have its label, mean over the points."""
    shares = []
    for point, label in zip(points, labels, strict=True):
        same = [number for number in nearest(point, real, k) if real_labels[number] == label]
        shares.append(len(same) / k)
    return sum(shares) / len(shares)


# --- The same with gradients, in torch -----------------------------------------------------------


def expand_torch(images, partition):
    """`expand` by `interpolate`."""
    tiles = torch.stack([tile for image in images for tile in tiles_of(image, partition)])
    return F.interpolate(tiles, size=images.shape[-2:], mode="bilinear", align_corners=False)


def augment_torch(images, operation, uniforms):
    """`augment` of (B, C, H, W), all images alike, by padding, slicing and sampling on a grid."""
    parameters = PARAMETERS[operation]([float(u) for u in uniforms], *images.shape[2:])
    return _AUGMENT_TORCH[operation](images, *parameters)


def _color_torch(images, shift, saturation_factor, contrast_factor):
    images = images + shift
    grey = images.mean(1, keepdim=True)
    images = saturation_factor * images + (1 - saturation_factor) * grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return contrast_factor * images + (1 - contrast_factor) * mean


def _crop_torch(images, down, right):
    _, _, height, width = images.shape
    margin = max(abs(down), abs(right))
    padded = F.pad(images, (margin,) * 4)
    top, left = margin + down, margin + right
    return padded[:, :, top : top + height, left : left + width]


def _cutout_torch(images, centre_row, centre_column):
    keep = torch.ones_like(images)
    for row in _cut(centre_row, images.shape[2]):
        for column in _cut(centre_column, images.shape[3]):
            keep[:, :, row, column] = 0
    return images * keep


def _flip_torch(images, mirrored):
    backwards = range(images.shape[-1])[::-1]
    return images[..., list(backwards)] if mirrored else images


def _scale_torch(images, down, right):
    return _by_grid(images, [[right, 0, 0], [0, down, 0]])


def _rotate_torch(images, degrees):
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _by_grid(images, [[cos, -sin, 0], [sin, cos, 0]])


def _by_grid(images, theta):
    matrices = torch.tensor(theta, dtype=images.dtype).expand(len(images), 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


_AUGMENT_TORCH = {
    "color": _color_torch,
    "crop": _crop_torch,
    "cutout": _cutout_torch,
    "flip": _flip_torch,
    "scale": _scale_torch,
    "rotate": _rotate_torch,
}


def convnet_parts(weights, *, channels, depth, num_features, num_classes, width=128):
    """Cut a flat vector into the blocks of a ConvNet and its head, in the order of the layers."""
    shapes = []
    for block in range(depth):
        inputs = channels if block == 0 else width
        shapes += [(width, inputs, 3, 3), (width,), (width,), (width,)]
    shapes += [(num_classes, num_features), (num_classes,)]
    pieces = weights.split([math.prod(shape) for shape in shapes])
    parts = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
    return [parts[4 * block : 4 * block + 4] for block in range(depth)], parts[-2:]


def convnet_features_torch(images, blocks):
    """`convnet_features` by torch's functions."""
    for filters, bias, gain, offset in blocks:
        images = F.conv2d(images, filters, bias, padding=1)
        images = F.instance_norm(images, weight=gain, bias=offset, eps=1e-5)
        images = F.avg_pool2d(F.relu(images), 2)
    return images.flatten(1)


def class_loss_torch(
    syn_images, real_images, label, *, partition, operation, uniforms, networks, lambda_reg
):
    """(matching, regularization) of one class, averaged over networks.

    `networks` is a list of (blocks, head, accuracy as a fraction).
    """
    matching = regularized = 0.0
    for blocks, (weight, bias), accuracy in networks:
        tiles = augment_torch(expand_torch(syn_images, partition), operation, uniforms)
        real = augment_torch(real_images, operation, uniforms)
        syn_features = convnet_features_torch(tiles, blocks)
        real_mean = convnet_features_torch(real, blocks).mean(0).detach()
        matching = matching + ((real_mean - syn_features.mean(0)) ** 2).sum()
        log_softmax = torch.log_softmax(syn_features @ weight.T + bias, dim=1)
        regularized = regularized - lambda_reg * 100 * accuracy * log_softmax[:, label].mean()
    return matching / len(networks), regularized / len(networks)


def mean_entropy_torch(images, labels, parts):
    """Mean cross-entropy of images in a ConvNet, `parts` as `convnet_parts` gives them."""
    blocks, (weight, bias) = parts
    logits = convnet_features_torch(images, blocks) @ weight.T + bias
    log_softmax = torch.log_softmax(logits, dim=1)
    return -sum(row[label] for row, label in zip(log_softmax, labels, strict=True)) / len(labels)


def gradient_distance_torch(syn_images, real_images, label, cut, weights):
    """Distance of the gradients of a class's real and synthetic images for all weights.

    `cut` makes parts of a flat vector of weights.
    """
    gradients = []
    for images in (real_images, syn_images):
        leaf = weights.clone().requires_grad_()
        loss = mean_entropy_torch(images, [label] * len(images), cut(leaf))
        found = torch.autograd.grad(loss, leaf, create_graph=images is syn_images)[0]
        blocks, head = cut(found)
        gradients.append([piece for block in (*blocks, head) for piece in block])
    total = 0.0
    for real, syn in zip(*gradients, strict=True):
        if real.dim() > 1:
            for a, b in zip(real.flatten(1).detach(), syn.flatten(1), strict=True):
                total = total + 1 - (a @ b) / (a.norm() * b.norm() + 1e-6)
    return total
