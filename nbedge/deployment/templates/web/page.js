// The page: choose, drop or film a picture, and see what the network says of it.
import { decode, grab } from "./picture.js";
import { view } from "./view.js";

const FRAME_MS = 150;
const $ = (id) => document.getElementById(id);

let network = null;
let stream = null;
let asked = 0;

start();

async function start() {
  try {
    network = await view();
  } catch (error) {
    say(`The network could not be loaded: ${error.message ?? error}. Open this page through a web server, not as a file.`);
    document.body.dataset.state = "failed";
    return;
  }
  describe(network.model);
  listen();
  say("Ready. The picture stays in this browser.");
  document.body.dataset.state = "ready";
}

function describe(model) {
  const [file] = model.files;
  const [channels, height, width] = file.preprocessing.shape;
  $("facts").textContent = [
    file.file, file.scheme, `${(file.size_bytes / 1000).toFixed(1)} kB`,
    `${width}×${height} ${channels === 1 ? "grey" : "RGB"}`, `${model.classes.length} classes`,
  ].join(" · ");
  $("sample").hidden = !model.picture;
}

function listen() {
  for (const id of ["file", "camera", "sample"]) $(id).disabled = false;
  $("file").addEventListener("change", ({ target }) => target.files[0] && show(target.files[0]));
  $("camera").addEventListener("click", () => (stream ? stop() : film()));
  $("sample").addEventListener("click", async () => show(await (await fetch(network.model.picture.file)).blob()));
  const zone = $("zone");
  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) zone.addEventListener(kind, () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) show(file);
  });
}

async function show(blob) {
  stop();
  const mine = ++asked;
  document.body.dataset.state = "busy";
  try {
    const pixels = await decode(blob);
    const answer = await network.answer(pixels);
    const time = await network.latency(pixels);
    if (mine !== asked) return;
    paint(pixels, answer);
    list(answer);
    clock(time);
    publish(answer, time);
    say(network.sentence(answer));
  } catch (error) {
    if (mine !== asked) return;
    say(`This picture cannot be read: ${error.message ?? error}. Try a PNG or JPEG.`);
    document.body.dataset.state = "failed";
  }
}

async function film() {
  const mine = ++asked;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(`There is no camera to use: ${error.message ?? error}. It needs https:// or localhost, and your permission.`);
    return;
  }
  $("camera").textContent = "Stop the camera";
  const video = document.createElement("video");
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  say("The camera is on.");
  let time = null;
  while (stream && mine === asked) {
    const pixels = grab(video, video.videoWidth, video.videoHeight);
    const answer = await network.answer(pixels);
    time ??= await network.latency(pixels);
    if (!stream || mine !== asked) break;
    paint(pixels, answer);
    list(answer);
    clock(time);
    publish(answer, time);
    await new Promise((resolve) => setTimeout(resolve, FRAME_MS));
  }
}

function stop() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("camera").textContent = "Camera";
}

function paint(pixels, answer) {
  const canvas = $("picture");
  const times = Math.max(1, Math.ceil(network.width / pixels.width));
  canvas.width = pixels.width * times;
  canvas.height = pixels.height * times;
  canvas.style.imageRendering = canvas.width < 128 ? "pixelated" : "auto";
  const plain = new OffscreenCanvas(pixels.width, pixels.height);
  plain.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.drawImage(plain, 0, 0, canvas.width, canvas.height);
  network.draw(context, answer);
  $("zone").classList.add("filled");
}

function list(answer) {
  $("answers").replaceChildren(...network.rows(answer));
  $("results").hidden = false;
}

/** Return a row of the list: a name, a share, and its bar, perhaps in a colour of its own. */
export function part(name, share, colour = "") {
  const row = document.createElement("li");
  const percent = (100 * share).toFixed(1);
  const bar = span("bar", "");
  bar.style.setProperty("--share", `${percent}%`);
  if (colour) bar.style.setProperty("--accent", colour);
  bar.setAttribute("aria-hidden", "true");
  row.append(span("name", name), span("share", `${percent} %`), bar);
  return row;
}

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

function clock({ median, runs }) {
  const digits = median < 1 ? 3 : 1;
  $("latency").textContent = `${median.toFixed(digits)} ms`;
  $("runs").textContent = `a picture, median of ${runs} runs of the network alone, in this browser on this machine`;
}

/** Leave the last answer where a script can read it. */
function publish(answer, time) {
  globalThis.nbedge = { ...network.published(answer), latency_ms: time.median };
  document.body.dataset.state = "answered";
}

function say(sentence) {
  $("status").textContent = sentence;
}
