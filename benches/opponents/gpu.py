"""Training in plain PyTorch on a GPU: a turn of a few steps, again and again, timed.

    gpu.py SHAPE ARCHITECTURE STYLE BATCH STEPS FOLDER DEVICE

SHAPE `cifar` reads CIFAR-100's binary version from FOLDER and evaluates after each turn; `imagenet` has one batch of images
of 224×224 on the device. STYLE is one of
  reference  masks multiplied in every forward pass, contiguous fp32 as PyTorch computes it by default (convolutions with
             TF32), loss.item() in every step, images one by one through a DataLoader
  best       the best one writes by hand: channels_last, bf16 autocast, fused SGD, masked gradients, images on the device
Says how many parameters there are, then does a turn for every line of its standard input, and says how it was.
"""

import json
import os
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from models import Conv, build, random_masks

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def read(path):
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, 3074)
    return torch.from_numpy(records[:, 2:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(records[:, 1].astype(np.int64))


class OneByOne(Dataset):
    """What torchvision's transforms do: pad, crop, mirror, to floats, normalize."""

    def __init__(self, path, varied):
        (self.pixels, self.labels), self.varied = read(path), varied
        self.mean, self.deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.pixels[index]
        if self.varied:
            row, column = (int(number) for number in torch.randint(9, (2,)))
            image = F.pad(image, (4, 4, 4, 4))[:, row : row + 32, column : column + 32]
            image = image.flip(2) if torch.rand(()) < 0.5 else image
        return (image.float() / 255 - self.mean) / self.deviation, self.labels[index]


class Loaded:
    def __init__(self, folder, batch, steps, device):
        workers = min(8, os.cpu_count() or 1)
        common = {"num_workers": workers, "pin_memory": device.type == "cuda", "persistent_workers": True}
        train, test = OneByOne(f"{folder}/train.bin", True), OneByOne(f"{folder}/test.bin", False)
        self.train, self.test = DataLoader(train, batch, shuffle=True, **common), DataLoader(test, batch, **common)
        self.steps, self.device = steps, device

    def move(self, batch):
        return [tensor.to(self.device, non_blocking=True) for tensor in batch]

    def epoch(self):
        for _, batch in zip(range(self.steps), self.train):
            yield self.move(batch)

    def evaluation(self):
        return (self.move(batch) for batch in self.test)


class OnDevice:
    def __init__(self, folder, batch, steps, device):
        (pixels, labels), (test, test_labels) = read(f"{folder}/train.bin"), read(f"{folder}/test.bin")
        mean, deviation = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in (MEAN, DEVIATION))
        self.normalize = lambda found: ((found.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)
        self.pixels, self.labels = F.pad(pixels, (4, 4, 4, 4)).to(device), labels.to(device)
        self.test, self.test_labels = test.to(device), test_labels.to(device)
        self.batch, self.steps, self.device = batch, steps, device

    def epoch(self):
        windows = self.pixels.unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5)
        order = torch.randperm(len(self.labels), device=self.device)
        for index in order.split(self.batch)[: self.steps]:
            rows, columns = torch.randint(9, (2, len(index)), device=self.device)
            found = windows[index, rows, columns]
            found = torch.where(torch.rand(len(index), 1, 1, 1, device=self.device) < 0.5, found.flip(3), found)
            yield self.normalize(found), self.labels[index]

    def evaluation(self):
        for found, labels in zip(self.test.split(512), self.test_labels.split(512)):
            yield self.normalize(found), labels


class Still:
    def __init__(self, batch, steps, device, memory_format):
        self.images = torch.randn(batch, 3, 224, 224, device=device).contiguous(memory_format=memory_format)
        self.labels, self.steps = torch.randint(1000, (batch,), device=device), steps

    def epoch(self):
        return ((self.images, self.labels) for _ in range(self.steps))

    def evaluation(self):
        return ()


def main():
    shape, architecture, style, batch, steps, folder, device = sys.argv[1:]
    batch, steps, device = int(batch), int(steps), torch.device(device)
    reference = style == "reference"
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    model = build(architecture, 100 if shape == "cifar" else 1000, large=shape == "imagenet").to(device)
    random_masks(model)
    Conv.masked = reference
    layout = torch.contiguous_format if reference else torch.channels_last
    model = model.to(memory_format=layout)
    if shape == "imagenet":
        data = Still(batch, steps, device, layout)
    else:
        data = (Loaded if reference else OnDevice)(folder, batch, steps, device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=5e-4, fused=not reference)
    masked = [layer for layer in model.modules() if isinstance(layer, Conv)]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=not reference)
    cuda = device.type == "cuda"
    print(json.dumps({"parameters": sum(parameter.numel() for parameter in model.parameters())}), flush=True)
    for _ in sys.stdin:
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start, images = time.perf_counter(), 0
        model.train()
        total = 0.0 if reference else torch.zeros((), device=device)
        for pixels, labels in data.epoch():
            optimizer.zero_grad()
            with autocast:
                loss = F.cross_entropy(model(pixels), labels)
            loss.backward()
            if reference:
                total += loss.item()
            else:
                torch._foreach_mul_([layer.weight.grad for layer in masked], [layer.mask for layer in masked])
                total += loss.detach()
            optimizer.step()
            images += len(labels)
        queued = time.perf_counter() - start
        model.eval()
        wrong = torch.zeros((), device=device)
        with torch.no_grad(), autocast:
            for pixels, labels in data.evaluation():
                wrong += (model(pixels).argmax(1) != labels).sum()
        wrong = int(wrong)
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        memory = torch.cuda.max_memory_allocated() if cuda else 0
        said = {"seconds": seconds, "images": images, "memory": memory, "queued": queued / seconds, "loss": float(total)}
        print(json.dumps(said), flush=True)


main()
