// The network: what model.json says of it, the runtime that runs it, and the time that it takes here.
import * as prepare from "./preprocessing.js";
import { open } from "./runtime.js";

// one sample is as many runs as take this long: a browser's clock is coarse
const SAMPLE_MS = 4;
const SAMPLES = 15;

/** Load model.json and the file it describes first; return { model, file, answer, latency }. */
export async function network() {
  const model = await (await fetch("model.json")).json();
  const [file] = model.files;
  const run = await open(file);
  const [channels, height, width] = file.preprocessing.shape;
  const fed = (rgba) =>
    prepare.input(prepare.resize(prepare.fromRgba(rgba, channels), width, height), file.preprocessing, file.inputs[0]);

  /** Answer RGBA pixels: the real values of each output, by name. */
  async function answer(rgba) {
    const values = await run(fed(rgba));
    return Object.fromEntries(file.outputs.map((spec) => [spec.name, prepare.output(values[spec.name], spec)]));
  }

  /** Return the median of SAMPLES timings of the network alone, in ms. */
  async function latency(rgba) {
    const values = fed(rgba);
    await run(values);
    let runs = 1;
    while ((await timed(run, values, runs)) < SAMPLE_MS && runs < 4096) runs *= 2;
    const found = [];
    for (let i = 0; i < SAMPLES; i++) found.push((await timed(run, values, runs)) / runs);
    return { median: found.sort((a, b) => a - b)[SAMPLES >> 1], runs: runs * SAMPLES };
  }

  return { model, file, answer, latency };
}

async function timed(run, values, runs) {
  const start = performance.now();
  for (let i = 0; i < runs; i++) await run(values);
  return performance.now() - start;
}
