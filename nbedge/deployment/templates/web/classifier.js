// A network that tells classes apart.
import { network } from "./network.js";
import { probabilities } from "./preprocessing.js";

/** Load the network; return { model, classify, latency }. */
export async function load() {
  const { model, file, answer, latency } = await network();

  /** Answer RGBA pixels: { outputs, shares, order }, the classes from the likeliest on. */
  async function classify(rgba) {
    const outputs = (await answer(rgba))[file.outputs[0].name];
    const shares = probabilities(outputs, file.head);
    const order = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a] || a - b);
    return { outputs, shares, order };
  }

  return { model, classify, latency };
}
