// The runtime of this page: LiteRT.js on the CPU (XNNPACK in WebAssembly).
import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";

/** Open the file; return a function from the values of its input to those of its outputs, by name. */
export async function open({ file, inputs: [entry], outputs: exits }) {
  await loadLiteRt(new URL("vendor/litert/wasm/", document.baseURI).href);
  const model = await loadAndCompile(new URL(file, document.baseURI).href, { accelerator: "wasm" });
  // a file of one output may call it otherwise than its signature does
  const names = model.getOutputDetails().map(({ name }) => name);
  const place = (name) => (exits.length === 1 ? 0 : names.indexOf(name));
  return async (values) => {
    const fed = new Tensor(values, entry.shape);
    const tensors = await model.run(fed);
    fed.delete(); // LiteRT.js leaves the memory of its tensors to its caller
    const answers = tensors.map((tensor) => tensor.toTypedArray().slice());
    for (const tensor of tensors) tensor.delete();
    return Object.fromEntries(exits.map(({ name }) => [name, answers[place(name)]]));
  };
}
