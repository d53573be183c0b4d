// The runtime of this page: ONNX Runtime Web on the CPU (WebAssembly).
import * as ort from "./vendor/onnxruntime/dist/ort.wasm.min.mjs";

/** Open the file; return a function from the values of its input to those of its outputs, by name. */
export async function open({ file, inputs: [entry], outputs: exits }) {
  ort.env.wasm.wasmPaths = new URL("vendor/onnxruntime/dist/", document.baseURI).href;
  ort.env.wasm.numThreads = 1; // more need headers that a plain static server does not send
  const session = await ort.InferenceSession.create(new URL(file, document.baseURI).href, {
    executionProviders: ["wasm"],
  });
  const shape = entry.shape.map((size) => size || 1);
  return async (values) => {
    const answers = await session.run({ [entry.name]: new ort.Tensor(entry.dtype, values, shape) });
    return Object.fromEntries(exits.map(({ name }) => [name, answers[name].data.slice()]));
  };
}
