"""TensorFlow Lite -> ONNX for MediaPipe's pose networks: float weights (dense or sparse), dynamic batch.

The two networks use a dozen operators, all of them here; another one is refused by name. TFLite keeps pictures
as NHWC and ONNX wants NCHW, so the picture is transposed once at the input and everything inside is NCHW.
Schema: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}
_NHWC_TO_NCHW = [0, 3, 1, 2]


def convert(tflite: bytes, outputs: Mapping[int, str], scale: float, offset: float = 0.0) -> onnx.ModelProto:
    """The ONNX model of a TFLite picture network.

    Its input is `image` (N, H, W, 3) uint8 RGB, turned into `image * scale + offset` inside the graph. `outputs`
    names the TFLite outputs to keep by their position; the rest of the graph is dropped. Outputs with four axes
    stay (N, H, W, C). Raises ValueError for bytes that are no TFLite model or one with another operator.
    """
    from mediapipe.tasks.metadata import schema_py_generated as schema

    if tflite[4:8] != b"TFL3":
        raise ValueError("tflite: expected a TensorFlow Lite model (TFL3), got other bytes.")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    return _Converter(model, names).run(outputs, scale, offset)


class _Converter:
    """One conversion: the TFLite graph's operators in order, each a method named after it."""

    def __init__(self, model: Any, operator_names: Mapping[int, str]) -> None:
        self._model, self._names = model, operator_names
        self._graph = model.subgraphs[0]
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._constants: dict[int, NDArray[Any]] = {}
        self._values: dict[int, str] = {}

    def run(self, outputs: Mapping[int, str], scale: float, offset: float) -> onnx.ModelProto:
        graph = self._graph
        source = graph.inputs[0]
        _, height, width, channels = (int(n) for n in graph.tensors[source].shape)
        self._add("Cast", ["image"], "image_float", to=TensorProto.FLOAT)
        self._add("Transpose", ["image_float"], "image_nchw", perm=_NHWC_TO_NCHW)
        self._add("Mul", ["image_nchw", self._init(np.float32(scale))], "image_scaled")
        self._values[source] = "image_scaled"
        if offset:
            self._values[source] = self._add("Add", ["image_scaled", self._init(np.float32(offset))], "image_offset")
        for operator in graph.operators:
            self._operator(operator)
        infos = [self._output(graph.outputs[i], name) for i, name in outputs.items()]
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, channels])
        onnx_graph = helper.make_graph(self._live_nodes(outputs.values()), "pose", [image], infos)
        used = {name for node in onnx_graph.node for name in node.input}
        onnx_graph.initializer.extend(i for i in self._initializers if i.name in used)
        model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _operator(self, operator: Any) -> None:
        code = self._model.operatorCodes[operator.opcodeIndex]
        name = self._names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        handler: Callable[[Any, list[int], str], str | None] | None = getattr(self, f"_op_{name.lower()}", None)
        if handler is None:
            raise ValueError(f"tflite: the operator {name} is not one of those that can be converted.")
        result = int(operator.outputs[0])
        value = handler(operator.builtinOptions, [int(i) for i in operator.inputs], f"t{result}")
        if value is not None:
            self._values[result] = value
        elif (constant := self._constant(int(operator.inputs[0]))) is not None:
            self._constants[result] = constant.astype(np.float32)
        else:
            raise ValueError(f"tflite: {name} of a value that is not constant cannot be converted.")

    def _output(self, tensor: int, name: str) -> onnx.ValueInfoProto:
        shape = [int(n) for n in self._graph.tensors[tensor].shape[1:]]
        if len(shape) == 3:
            self._add("Transpose", [self._values[tensor]], name, perm=[0, 2, 3, 1])
        else:
            self._add("Identity", [self._values[tensor]], name)
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])

    def _live_nodes(self, outputs: Any) -> list[onnx.NodeProto]:
        needed, live = set(outputs), []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                live.append(node)
                needed.update(node.input)
        return live[::-1]

    def _constant(self, tensor: int) -> NDArray[Any] | None:
        if tensor not in self._constants:
            t = self._graph.tensors[tensor]
            data = self._model.buffers[t.buffer].data
            if data is None or len(data) == 0:
                return None
            values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), _DTYPES[t.type])
            shape = () if t.shape is None else tuple(int(n) for n in t.shape)
            self._constants[tensor] = values.reshape(shape) if t.sparsity is None else _dense(values, shape, t.sparsity)
        return self._constants[tensor]

    def _weights(self, tensor: int) -> NDArray[Any]:
        values = self._constant(tensor)
        if values is None:
            raise ValueError("tflite: expected constant weights, got a computed tensor.")
        return values

    def _init(self, values: Any) -> str:
        name = f"c{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def _add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def _activated(self, value: str, activation: int) -> str:
        if activation == 0:
            return value
        if activation == 1:
            return self._add("Relu", [value], f"{value}_relu")
        if activation == 3:
            limits = [self._init(np.float32(0)), self._init(np.float32(6))]
            return self._add("Clip", [value, *limits], f"{value}_relu6")
        raise ValueError(f"tflite: the fused activation {activation} is not one of those that can be converted.")

    def _window(self, source: int, kernel: Any, options: Any, dilation: tuple[int, int] = (1, 1)) -> dict[str, Any]:
        """Attributes of a sliding window; TFLite's SAME puts the odd pixel of padding at the end."""
        strides, sides = (options.strideH, options.strideW), [(0, 0), (0, 0)]
        if options.padding == 0:
            for axis in range(2):
                size = int(self._graph.tensors[source].shape[1 + axis])
                reach = (int(kernel[axis]) - 1) * dilation[axis] + 1
                pad = max((-(-size // strides[axis]) - 1) * strides[axis] + reach - size, 0)
                sides[axis] = (pad // 2, pad - pad // 2)
        return {
            "kernel_shape": [int(k) for k in kernel],
            "strides": list(strides),
            "pads": [sides[0][0], sides[1][0], sides[0][1], sides[1][1]],
        }

    def _convolution(self, options: Any, inputs: list[int], name: str, perm: list[int], group: int) -> str:
        weights, bias = self._weights(inputs[1]), self._weights(inputs[2])
        dilation = (int(options.dilationHFactor), int(options.dilationWFactor))
        window = self._window(inputs[0], weights.shape[1:3], options, dilation)
        sources = [self._values[inputs[0]], self._init(weights.transpose(perm)), self._init(bias)]
        self._add("Conv", sources, name, dilations=list(dilation), group=group, **window)
        return self._activated(name, options.fusedActivationFunction)

    def _op_conv_2d(self, options: Any, inputs: list[int], name: str) -> str:
        return self._convolution(options, inputs, name, [0, 3, 1, 2], 1)

    def _op_depthwise_conv_2d(self, options: Any, inputs: list[int], name: str) -> str:
        return self._convolution(options, inputs, name, [3, 0, 1, 2], int(self._graph.tensors[inputs[0]].shape[3]))

    def _op_add(self, options: Any, inputs: list[int], name: str) -> str:
        terms = []
        for i in inputs:
            constant = self._constant(i)
            if constant is None:
                terms.append(self._values[i])
            else:
                terms.append(self._init(constant if constant.size == 1 else constant.reshape(1, -1, 1, 1)))
        return self._activated(self._add("Add", terms, name), options.fusedActivationFunction)

    def _op_pad(self, _options: Any, inputs: list[int], name: str) -> str:
        amounts = self._weights(inputs[1])[_NHWC_TO_NCHW].T.ravel().astype(np.int64)
        return self._add("Pad", [self._values[inputs[0]], self._init(amounts)], name)

    def _op_max_pool_2d(self, options: Any, inputs: list[int], name: str) -> str:
        window = self._window(inputs[0], (options.filterHeight, options.filterWidth), options)
        self._add("MaxPool", [self._values[inputs[0]]], name, **window)
        return self._activated(name, options.fusedActivationFunction)

    def _op_resize_bilinear(self, options: Any, inputs: list[int], name: str) -> str:
        height, width = self._weights(inputs[1]) / self._graph.tensors[inputs[0]].shape[1:3]
        mode = "half_pixel" if options.halfPixelCenters else "asymmetric"
        return self._add(
            "Resize",
            [self._values[inputs[0]], "", self._init(np.array([1, 1, height, width], np.float32))],
            name,
            mode="linear",
            coordinate_transformation_mode="align_corners" if options.alignCorners else mode,
        )

    def _op_depth_to_space(self, options: Any, inputs: list[int], name: str) -> str:
        source = [self._values[inputs[0]]]
        return self._add("DepthToSpace", source, name, blocksize=int(options.blockSize), mode="DCR")

    def _op_reshape(self, _options: Any, inputs: list[int], name: str) -> str:
        source = self._values[inputs[0]]
        if len(self._graph.tensors[inputs[0]].shape) == 4:
            source = self._add("Transpose", [source], f"{name}_nhwc", perm=[0, 2, 3, 1])
        shape = self._graph.tensors[int(name[1:])].shape[1:]
        if len(shape) == 3:
            raise ValueError("tflite: a RESHAPE to four axes cannot be converted.")
        return self._add("Reshape", [source, self._init(np.array([-1, *shape], np.int64))], name)

    def _op_concatenation(self, options: Any, inputs: list[int], name: str) -> str:
        rank = len(self._graph.tensors[int(name[1:])].shape)
        axis = options.axis % rank
        if rank == 4:
            axis = _NHWC_TO_NCHW.index(axis)
        self._add("Concat", [self._values[i] for i in inputs], name, axis=axis)
        return self._activated(name, options.fusedActivationFunction)

    def _op_logistic(self, _options: Any, inputs: list[int], name: str) -> str:
        return self._add("Sigmoid", [self._values[inputs[0]]], name)

    def _op_dequantize(self, *_: Any) -> None:
        return None

    _op_densify = _op_dequantize


def _dense(values: NDArray[Any], shape: tuple[int, ...], sparsity: Any) -> NDArray[Any]:
    """A dense tensor of one that is compressed along its last axis (rows in order, without blocks)."""
    formats = [dimension.format for dimension in sparsity.dimMetadata]
    plain = list(sparsity.traversalOrder) == list(range(len(shape)))
    if not plain or formats != [0] * (len(shape) - 1) + [1]:
        raise ValueError("tflite: a sparse tensor in blocks or in another order cannot be converted.")
    last = sparsity.dimMetadata[-1]
    starts = np.asarray(last.arraySegments.values, np.int64)
    columns = np.asarray(last.arrayIndices.values, np.int64)
    dense = np.zeros((len(starts) - 1, shape[-1]), values.dtype)
    dense[np.repeat(np.arange(len(starts) - 1), np.diff(starts)), columns] = values
    return dense.reshape(shape)
