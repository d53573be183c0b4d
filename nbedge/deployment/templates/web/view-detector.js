// What the page shows of a detector: boxes in the picture, and a list of them.
import { load } from "./detector.js";
import { part } from "./page.js";

// Okabe and Ito's palette, which colour-blind people tell apart
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442"];
const LISTED = 12;
// a smaller picture is shown larger, so that the words on its boxes can be read
const WIDTH = 640;

/** Load the network; return { model, answer, latency, width, draw, rows, sentence, published } for the page. */
export async function view() {
  const { model, detect, latency } = await load();
  const name = (i) => model.classes[i] ?? `class ${i}`;
  const colour = (i) => COLOURS[i % COLOURS.length];

  function draw(context, { found }) {
    const { width, height } = context.canvas;
    const side = Math.min(width, height);
    const text = Math.max(11, Math.round(side / 34));
    context.lineWidth = Math.max(1, side / 160);
    context.font = `600 ${text}px system-ui, sans-serif`;
    context.textBaseline = "top";
    for (const { class: c, score, box } of [...found].reverse()) {
      const [left, top, right, bottom] = [box[0] * width, box[1] * height, box[2] * width, box[3] * height];
      context.strokeStyle = context.fillStyle = colour(c);
      context.strokeRect(left, top, right - left, bottom - top);
      const label = `${name(c)} ${score.toFixed(2)}`;
      const above = Math.max(0, top - 1.3 * text);
      context.fillRect(left, above, context.measureText(label).width + 0.5 * text, 1.3 * text);
      context.fillStyle = "#fff";
      context.fillText(label, left + 0.25 * text, above + 0.15 * text);
    }
  }

  function sentence({ found }) {
    const counts = new Map();
    for (const { class: c } of found) counts.set(c, (counts.get(c) ?? 0) + 1);
    const said = [...counts].sort(([a], [b]) => a - b).map(([c, number]) => `${number} ${name(c)}`);
    return said.length ? `Found: ${said.join(", ")}.` : "Nothing was found.";
  }

  return {
    model,
    latency,
    answer: detect,
    width: WIDTH,
    draw,
    rows: ({ found }) => found.slice(0, LISTED).map(({ class: c, score }) => part(name(c), score, colour(c))),
    sentence,
    published: ({ outputs, found }) => ({
      outputs: Object.fromEntries(Object.entries(outputs).map(([key, values]) => [key, Array.from(values)])),
      found: found.map((one) => ({ ...one, class: name(one.class) })),
    }),
  };
}
