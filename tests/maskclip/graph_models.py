"""Small TensorFlow.js graph models, written as converters write them."""

import json
from pathlib import Path

import numpy as np


def write_graph_model(
    path: Path, kernels: list[tuple[np.ndarray, np.ndarray]], *, half: bool = True
) -> Path:
    """Convolutions, (h, w, in, out) kernels with (out,) biases, in a shuffled order of nodes."""
    nodes, entries, stored = [], [], b""
    for place, (kernel, bias) in enumerate(kernels):
        name = f"net/convolution_{place}" if place else "net/convolution"
        names = f"split_{place}", f"bias_{place}"
        nodes.append({"name": f"net/Add_{place}", "op": "Add", "input": [name, names[1]]})
        nodes.append({"name": name, "op": "Conv2D", "input": [f"net/pad_{place}", names[0]]})
        for own, value in zip(names, (kernel, bias), strict=True):
            entry = {"name": own, "shape": list(value.shape), "dtype": "float32"}
            if half:
                entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            entries.append(entry)
            stored += value.astype(np.float16 if half else np.float32).tobytes()
    weights = path.with_suffix(".bin")
    weights.write_bytes(stored)
    content = {
        "format": "graph-model",
        "modelTopology": {"node": nodes[::-1]},
        "weightsManifest": [{"paths": [weights.name], "weights": entries}],
    }
    path.write_text(json.dumps(content))
    return path
