"""Kernels compiled in a process and kernels read back from the cache give the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.verify

HASHES = """
import hashlib

import numpy as np
import torch

from splatomy.geometry.cameras import Cameras
from splatomy.kernels._numba_hash import Encode
from splatomy.kernels.march import march
from splatomy.kernels.surfel import splat_surfels
from splatomy.kernels.voxelize import voxelize
from splatomy.kernels.xray import splat

draw = torch.Generator().manual_seed(0)
N, SIZE = 4000, 96
shapes = [torch.randn(N, 3, generator=draw) * 8, torch.randn(N, 4, generator=draw)]
scales, density = torch.rand(N, 3, generator=draw) + 0.1, torch.rand(N, generator=draw)
intrinsics, pose = torch.eye(3, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
intrinsics[0, 0] = intrinsics[1, 1] = 200.0
intrinsics[:2, 2] = SIZE / 2
pose[2, 3] = 60.0


def said(name, out, leaves):
    weights = torch.rand(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weights).sum().backward()
    digest = hashlib.sha1()
    for tensor in (out.detach(), *(leaf.grad for leaf in leaves)):
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    print(name, digest.hexdigest())


def leaves(*tensors):
    return [t.clone().requires_grad_() for t in tensors]


own = leaves(*shapes, scales, density)
said("splat", splat(*own, intrinsics, pose, SIZE, SIZE, pixel_average=True), own)
own = leaves(*shapes, scales, density)
affine = torch.eye(4, dtype=torch.float64)
affine[:3, 3] = -24.0
said("voxelize", voxelize(*own, (48, 48, 48), affine), own)
own = leaves(*shapes, scales[:, :2], density * 0.8, torch.rand(N, 3, generator=draw))
said("surfels", splat_surfels(*own, intrinsics, pose, SIZE, SIZE).colour, own)
own = leaves(torch.rand(N, 3, generator=draw), torch.randn(2, 512, 2, generator=draw))
layout = (np.array([8, 16]), np.array([[1, 9, 81], [1, 2654435761, 805459861]]), np.array([-1, 511]))
own[1] = torch.randn(2, 1024, 2, generator=draw).requires_grad_()
said("encode", Encode.apply(*own, *layout), own)
values = torch.rand(20, 24, 28, generator=draw).numpy()
cameras = Cameras(intrinsics.numpy()[None], pose.numpy()[None], SIZE, SIZE)
image = march(values, np.eye(4), cameras)
print("march", hashlib.sha1(image.tobytes()).hexdigest())
"""


def hashes(cache: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", HASHES], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_compiled_kernel_and_a_cached_one_round_alike(tmp_path: Path) -> None:
    compiled = hashes(tmp_path)
    assert any(tmp_path.rglob("*.nbc"))
    assert compiled.count("\n") == 5
    for _ in range(2):
        assert hashes(tmp_path) == compiled
