// From a file, an address or the camera to RGBA pixels, as they are stored: no colour profile, no premultiplied alpha.

/** Return the ImageData of a Blob. */
export async function decode(blob) {
  const bitmap = await createImageBitmap(await upright(blob), {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  try {
    return grab(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/** Return the ImageData of what can be drawn. Its canvas is thrown away: one that is kept may compute in the GPU. */
export function grab(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** Return a JPEG without its EXIF data, so that it is read as it is stored: nbedge does not turn pictures either. */
async function upright(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return blob;
  const parts = [bytes.subarray(0, 2)];
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda) {
    const end = at + 2 + (bytes[at + 2] << 8) + bytes[at + 3];
    if (bytes[at + 1] !== 0xe1) parts.push(bytes.subarray(at, end));
    at = end;
  }
  return new Blob([...parts, bytes.subarray(at)], { type: "image/jpeg" });
}
