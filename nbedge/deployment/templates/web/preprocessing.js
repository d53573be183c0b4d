// From pixels to a network's input, integer for integer and float for float as nbedge does it in Python.
// Pictures are { width, height, channels, data }, data a Uint8Array or Uint8ClampedArray, row by row.

// bits after the point of Pillow's coefficients
const BITS = 22;

/** Return the pixels of a canvas's RGBA as grey (1 channel, ITU-R 601-2 as in Pillow) or RGB (3); alpha is dropped. */
export function fromRgba({ width, height, data }, channels) {
  const pixels = new Uint8Array(width * height * channels);
  for (let from = 0, to = 0; from < data.length; from += 4, to += channels) {
    if (channels === 1) {
      pixels[to] = (data[from] * 19595 + data[from + 1] * 38470 + data[from + 2] * 7471 + 0x8000) >> 16;
    } else {
      pixels[to] = data[from];
      pixels[to + 1] = data[from + 1];
      pixels[to + 2] = data[from + 2];
    }
  }
  return { width, height, channels, data: pixels };
}

/** Resize a picture, bilinear with antialiasing: Pillow's algorithm, which gives the same integers in every browser. */
export function resize(picture, width, height) {
  // the integers depend on which comes first; the order is that of Pillow 13
  const tallFirst = picture.height > height && picture.height - height > 2 * (picture.width - width);
  return tallFirst
    ? resizeRows(resizeColumns(picture, height), width)
    : resizeColumns(resizeRows(picture, width), height);
}

function resizeColumns(picture, wanted) {
  return picture.height === wanted ? picture : transposed(resizeRows(transposed(picture), wanted));
}

function resizeRows(picture, wanted) {
  const { width, height, channels, data } = picture;
  if (width === wanted) return picture;
  const taps = tapsOf(width, wanted);
  const pixels = new Uint8Array(wanted * height * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < wanted; x++) {
      const { first, weights } = taps[x];
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (BITS - 1);
        for (let i = 0; i < weights.length; i++) {
          sum += data[(y * width + first + i) * channels + c] * weights[i];
        }
        pixels[(y * wanted + x) * channels + c] = Math.min(255, Math.max(0, sum >> BITS));
      }
    }
  }
  return { width: wanted, height, channels, data: pixels };
}

/** Return, for each of `wanted` pixels, which of `size` pixels it is made of and their weights in fixed point. */
function tapsOf(size, wanted) {
  const scale = size / wanted;
  const support = Math.max(scale, 1);
  return Array.from({ length: wanted }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(size, Math.trunc(centre + support + 0.5));
    const real = Array.from({ length: end - first }, (_, i) =>
      Math.max(0, 1 - Math.abs((i + first - centre + 0.5) * (1 / support))));
    const total = real.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: real.map((weight) => Math.trunc(0.5 + (weight / total) * 2 ** BITS)) };
  });
}

function transposed({ width, height, channels, data }) {
  const turned = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        turned[(x * height + y) * channels + c] = data[(y * width + x) * channels + c];
      }
    }
  }
  return { width: height, height: width, channels, data: turned };
}

/** Return what the network takes: (pixel / 255 - mean) / std in the layout and type of the file's input `spec`. */
export function input({ width, height, channels, data }, { mean, std }, spec) {
  const scale = std.map((value) => Math.fround(1 / (255 * value)));
  const shift = mean.map((value, c) => Math.fround(-value / std[c]));
  const first = spec.layout === "NCHW";
  const values = typed(spec.dtype, data.length);
  const integer = quantizer(spec);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < channels; c++) {
      const real = Math.fround(Math.fround(data[i * channels + c] * scale[c]) + shift[c]);
      values[first ? c * width * height + i : i * channels + c] = integer(real);
    }
  }
  return values;
}

const ARRAYS = { float32: Float32Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array };
const LIMITS = { int8: [-128, 127], uint8: [0, 255], int16: [-32768, 32767] };

function typed(dtype, length) {
  return new ARRAYS[dtype](length);
}

function quantizer({ dtype, scale, zero_point }) {
  if (dtype === "float32") return (real) => real;
  const [least, most] = LIMITS[dtype];
  const step = Math.fround(scale || 1);
  return (real) => Math.min(most, Math.max(least, roundHalfEven(Math.fround(real / step)) + zero_point));
}

function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}

/** Return the real values of an output. */
export function output(values, { scale, zero_point }) {
  if (!scale) return Float32Array.from(values);
  return Float32Array.from(values, (value) => (value - zero_point) * Math.fround(scale));
}

/** Return probabilities: the softmax of logits, or what the network gives where it has taken it already. */
export function probabilities(values, head) {
  if (head === "softmax") return Array.from(values);
  const most = Math.max(...values);
  const powers = Array.from(values, (value) => Math.exp(value - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
