#!/usr/bin/env python3
"""Writes tests/data/io: files as numpy, safetensors and torch write them.

Made with Python 3.11, numpy 2.4.6, safetensors and torch of the versions in
tools/reference/requirements.txt. Values are small integers, so that the C++ tests state them by
formula. `--verify` loads tests/data/io/written.pt, which the C++ writer makes byte for byte (test
TorchFile.WritesTheCommittedBytes), with torch.load(weights_only=True) and checks every value;
`--verify FILE` does so for another file.
"""

import collections
import io
import os
import pathlib
import pickle
import sys
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "io"


def counted(shape, dtype, start=0):
    n = int(np.prod(shape)) if len(shape) else 1
    return (torch.arange(n, dtype=torch.int64) + start).reshape(shape).to(dtype)


def write_safetensors():
    types = [torch.bool, torch.uint8, torch.int8, torch.float8_e5m2, torch.float8_e4m3fn,
             torch.int16, torch.uint16, torch.float16, torch.bfloat16, torch.int32, torch.uint32,
             torch.float32, torch.float64, torch.int64, torch.uint64]
    tensors = {f"t.{str(t).split('.')[1]}": counted((2, 3), t, i) for i, t in enumerate(types)}
    tensors["a.scalar"] = torch.tensor(7.5)
    tensors["z.empty"] = torch.zeros((0, 5))
    tensors["quote\"back\\slash\n\u00e9\u4e2d\x01"] = counted((1,), torch.float32, 3)
    save_file(tensors, OUT / "reference.safetensors", metadata={"format": "pt"})
    save_file({}, OUT / "reference_empty.safetensors")
    save_file({"only": counted((5,), torch.uint8)}, OUT / "reference_plain.safetensors")
    # Every code of the 8-bit floats, and what torch makes of it.
    codes = torch.arange(256, dtype=torch.int64).to(torch.uint8)
    float8 = {}
    for t in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
              torch.float8_e8m0fnu):
        name = str(t).split(".")[1]
        float8[name] = codes.clone().view(t)
        float8[name + ".float32"] = codes.view(t).to(torch.float32)
    save_file(float8, OUT / "float8.safetensors")


def write_npy():
    def npy(name, array, version=None):
        with open(OUT / name, "wb") as f:
            np.lib.format.write_array(f, array, version=version, allow_pickle=True)

    a = np.arange(12).reshape(3, 4)
    for code in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]:
        npy(f"c_{code}.npy", a.astype("<" + code))
    npy("c_b1.npy", a % 2 == 1)
    npy("fortran_f4.npy", np.asfortranarray(np.arange(24, dtype="<f4").reshape(2, 3, 4)))
    npy("fortran_rows_f4.npy", np.ascontiguousarray(a.T).astype("<f4").T)
    npy("big_f8.npy", a.astype(">f8"))
    npy("big_fortran_i2.npy", np.asfortranarray(a.astype(">i2")))
    npy("scalar_f4.npy", np.float32(2.5))
    npy("vector_i8.npy", np.arange(5, dtype="<i8"))
    npy("empty_f4.npy", np.zeros((0, 4), "<f4"))
    npy("version2_f4.npy", a.astype("<f4"), (2, 0))
    npy("version3_f4.npy", a.astype("<f4"), (3, 0))
    npy("bad_object.npy", np.array([{"a": 1}], dtype=object))
    npy("bad_record.npy", np.zeros(2, dtype=[("x", "<f4"), ("y", "<i4")]))
    npy("bad_string.npy", np.array(["ab", "c"]))
    npy("bad_complex.npy", np.zeros(2, "<c8"))
    npy("void2.npy", np.array([0x3F80, 0xC000], "<u2").view("V2"))
    np.savez(OUT / "stored.npz", x=a.astype("<f4"), y=np.arange(3))
    np.savez_compressed(OUT / "deflated.npz", x=np.zeros((50, 40), "<f4"), y=np.arange(3))


class Custom:
    pass


class Evil:
    def __reduce__(self):
        return (os.system, ("true",))


def state_dict():
    out = collections.OrderedDict()
    out["f32"] = counted((2, 3), torch.float32)
    out["f16"] = counted((2, 3), torch.float16)
    out["bf16"] = counted((2, 3), torch.bfloat16)
    out["f64"] = counted((2, 3), torch.float64)
    for t in (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16,
              torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2):
        out[str(t).split(".")[1]] = counted((2, 3), t)
    out["bool"] = torch.tensor([True, False, True])
    out["scalar"] = torch.tensor(7.5)
    out["empty"] = torch.zeros(0, 5)
    return out


def numpy_values():
    """What a training loop in numpy leaves in its history."""
    numbers = {code: np.dtype("<" + code).type(value) for code, value in [
        ("f2", -0.25), ("f4", 1.5), ("f8", 1e300), ("i1", -2), ("i2", -300), ("i4", -70000),
        ("i8", -2**63), ("u1", 200), ("u2", 60000), ("u4", 4 * 10**9), ("u8", 2**63 - 1)]}
    matrix = np.arange(6, dtype="<f4").reshape(2, 3)
    return {"numbers": numbers, "true": np.bool_(True), "false": np.bool_(False),
            "losses": [np.float64(3.0), np.float64(0.5)], "zero_axes": np.array(0.75),
            "matrix": matrix, "fortran": np.asfortranarray(matrix), "empty": np.zeros((0, 3), "<i8"),
            "no_bytes": b""}


