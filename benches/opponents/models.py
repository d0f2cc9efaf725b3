"""The small-image variants of resnet8, resnet20, resnet50, mobilenetv2 and shufflenet in plain PyTorch.

Every convolution may multiply its weight by a mask in each forward pass, as implementations of pruning usually do.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Conv(nn.Conv2d):
    """A convolution that keeps its size at stride 1. With `masked` it multiplies by its mask in every forward pass."""

    masked = False

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1, bias=False):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.register_buffer("mask", torch.ones_like(self.weight))

    def forward(self, x):
        weight = self.weight * self.mask if Conv.masked else self.weight
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def conv_norm(inputs, outputs, kernel, stride=1, groups=1, bias=False):
    return nn.Sequential(Conv(inputs, outputs, kernel, stride, groups, bias), nn.BatchNorm2d(outputs))


def pooled(x):
    return x.mean((2, 3))


class Basic(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.conv2 = conv_norm(inputs, outputs, 3, stride), conv_norm(outputs, outputs, 3)
        plain = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if plain else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, channels, widths, blocks, classes):
        super().__init__()
        self.stem = conv_norm(channels, widths[0], 3)
        layers, inputs = [], widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(Basic(inputs, width, 2 if stage > 0 and block == 0 else 1))
                inputs = width
        self.layers, self.fc = nn.Sequential(*layers), nn.Linear(inputs, classes)

    def forward(self, x):
        return self.fc(pooled(self.layers(F.relu(self.stem(x)))))


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.reduce, self.spatial = conv_norm(inputs, width, 1), conv_norm(width, width, 3, stride)
        self.expand = conv_norm(width, 4 * width, 1)
        plain = stride == 1 and inputs == 4 * width
        self.shortcut = nn.Identity() if plain else conv_norm(inputs, 4 * width, 1, stride)

    def forward(self, x):
        inner = F.relu(self.spatial(F.relu(self.reduce(x), inplace=True)), inplace=True)
        return F.relu(self.expand(inner) + self.shortcut(x), inplace=True)


class ResNet50(nn.Module):
    def __init__(self, classes, large=False):
        super().__init__()
        self.stem = conv_norm(3, 64, 7, 2) if large else conv_norm(3, 64, 3)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        layers, inputs = [], 64
        for width, count, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
            for block in range(count):
                layers.append(Bottleneck(inputs, width, stride if block == 0 else 1))
                inputs = 4 * width
        self.layers, self.fc = nn.Sequential(*layers), nn.Linear(inputs, classes)

    def forward(self, x):
        return self.fc(pooled(self.layers(self.pool(F.relu(self.stem(x), inplace=True)))))


class Inverted(nn.Module):
    def __init__(self, expansion, inputs, outputs, stride):
        super().__init__()
        hidden = expansion * inputs
        self.expand = conv_norm(inputs, hidden, 1)
        self.depthwise = conv_norm(hidden, hidden, 3, stride, groups=hidden)
        self.project = conv_norm(hidden, outputs, 1)
        self.residual = stride == 1
        plain = not self.residual or inputs == outputs
        self.shortcut = nn.Identity() if plain else conv_norm(inputs, outputs, 1)

    def forward(self, x):
        inner = F.relu(self.depthwise(F.relu(self.expand(x), inplace=True)), inplace=True)
        inner = self.project(inner)
        return inner + self.shortcut(x) if self.residual else inner


class MobileNetV2(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = conv_norm(3, 32, 3)
        groups = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
        layers, inputs = [], 32
        for expansion, outputs, count, stride in groups:
            for block in range(count):
                layers.append(Inverted(expansion, inputs, outputs, stride if block == 0 else 1))
                inputs = outputs
        self.layers, self.last, self.fc = nn.Sequential(*layers), conv_norm(320, 1280, 1), nn.Linear(1280, classes)

    def forward(self, x):
        x = self.layers(F.relu(self.stem(x), inplace=True))
        return self.fc(pooled(F.relu(self.last(x), inplace=True)))


class Unit(nn.Module):
    def __init__(self, inputs, outputs, halves):
        super().__init__()
        width = outputs // 4
        self.halves = halves
        self.reduce = conv_norm(inputs, width, 1, groups=3, bias=True)
        self.depthwise = conv_norm(width, width, 3, 2 if halves else 1, groups=width, bias=True)
        self.expand = conv_norm(width, outputs - inputs if halves else outputs, 1, groups=3, bias=True)

    def forward(self, x):
        inner = F.relu(self.reduce(x), inplace=True)
        batch, channels, height, width = inner.shape
        inner = inner.view(batch, 3, channels // 3, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        inner = self.expand(self.depthwise(inner))
        if self.halves:
            return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), inner], 1), inplace=True)
        return F.relu(inner + x, inplace=True)


class ShuffleNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = conv_norm(3, 24, 3, bias=True)
        layers, inputs = [], 24
        for outputs, count in [(240, 4), (480, 8), (960, 4)]:
            for unit in range(count):
                layers.append(Unit(inputs, outputs, unit == 0))
                inputs = outputs
        self.layers, self.fc = nn.Sequential(*layers), nn.Linear(960, classes)

    def forward(self, x):
        return self.fc(pooled(self.layers(F.relu(self.stem(x), inplace=True))))


def build(architecture, classes, large=False):
    return {
        "resnet8": lambda: ResNet(1, [8, 16, 32], 1, classes),
        "resnet20": lambda: ResNet(3, [16, 32, 64], 3, classes),
        "resnet50": lambda: ResNet50(classes, large),
        "mobilenetv2": lambda: MobileNetV2(classes),
        "shufflenet": lambda: ShuffleNet(classes),
    }[architecture]()


def random_masks(model, ratio=0.2, seed=1):
    """Masks like those of a ticket with 80 % of its weights left; weights outside them are zero."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, Conv):
            layer.mask.copy_((torch.rand(layer.mask.shape, generator=generator) > ratio).float())
            layer.weight.data.mul_(layer.mask)
