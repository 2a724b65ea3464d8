// How long each stage of a prediction took, and what else is worth knowing about it.

import { ms, plural, warningWords } from "./words.js";

const STAGES = { queue: "in the queue", preprocess: "preparing", inference: "reading", store: "storing", total: "in all" };

/** Fills a definition list. */
export function showReceipt(list, { timings_ms: timings, model, batch, warnings, rotated }) {
  const rows = Object.entries(STAGES).map(([stage, name]) => [name, ms(timings[stage])]);
  if (batch) rows.push(["batch", batch.size > 1 ? plural(batch.size, "picture") : "alone"]);
  rows.push(["model", model]);
  if (rotated) rows.push(["turned", `${rotated}° clockwise to be read`]);
  if (warnings.includes("inverted")) rows.push(["noticed", warningWords("inverted")]);
  list.replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function element(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}
