// Corrections: kept in this browser.

import { ROOT } from "./api.js";
import { keyOf } from "./reading.js";

const KEY = `digitq.corrections${ROOT}`;

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
export const fixedIds = () => Object.keys(all);
/** All corrections: [id, {label, or digits; and the reading}] of each picture. */
export const allFixes = () => Object.entries(all);
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
