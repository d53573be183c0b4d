"""The integers of ExecuTorch files: torchao's quantization of exported programs, by the rules of XNNPACK.

A weight has a scale of each channel, an activation the least and the largest value that was seen.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from numpy.typing import NDArray
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

#: key under which a node says how it is quantized
ANNOTATION = "quantization_annotation"
#: least scale of an activation, as in XNNPACK's own settings, and of a weight. Theirs is the same, and would round the
#: weights of a layer of a thousand inputs to a coarser grid than 8 bits have; 0 would be no scale of a dead channel
LEAST, LEAST_OF_WEIGHTS = 2**-12, 2**-20
_ATEN = torch.ops.aten
CLAMPS = (_ATEN.hardtanh.default, _ATEN.hardtanh_.default)
#: what XNNPACK clamps the answer of, on its way out
CLAMPED = (_ATEN.conv2d.default, _ATEN.linear.default, _ATEN.add.Tensor, _ATEN.add_.Tensor, _ATEN.mul.Tensor)


def quantized(program: torch.export.ExportedProgram, calibration: NDArray[np.float32]) -> torch.export.ExportedProgram:
    """Return a program that computes with integers; its input and output stay float32.

    Args:
        program: of one input, of a batch of 1.
        calibration: (n, c, h, w) inputs, all of which are run.
    """
    prepared = prepare_pt2e(program.module(), _Quantizer().set_global(_config()))
    with torch.inference_mode():
        for x in torch.from_numpy(calibration):
            prepared(x[None])
    return torch.export.export(convert_pt2e(prepared), program.example_inputs[0])


def _config() -> Any:
    """Return XNNPACK's symmetric weights and asymmetric activations, these with the range that was seen.

    Its own observer looks for the range that fits a histogram best.
    """
    config = get_symmetric_quantization_config(is_per_channel=True)
    seen = replace(config.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=LEAST))
    weight = replace(config.weight, observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=LEAST_OF_WEIGHTS))
    return replace(config, input_activation=seen, output_activation=seen, weight=weight)


class _Quantizer(XNNPACKQuantizer):  # type: ignore[misc]
    """XNNPACK's quantizer, which knows that a ReLU belongs to what is in front of it, and of a ReLU6 as well.

    Else the answer of a convolution is rounded before it is clamped, with a range most of which is cut off then, and
    the clamp is an operator of its own: 28.3 dB where this gives 31.6 (measured).
    """

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Say of every node how it is quantized."""
        model = super().annotate(model)
        for node in model.graph.nodes:
            if node.target in CLAMPS and node.args[0].target in CLAMPED and len(node.args[0].users) == 1:
                _clamp_first_(node)
        return model


def _clamp_first_(node: torch.fx.Node) -> None:
    """Let a node be rounded, and what is in front of it not."""
    before = node.all_input_nodes[0].meta.get(ANNOTATION)
    if before is not None and before.output_qspec is not None:
        node.meta[ANNOTATION] = QuantizationAnnotation(output_qspec=before.output_qspec, _annotated=True)
        before.output_qspec = None
