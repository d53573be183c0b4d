// What the page shows of a classifier.
import { load } from "./classifier.js";
import { part } from "./page.js";

const TOP = 5;

/** Load the network; return { model, answer, latency, width, draw, rows, sentence, published } for the page. */
export async function view() {
  const { model, classify, latency } = await load();
  const name = (i) => model.classes[i] ?? `output ${i}`;
  return {
    model,
    latency,
    answer: classify,
    width: 0,
    draw: () => {},
    rows: ({ shares, order }) => order.slice(0, TOP).map((i) => part(name(i), shares[i])),
    sentence: ({ order }) => `This looks like ${name(order[0])}.`,
    published: ({ outputs, shares }) => ({ outputs: Array.from(outputs), shares }),
  };
}
