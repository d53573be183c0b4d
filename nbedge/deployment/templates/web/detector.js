// A network that finds objects: two maps of cells become boxes, float for float as nbedge does it in Python.
import { network } from "./network.js";

// lowest score of a box, overlap above which the weaker of two boxes of a class is left out, boxes in a picture
const SCORE = 0.3;
const OVERLAP = 0.5;
const MOST = 100;

/** Load the network; return { model, detect, latency }. */
export async function load() {
  const { model, file, answer, latency } = await network();
  const [scores, boxes] = ["scores", "boxes"].map((name) => file.outputs.find((spec) => spec.name === name));

  /** Find objects in RGBA pixels: { outputs, found }; found are { class, score, box }, the surest first. */
  async function detect(rgba, least = SCORE) {
    const outputs = await answer(rgba);
    return { outputs, found: decode(map(outputs.scores, scores), map(outputs.boxes, boxes), least) };
  }

  return { model, detect, latency };
}

/** Return a map of cells, whatever its layout: { channels, height, width, at(channel, y, x) }. */
function map(values, { shape, layout }) {
  const last = layout === "NHWC";
  const [channels, height, width] = last ? [shape[3], shape[1], shape[2]] : shape.slice(1);
  const at = last
    ? (c, y, x) => values[(y * width + x) * channels + c]
    : (c, y, x) => values[(c * height + y) * width + x];
  return { channels, height, width, at };
}

/** Return the boxes in shares of the picture: [left, top, right, bottom]. */
export function decode(scores, sides, least = SCORE) {
  const limit = Math.fround(Math.log(least / (1 - least)));
  const cells = [];
  for (let c = 0; c < scores.channels; c++) {
    for (let y = 0; y < scores.height; y++) {
      for (let x = 0; x < scores.width; x++) {
        const logit = scores.at(c, y, x);
        if (logit >= limit) cells.push({ class: c, logit, box: around(sides, y, x) });
      }
    }
  }
  cells.sort((a, b) => b.logit - a.logit); // stable: of equals the first class and cell
  const kept = [];
  for (const cell of cells) {
    if (kept.length === MOST) break;
    if (!kept.some((other) => other.class === cell.class && overlap(other.box, cell.box) > OVERLAP)) kept.push(cell);
  }
  return kept.map(({ class: c, logit, box }) => ({ class: c, score: Math.fround(1 / (1 + Math.exp(-logit))), box }));
}

function around(sides, y, x) {
  const [left, top, right, bottom] = [0, 1, 2, 3].map((side) => Math.max(sides.at(side, y, x), 0));
  const share = (cells, size) => Math.min(1, Math.max(0, Math.fround(Math.fround(cells) / size)));
  return [
    share(x + 0.5 - left, sides.width), share(y + 0.5 - top, sides.height),
    share(x + 0.5 + right, sides.width), share(y + 0.5 + bottom, sides.height),
  ];
}

/** Return intersection over union. */
function overlap(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const together = area(a) + area(b) - width * height;
  return together > 0 ? (width * height) / together : 0;
}
