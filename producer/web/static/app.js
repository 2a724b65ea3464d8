// The page: puts its parts together.

import { getJson } from "./api.js";
import { countFixes, onFix } from "./fixes.js";
import { List } from "./list.js";
import { listen } from "./live.js";
import { Pad } from "./pad.js";
import { notice, passing, say } from "./say.js";
import { modelWords, ms, plural, unavailableWords } from "./words.js";

const at = (id) => document.getElementById(id);
const ui = (prefix, ...names) => Object.fromEntries(names.map((name) => [name, at(`${prefix}-${name}`)]));

const list = new List({ ...ui("list", "cards", "digit", "decision", "older", "newer", "count", "trouble", "state", "title", "text", "reset", "wipe"), file: at("file") });
new Pad(ui("pad", "canvas", "undo", "clear", "keep", "width", "bars", "answer", "digit", "text", "why"), (blob) => list.add([[blob, "drawing.png"]]));

// -------------------------------------------------------------------- pictures come in

/** Files that hold many pictures: a zip, or MNIST's format. */
const MANY = /\.zip$|idx\d-ubyte(\.gz)?$/i;

async function take(files) {
  const pictures = [...files].filter(({ name }) => !MANY.test(name)), many = [...files].filter(({ name }) => MANY.test(name));
  if (pictures.length) reveal(list.add(pictures.map((file) => [file, file.name || "picture"])));
  if (pictures.length > 1) say(`${plural(pictures.length, "picture")} taken.`);
  if (many.length) for (const file of many) (await batches()).upload(file);
  if (many.length && !pictures.length) reveal(at("batches"));
}

/** Scrolls to a new card or batch unless its beginning is in sight: on a phone it is far below. */
function reveal(element) {
  const { top } = element.getBoundingClientRect(), still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (top < 0 || top > innerHeight / 2) element.scrollIntoView({ behavior: still ? "auto" : "smooth" });
}

/** Uploads dropped files, and reports which files of folders were skipped. */
async function takeDropped(entries) {
  const { MOST, picturesIn } = await import("./later/dropped.js");
  const { files, folders, skipped, unread, more } = await picturesIn(entries);
  take(files);
  const told = [
    files.length || !folders.length ? "" : "There are no pictures in what you dropped.",
    skipped ? `${plural(skipped, "file")} skipped: not ${skipped > 1 ? "pictures" : "a picture"}.` : "",
    unread ? `${plural(unread, "file or folder", "files or folders")} could not be opened.` : "",
    more ? `Folders are limited to ${MOST} pictures at once: drop the rest separately.` : "",
  ].filter(Boolean).join(" ");
  if (told) passing("dropped", told);
}

at("file").multiple = true;
// A phone offers its pictures only where nothing else is accepted.
if (!matchMedia("(any-pointer: coarse)").matches) at("file").accept += ",.zip,.gz,application/zip";
for (const input of [at("file"), at("camera")]) {
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
}
at("form").addEventListener("submit", (event) => event.preventDefault());

let depth = 0;
const dragging = (change) => document.body.classList.toggle("dragging", (depth = Math.max(0, change)) > 0);
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => hasFiles(event) && dragging(depth + 1));
addEventListener("dragleave", (event) => hasFiles(event) && dragging(depth - 1));
addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  dragging(0);
  // At once: the browser drops the items after the event.
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  takeDropped(items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile()));
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) take(files.map((file) => (file.name === "image.png" ? new File([file], "pasted.png", { type: file.type }) : file)));
});

// -------------------------------------------------------------------- what the server tells

const strip = ui("live", "queued", "workers", "rate", "p50", "p95", "dot");

/** The models whose thresholds are known or asked for. */
let asked = null;

/** Asks which confidence is needed, once for the models in service: only workers tell the server. */
async function askThresholds(models) {
  asked = models;
  const { thresholds } = await getJson("/v1/model").catch(() => ((asked = null), {}));
  if (thresholds) list.explain(thresholds.accept);
}

function showStatus(status) {
  const { redis, reason, queued, workers, eta_ms: eta, per_second: rate, p50_ms: p50, p95_ms: p95 } = status;
  const models = modelWords(workers);
  if (workers?.alive && models !== asked) askThresholds(models);
  strip.dot.dataset.state = !redis || !navigator.onLine ? "bad" : workers.alive ? "good" : "warn";
  notice("redis", redis ? "" : unavailableWords(reason));
  notice("workers", redis && !workers.alive ? "No worker is running. Pictures stay queued until one starts." : "");
  const done = queued && eta >= 1000 ? ` · ${ms(eta)}` : "", more = workers?.needed > workers?.alive ? `, ${workers.needed} needed` : "";
  strip.queued.textContent = redis ? queued.toLocaleString("en") + done : "–";
  strip.workers.textContent = redis ? `${workers.alive}, ${workers.busy ? `${workers.busy} busy` : "idle"}${more}` : "–";
  strip.workers.title = models;
  strip.rate.textContent = redis ? (rate < 10 ? rate : Math.round(rate).toLocaleString("en")) : "–";
  strip.p50.textContent = redis ? ms(p50) : "–";
  strip.p95.textContent = redis ? ms(p95) : "–";
}

listen({
  prediction: (prediction) => list.ended(prediction),
  reset: () => list.lookAgain(),
  status: showStatus,
  connected(yes) {
    notice("server", yes ? "" : "The server does not answer. Reconnecting…");
    if (yes) return list.lookAgain(), lookForBatches();
    // The last status may be out of date.
    for (const name of ["redis", "workers"]) notice(name, "");
    for (const part of [strip.queued, strip.workers, strip.rate, strip.p50, strip.p95]) part.textContent = "–";
    strip.dot.dataset.state = "bad";
  },
});

function offline() {
  if (!navigator.onLine) strip.dot.dataset.state = "bad";
  notice("offline", navigator.onLine ? "" : "You are offline. Pictures are kept here and uploaded when you are back online.");
}
addEventListener("online", offline);
addEventListener("offline", offline);
offline();

// -------------------------------------------------------------------- corrections

const exporter = at("export");

function showFixes() {
  exporter.disabled = !countFixes();
  exporter.querySelector("span").textContent = countFixes() || "";
}

exporter.addEventListener("click", async () => {
  exporter.disabled = true;
  try {
    const [{ exportFixes }, { save }] = await Promise.all([import("./later/export.js"), import("./later/csv.js")]);
    const { blob, count, gone } = await exportFixes();
    save(blob, `digitq-corrections-${new Date().toISOString().slice(0, 10)}.zip`);
    say(`${plural(count, "picture")} exported.${gone ? ` ${plural(gone, "has", "have")} expired.` : ""}`);
  } catch (problem) {
    passing("export", problem.message);
  } finally {
    showFixes();
  }
});
onFix(showFixes);
showFixes();

// -------------------------------------------------------------------- batches

const LOOK_EVERY = 10_000;
let shown = null;

/** The list of batches, loaded with the first of them. */
const batches = () => (shown ??= import("./batches/batches.js").then(({ Batches }) => new Batches(ui("batches", "list", "more", "trouble"), at("batches"))));

async function lookForBatches() {
  if (document.hidden || !navigator.onLine) return;
  const { batches: [newest] } = await getJson("/v1/batches?limit=1").catch(() => ({ batches: [] }));
  if (newest || shown) (await batches()).look();
}
setInterval(lookForBatches, LOOK_EVERY);

// -------------------------------------------------------------------- the beginning

list.load();
