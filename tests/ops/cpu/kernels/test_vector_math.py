"""The vector functions of the kernels against Python's mathematics."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
import torch
from numba import cfunc, types

from graphformer.ops.common import dropout_mask
from graphformer.ops.cpu.kernels import vector_math as vm
from graphformer.ops.cpu.kernels.simd import load, splat, store, zeros

LANES = 8


def compiled(body, dtype=np.float32):
    """A Python function of numpy arrays (source, target) that runs a body on vectors of 8."""
    kind = types.float32 if dtype is np.float32 else types.float64
    pointer = types.CPointer(kind)
    function = cfunc(types.void(pointer, pointer), error_model="numpy")(body)
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(function.address)

    def run(source, size=LANES):
        source = np.ascontiguousarray(source, dtype)
        target = np.full(size, np.nan, dtype)
        prototype(source.ctypes.data, target.ctypes.data)
        return target

    run.function = function  # keeps the code alive
    return run


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponential_to_two_units_in_the_last_place(dtype):
    def body(x, y):
        zero = zeros(x, 8)
        store(y, 0, vm.exponential(load(x, 0, zero)))

    run = compiled(body, dtype)
    smallest = -87.0 if dtype is np.float32 else -707.0
    points = np.random.default_rng(3).uniform(smallest, 0, (101, LANES))
    for x in [*points, np.zeros(LANES), np.linspace(-1e-6, 0, LANES)]:
        x = x.astype(dtype)
        expected = np.array([math.exp(value) for value in x.tolist()])
        error = np.abs(run(x).astype(np.float64) - expected)
        assert (error <= 2 * np.spacing(expected.astype(dtype))).all()


def test_exponential_of_extremes():
    def body(x, y):
        zero = zeros(x, 8)
        store(y, 0, vm.exponential(load(x, 0, zero)))

    x = np.array([0.0, -math.inf, math.nan, -1e30, -88.0, -87.0, -1e-30, -0.0])
    out = compiled(body)(x)
    assert out[[0, 6, 7]].tolist() == [1, 1, 1]
    assert out[[1, 3, 4]].tolist() == [0, 0, 0]
    assert np.isnan(out[2])
    assert out[5] > 0


def test_reductions():
    def body(x, y):
        zero = zeros(x, 8)
        a = load(x, 0, zero)
        b, c, d = a + a, a * a, a - a
        y[0] = vm.sum_lanes(a)
        y[1] = vm.max_lane(a)
        vm.store_lane_sums(y, 2, a, b, c, d)

    x = np.array([3, -5, 7, 2, 11, 0, -1, 4.0])
    out = compiled(body)(x, 6)
    assert out.tolist() == [21, 11, 21, 42, float((x**2).sum()), 0]


def test_leaky_relu_and_maximum():
    def body(x, y):
        zero = zeros(x, 8)
        a, slope = load(x, 0, zero), splat(0.25, zero)
        store(y, 0, vm.leaky_relu(a, slope))
        store(y, 8, vm.leaky_relu_slope(a, slope))
        store(y, 16, vm.maximum(a, splat(1.0, zero)))

    x = np.array([3, -5, 7, 2, 11, 0, -1, 4.0])
    out = compiled(body)(x, 24)
    assert out[:8].tolist() == np.where(x > 0, x, 0.25 * x).tolist()
    assert out[8:16].tolist() == np.where(x > 0, 1, 0.25).tolist()
    assert out[16:].tolist() == np.maximum(x, 1).tolist()


def test_dropout_is_the_shared_generator():
    seed, threshold = 2**62 + 7, round(0.4 * 2**24)

    def body(x, y):
        for i in range(101):
            y[i] = 1.0 if vm.is_kept(seed, i, threshold) else 0.0

    expected = dropout_mask(101, 1, 0.4, torch.tensor(seed)).flatten()
    assert compiled(body)(np.zeros(1), 101).tolist() == expected.tolist()
