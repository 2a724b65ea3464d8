// Exports the corrections as a labelled data set.

import { call, getJson } from "../api.js";
import { csv } from "./csv.js";
import { allFixes, digitFixesOf } from "../fixes.js";
import { truthOf } from "../several/written.js";
import { zip } from "./zip.js";

const FOLDER = "pictures/";
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
  for (const [id, { label, digits, filename, ...read }] of allFixes()) {
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
