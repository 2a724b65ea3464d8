// Corrections: kept in this browser, exported as a labelled data set.

import { ROOT, call, getJson } from "./api.js";
import { csv } from "./csv.js";
import { keyOf, truthOf } from "./reading.js";
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
/** The corrections of a picture with several digits: a map from the box of a digit to its label. */
export const digitFixesOf = (id) => new Map(all[id]?.digits?.map(({ box, label }) => [keyOf(box), label]));
export const isFixed = (id) => id in all;
export const countFixes = () => Object.keys(all).length;

/** Corrects a picture. `label`: "0" to "9", "none" for no digit, "" to remove the correction. */
export const fix = (prediction, label) => keep(prediction, label && { label });

/** Corrects one digit of a picture with several. `label` as for `fix`. */
export function fixDigit(prediction, { box, digit, confidence, decision }, label) {
  const others = (load()[prediction.id]?.digits ?? []).filter((one) => keyOf(one.box) !== keyOf(box));
  const digits = label ? [...others, { label, box, digit, confidence, decision }] : others;
  keep(prediction, digits.length && { digits });
}

/** Removes every correction of a picture. */
export const unfix = (prediction) => isFixed(prediction.id) && keep(prediction, null);

function keep(prediction, correction) {
  all = load();
  if (correction) {
    const { filename, digit, confidence, decision } = prediction;
    all[prediction.id] = { ...correction, filename, digit, confidence, decision, at: new Date().toISOString() };
  } else delete all[prediction.id];
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // Storage is full or forbidden: the correction lasts as long as the page.
  }
  tell(prediction.id);
}

const COLUMNS = ["path", "label", "category", "read", "confidence", "decision", "filename", "id"];
const BOX = ["left", "top", "width", "height"];
const EXTENSIONS = { "image/jpeg": "jpg", "image/svg+xml": "svg" };

/** The picture with its path in the zip; null if it is no longer on the server. */
async function pictureOf(id) {
  try {
    const blob = await (await call(`/v1/predictions/${id}/image`)).blob();
    const type = blob.type.split(";")[0];
    return [`${FOLDER}${id}.${EXTENSIONS[type] ?? type.split("/")[1] ?? "bin"}`, new Uint8Array(await blob.arrayBuffer())];
  } catch (problem) {
    if (![404, 410].includes(problem.status)) throw problem;
    return null;
  }
}

/**
 * Returns the zip and the number of pictures that are no longer on the server. `digitq evaluate --pictures` reads its
 * `index.csv`. Of the pictures with several digits `digits.csv` has a row for each corrected digit, and `manifest.jsonl`, for
 * `digitq evaluate --numbers`, a line for each picture of which no digit is in doubt any more.
 */
export async function exportFixes() {
  const tables = { "index.csv": [COLUMNS], "not_digits.csv": [COLUMNS], "digits.csv": [[...COLUMNS, ...BOX]] };
  const pictures = [], pages = [];
  let gone = 0;
  for (const [id, { label, digits, filename, ...read }] of Object.entries(all)) {
    const picture = await pictureOf(id);
    if (!picture) {
      gone++;
      continue;
    }
    pictures.push(picture);
    const row = (label, { digit, confidence, decision }, box = []) => [picture[0], label, "corrected", digit, confidence, decision, filename, id, ...box];
    const truth = digits && truthOf(await getJson(`/v1/predictions/${id}`), digitFixesOf(id));
    if (truth) pages.push(`${JSON.stringify({ path: picture[0], ...truth })}\n`);
    for (const one of digits ?? []) tables["digits.csv"].push(row(one.label, one, one.box));
    if (label) tables[label === "none" ? "not_digits.csv" : "index.csv"].push(row(label === "none" ? "" : label, read));
  }
  const written = Object.entries(tables).filter(([name, rows]) => name === "index.csv" || rows.length > 1);
  const texts = [...written.map(([name, rows]) => [name, csv(rows)]), ...(pages.length ? [["manifest.jsonl", pages.join("")]] : [])];
  const files = texts.map(([name, text]) => [name, new TextEncoder().encode(text)]);
  return { blob: zip([...files, ...pictures]), count: pictures.length, gone };
}
