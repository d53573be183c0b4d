// The runtime of this page: LiteRT.js on the CPU (XNNPACK in WebAssembly).
import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";

/** Open the file; return a function from the values of its input to the values of its first output. */
export async function open({ file, inputs: [entry] }) {
  await loadLiteRt(new URL("vendor/litert/wasm/", document.baseURI).href);
  const model = await loadAndCompile(new URL(file, document.baseURI).href, { accelerator: "wasm" });
  return async (values) => {
    const fed = new Tensor(values, entry.shape);
    const outputs = await model.run(fed);
    const answer = outputs[0].toTypedArray().slice();
    fed.delete(); // LiteRT.js leaves the memory of its tensors to its caller
    for (const output of outputs) output.delete();
    return answer;
  };
}
