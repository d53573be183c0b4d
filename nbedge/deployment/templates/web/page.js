// The page: choose, drop or film a picture, and see what the network says of it.
import { load } from "./classifier.js";
import { decode, grab } from "./picture.js";

const TOP = 5;
const FRAME_MS = 150;
const $ = (id) => document.getElementById(id);

let classifier = null;
let stream = null;
let asked = 0;

start();

async function start() {
  try {
    classifier = await load();
  } catch (error) {
    say(`The network could not be loaded: ${error.message ?? error}. Open this page through a web server, not as a file.`);
    document.body.dataset.state = "failed";
    return;
  }
  describe(classifier.model);
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
  $("sample").addEventListener("click", async () => show(await (await fetch(classifier.model.picture.file)).blob()));
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
    const answer = await classifier.classify(pixels);
    const time = await classifier.latency(pixels);
    if (mine !== asked) return;
    paint(pixels);
    list(answer);
    clock(time);
    publish(answer, time);
    say(`This looks like ${classifier.model.classes[answer.order[0]]}.`);
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
    const answer = await classifier.classify(pixels);
    time ??= await classifier.latency(pixels);
    if (!stream || mine !== asked) break;
    paint(pixels);
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

function paint(pixels) {
  const canvas = $("picture");
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.style.imageRendering = pixels.width < 128 ? "pixelated" : "auto";
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  $("zone").classList.add("filled");
}

function list({ shares, order }) {
  const rows = order.slice(0, TOP).map((i) => {
    const row = document.createElement("li");
    const percent = (100 * shares[i]).toFixed(1);
    row.append(part("span", "name", classifier.model.classes[i] ?? `output ${i}`), part("span", "share", `${percent} %`));
    const bar = part("span", "bar", "");
    bar.style.setProperty("--share", `${percent}%`);
    bar.setAttribute("aria-hidden", "true");
    row.append(bar);
    return row;
  });
  $("answers").replaceChildren(...rows);
  $("results").hidden = false;
}

function part(tag, name, text) {
  const made = document.createElement(tag);
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
  globalThis.nbedge = { outputs: Array.from(answer.outputs), shares: answer.shares, latency_ms: time.median };
  document.body.dataset.state = "answered";
}

function say(sentence) {
  $("status").textContent = sentence;
}
