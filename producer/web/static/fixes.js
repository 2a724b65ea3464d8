// “That was a …”: corrections, kept in this browser, and handed out as a labelled set.

import { ROOT, call } from "./api.js";
import { zip } from "./zip.js";

const KEY = `digitq.corrections${ROOT}`;
const FOLDER = "pictures/";

const load = () => {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
};

let all = load();
const listeners = new Set();
const tell = (id) => listeners.forEach((listener) => listener(id));

// Another tab has changed them.
addEventListener("storage", (event) => {
  if (event.key !== KEY && event.key !== null) return;
  all = load();
  tell(null);
});

/** `listener(id)` after each change; null if more than one may have changed. */
export const onFix = (listener) => listeners.add(listener);
export const fixOf = (id) => all[id]?.label ?? "";
export const countFixes = () => Object.keys(all).length;

/** label: "0" to "9", "none" for no digit, "" to take the correction back. */
export function fix(prediction, label) {
  all = load();
  if (label) {
    const { filename, digit, confidence, decision } = prediction;
    all[prediction.id] = { label, filename, digit, confidence, decision, at: new Date().toISOString() };
  } else delete all[prediction.id];
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // No room, or not allowed: it holds for as long as the page does.
  }
  tell(prediction.id);
}

const cell = (value) => {
  const text = String(value ?? "").replace(/^[=+\-@\t]/, "'$&");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** Begins with a byte order mark, by which spreadsheets know that it is UTF-8. */
const table = (rows) => new TextEncoder().encode(`\ufeff${["path,label,category,read,confidence,decision,filename,id", ...rows.map((row) => row.map(cell).join(","))].join("\r\n")}\r\n`);

const EXTENSIONS = { "image/jpeg": "jpg", "image/svg+xml": "svg" };

/** The zip, and how many pictures are no longer on the server. `index.csv` is what `digitq evaluate --pictures` reads. */
export async function exportFixes() {
  const digits = [], others = [], pictures = [];
  let gone = 0;
  for (const [id, { label, filename, digit, confidence, decision }] of Object.entries(all)) {
    let blob;
    try {
      blob = await (await call(`/v1/predictions/${id}/image`)).blob();
    } catch (problem) {
      if (![404, 410].includes(problem.status)) throw problem;
      gone++;
      continue;
    }
    const type = blob.type.split(";")[0];
    const path = `${FOLDER}${id}.${EXTENSIONS[type] ?? type.split("/")[1] ?? "bin"}`;
    pictures.push([path, new Uint8Array(await blob.arrayBuffer())]);
    (label === "none" ? others : digits).push([path, label === "none" ? "" : label, "corrected", digit, confidence, decision, filename, id]);
  }
  const files = [["index.csv", table(digits)], ...(others.length ? [["not_digits.csv", table(others)]] : []), ...pictures];
  return { blob: zip(files), count: pictures.length, gone };
}
