// Corrections: kept in this browser, exported as a labelled data set.

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

// Another tab has changed the corrections.
addEventListener("storage", (event) => {
  if (event.key !== KEY && event.key !== null) return;
  all = load();
  tell(null);
});

/** `listener(id)` after each change; null if more than one may have changed. */
export const onFix = (listener) => listeners.add(listener);
export const fixOf = (id) => all[id]?.label ?? "";
export const countFixes = () => Object.keys(all).length;

/** Corrects a picture. `label`: "0" to "9", "none" for no digit, "" to remove the correction. */
export function fix(prediction, label) {
  all = load();
  if (label) {
    const { filename, digit, confidence, decision } = prediction;
    all[prediction.id] = { label, filename, digit, confidence, decision, at: new Date().toISOString() };
  } else delete all[prediction.id];
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // Storage is full or forbidden: the correction lasts as long as the page.
  }
  tell(prediction.id);
}

const cell = (value) => {
  const text = String(value ?? "").replace(/^[=+\-@\t]/, "'$&");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** CSV with a byte order mark, so that spreadsheets read it as UTF-8. */
const table = (rows) => new TextEncoder().encode(`\ufeff${["path,label,category,read,confidence,decision,filename,id", ...rows.map((row) => row.map(cell).join(","))].join("\r\n")}\r\n`);

const EXTENSIONS = { "image/jpeg": "jpg", "image/svg+xml": "svg" };

/** Returns the zip and the number of pictures that are no longer on the server. `digitq evaluate --pictures` reads its `index.csv`. */
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
