"""Hard sigmoids in terms that every runtime of TFLite knows."""

from typing import Any

import numpy as np


def rewrite_(model: Any) -> None:
    """Replace every HardSigmoid of an ONNX model by relu6(6 (a x + b)) / 6, which is the same.

    onnx2tf would make a RELU_0_TO_1 of it, which TFLite Micro does not have.
    """
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    constants: dict[str, np.float32] = {}
    for node in model.graph.node:
        if node.op_type != "HardSigmoid":
            nodes.append(node)
            continue
        # the defaults are those of the operator
        slope, offset = 0.2, 0.5
        for attribute in node.attribute:
            slope = attribute.f if attribute.name == "alpha" else slope
            offset = attribute.f if attribute.name == "beta" else offset
        name, output = node.name or node.output[0], node.output[0]
        given = {"scale": 6 * slope, "shift": 6 * offset, "low": 0.0, "high": 6.0, "sixth": 1 / 6}
        constants |= {f"{name}/{key}": np.float32(value) for key, value in given.items()}
        scaled, shifted, clipped = (f"{output}/{step}" for step in ("scaled", "shifted", "clipped"))
        source = node.input[0]
        if not np.isclose(given["scale"], 1):
            nodes.append(helper.make_node("Mul", [source, f"{name}/scale"], [scaled], name=f"{name}/mul"))
            source = scaled
        nodes += [
            helper.make_node("Add", [source, f"{name}/shift"], [shifted], name=f"{name}/add"),
            helper.make_node("Clip", [shifted, f"{name}/low", f"{name}/high"], [clipped], name=f"{name}/relu6"),
            helper.make_node("Mul", [clipped, f"{name}/sixth"], [output], name=f"{name}/sixth_of"),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