def rename_modules(source, target, old, new):
    """A copy of a protocol 2 file with another module's name in its pickle."""
    with zipfile.ZipFile(source) as src, zipfile.ZipFile(target, "w") as dst:
        for name in src.namelist():
            data = src.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(b"c" + old + b"\n", b"c" + new + b"\n")
            dst.writestr(zipfile.ZipInfo(name), data)


def save(name, value, **options):
    torch.save(value, OUT / name, **options)


def write_torch():
    views = counted((4, 6), torch.float32)
    save("views.pt", {
        "whole": views, "transposed": views.t(), "columns": views[:, 1:3], "rows": views[1:3],
        "every_other": views[::2, ::3], "expanded": torch.tensor([3.0]).expand(2, 3),
        "permuted": counted((2, 3, 4), torch.int64).permute(2, 0, 1), "tied": views})
    save("state_dict.pt", state_dict())
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(counted((2, 3), torch.float32))
        layer.bias.copy_(counted((2,), torch.float32, 6))
    with_metadata = layer.state_dict()
    with_metadata["p"] = torch.nn.Parameter(counted((3,), torch.float32))
    save("parameter.pt", with_metadata)
    plain = {
        "none": None, "true": True, "false": False, "ints": [0, 255, 256, 65535, 65536, -1,
                                                             2**31 - 1, -2**31, 2**31, -2**63,
                                                             2**63 - 1],
        "floats": [0.0, -1.5, 1e300, float("inf"), float("nan")], "text": "h\u00e9llo \u4e2d",
        "tuple": (1, ("a", None)), "nested": {"a": {"b": [[], {}, ()]}}, 7: "int key",
        "bytes": b"\x00\x7f\x80\xff", "size": torch.Size([2, 3]), "dtype": torch.bfloat16,
        "device": torch.device("cpu"), "set": {1}}
    save("plain.pt", plain)
    save("plain_protocol4.pt", plain, pickle_protocol=4)
    tied = counted((2, 3), torch.float32)
    save("legacy.pt", {"f32": tied, "t": tied.t(), "tail": tied[1], "bf16": counted((5,), torch.bfloat16),
                       "p": torch.nn.Parameter(counted((3,), torch.float16)), "step": 7,
                       "empty": torch.zeros(0, 5)}, _use_new_zipfile_serialization=False)
    save("numpy.pt", numpy_values())
    save("numpy_protocol4.pt", numpy_values(), pickle_protocol=4)
    rename_modules(OUT / "numpy.pt", OUT / "numpy1.pt", b"numpy._core.multiarray",
                   b"numpy.core.multiarray")  # as numpy before 2 calls it
    # numbers in memory order of a big-endian machine
    little = io.BytesIO()
    torch.save({"x": counted((2, 2), torch.float32), "t": counted((2, 3), torch.int16).t()}, little)
    with zipfile.ZipFile(little) as src, zipfile.ZipFile(OUT / "big_endian.pt", "w") as dst:
        for name in src.namelist():
            data = src.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            if name.endswith("data/0"):
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            if name.endswith("data/1"):
                data = np.frombuffer(data, "<i2").astype(">i2").tobytes()
            dst.writestr(name, data)
    save("bad_call.pt", {"x": Evil()})
    save("bad_class.pt", Custom())
    save("bad_complex.pt", torch.zeros(2, dtype=torch.complex64))
    save("bad_bigint.pt", 2**64)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), OUT / "bad_torchscript.pt")
    circle = []
    circle.append(circle)
    with zipfile.ZipFile(OUT / "bad_circle.pt", "w") as z:
        z.writestr("archive/data.pkl", pickle.dumps(circle, protocol=2))


def verify(path):
    got = torch.load(path, weights_only=True)
    assert isinstance(got, dict) and not isinstance(got, collections.OrderedDict)
    assert isinstance(got["state_dict"], collections.OrderedDict)
    want = state_dict()
    assert list(got["state_dict"]) == list(want), list(got["state_dict"])
    for name, tensor in want.items():
        found = got["state_dict"][name]
        assert found.dtype == tensor.dtype and found.shape == tensor.shape, name
        raw = [t.contiguous().view(torch.uint8) if t.dim() else t.reshape(1).view(torch.uint8)
               for t in (found, tensor)]
        assert torch.equal(*raw), name
    assert got["tied"].data_ptr() == got["state_dict"]["f32"].data_ptr()
    assert got["ints"] == [0, 255, 256, 65535, 65536, -1, 2**31 - 1, -2**31, 2**31, -2**63,
                           2**63 - 1]
    assert got["floats"][:3] == [0.0, -1.5, 1e300] and np.isinf(got["floats"][3])
    assert got["none"] is None and got["true"] is True and got["false"] is False
    assert got["text"] == "h\u00e9llo \u4e2d" and got["bytes"] == b"\x00\x7f\x80\xff"
    assert got["tuple"] == (1, ("a", None)) and got["nested"] == {"a": {"b": [[], {}, ()]}}
    assert got[7] == "int key"
    torch.load(path, weights_only=True, mmap=True)
    assert zipfile.ZipFile(path).testzip() is None
    print(path, "is what torch wants")


def main():
    if "--verify" in sys.argv:
        rest = sys.argv[sys.argv.index("--verify") + 1:]
        for path in rest or [OUT / "written.pt"]:
            verify(path)
        return
    OUT.mkdir(parents=True, exist_ok=True)
    write_safetensors()
    write_npy()
    write_torch()
    for path in OUT.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
