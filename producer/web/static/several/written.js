// The reading of a picture with several digits as text, as the rows of a CSV, as JSON, and as the truth about a page.

import { readingOf, shown, textOf } from "../reading.js";

/** All that was read as text: a line for each row, then the table with tabs between its cells. */
export const textOfPage = ({ rows, cells }) =>
  [...rows.map((row) => row.map(({ text }) => text).join(" ")), ...(cells ?? []).map((row) => row.map(({ text }) => text).join("\t"))].join("\n");

const COLUMNS = ["row", "number", "confidence", "decision", "left", "top", "width", "height"];

/** The rows of a CSV: a table's cells as they are, else a row for each number. */
export function rowsForCsv({ rows, cells }) {
  if (cells) return cells.map((row) => row.map(({ text }) => text));
  const row = (number, at) => [at + 1, number.text, number.confidence, number.corrected ? "corrected" : number.decision, ...number.box];
  return [COLUMNS, ...rows.flatMap((numbers, at) => numbers.map((number) => row(number, at)))];
}

/** The reading as in the API, with the corrections as `corrected` and in the texts. */
export function jsonOfPage(prediction, { digits, cells }) {
  const { id, filename, model, decision, numbers, grid, rotated } = prediction;
  const json = ({ digit, confidence, decision, box, label }) => ({ digit, confidence, decision, box, ...(label && { corrected: label }) });
  const corrected = numbers.map((number, at) => {
    const own = digits.filter((digit) => digit.number === at);
    return { ...number, text: textOf(own.filter((digit) => shown(digit) !== "?")), digits: own.map(json) };
  });
  return { id, filename, model, decision, numbers: corrected, grid: grid && { ...grid, cells: gridRows(cells) }, rotated };
}

/** The cells as the API has them: a string for each row, or a list where a cell holds several digits. */
function gridRows(cells) {
  const texts = cells.map((row) => row.map(({ text }) => text || "."));
  return texts.flat().some((text) => text.length > 1) ? texts : texts.map((row) => row.join(""));
}

/** What a page says for sure, as `manifest.jsonl` of `digitq evaluate --numbers` has it; null while a digit is in doubt. */
export function truthOf(prediction, labels) {
  const { rows, cells, open } = readingOf(prediction, labels);
  if (open.review || open.reject) return null;
  const lines = cells ? gridRows(cells).map((row) => [...row].join("")) : rows.map((row) => row.map(({ text }) => text).join(""));
  return { category: cells ? "grid" : ["negative", "line"][lines.length] ?? "rows", lines };
}
