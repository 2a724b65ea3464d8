// The page: puts its parts together.

import { save } from "./csv.js";
import { MOST, entriesOf, picturesIn } from "./dropped.js";
import { countFixes, exportFixes, onFix } from "./fixes.js";
import { List } from "./list.js";
import { listen } from "./live.js";
import { Pad } from "./pad.js";
import { notice, passing, say } from "./say.js";
import { ms, plural } from "./words.js";

const at = (id) => document.getElementById(id);
const ui = (prefix, ...names) => Object.fromEntries(names.map((name) => [name, at(`${prefix}-${name}`)]));

const list = new List({ ...ui("list", "cards", "digit", "decision", "older", "newer", "empty", "count", "trouble"), file: at("file") });
new Pad(ui("pad", "canvas", "undo", "clear", "keep", "width", "bars", "answer", "digit", "text", "why"), (blob) => list.add(blob, "drawing.png"));

// -------------------------------------------------------------------- pictures come in

function take(files) {
  const pictures = [...files];
  // The first one ends up on top.
  for (const file of pictures.reverse()) list.add(file, file.name || "picture");
  if (pictures.length > 1) say(`${plural(pictures.length, "picture")} taken.`);
}

/** Uploads dropped files, and reports which files of folders were skipped. */
async function takeDropped(entries) {
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
  takeDropped(entriesOf(event.dataTransfer.items));
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) take(files.map((file) => (file.name === "image.png" ? new File([file], "pasted.png", { type: file.type }) : file)));
});

// -------------------------------------------------------------------- what the server tells

const strip = ui("live", "queued", "workers", "rate", "p50", "p95", "dot");

function showStatus(status) {
  const { redis, reason, queued, workers, eta_ms: eta, per_second: rate, p50_ms: p50, p95_ms: p95 } = status;
  strip.dot.dataset.state = !redis || !navigator.onLine ? "bad" : workers.alive ? "good" : "warn";
  notice("redis", redis ? "" : `The service is temporarily unavailable${reason ? `: ${reason}` : ""}. Your pictures are kept here and uploaded when it is back.`);
  notice("workers", redis && !workers.alive ? "No worker is running. Pictures stay queued until one starts." : "");
  const done = queued && eta >= 1000 ? ` · ${ms(eta)}` : "", more = workers?.needed > workers?.alive ? ` of ${workers.needed}` : "";
  strip.queued.textContent = redis ? queued.toLocaleString("en") + done : "–";
  strip.workers.textContent = redis ? `${workers.busy} / ${workers.alive}${more}` : "–";
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
    if (yes) return list.lookAgain();
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
list.start();
