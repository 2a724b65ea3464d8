// The reading of a picture with several digits, and its corrections.

const WEAKEST = ["reject", "review", "accept"];

/** Returns true for a picture that is shown with a box for each digit, false for one that was read as a single digit. */
export const isPage = ({ probabilities, numbers, grid }) => Boolean(numbers?.length || grid) && !probabilities;

/** The key of a box: two digits never share one. */
export const keyOf = (box) => box.join();

/** What a digit is shown as: its correction, `?` where it is rejected, "" where there is none. */
export const shown = ({ digit, decision, label }) => (label === "none" ? "" : label || (decision === "reject" ? "?" : String(digit)));

/** A digit that was corrected counts as accepted. */
const standing = ({ decision, label }) => (label ? "accept" : decision);
const weakest = (digits) => WEAKEST[Math.min(2, ...digits.map((digit) => WEAKEST.indexOf(standing(digit))))];

export const textOf = (digits) => digits.map(shown).join("");

/**
 * Returns `digits` in reading order, `numbers` with text that stand outside a table, `rows` of those numbers, and the
 * table's `cells`, or null; `open` counts the digits by decision. `labels` are the corrections by box.
 */
export function readingOf({ numbers, grid, rotated }, labels = new Map()) {
  const all = numbers.map((number, at) => {
    const digits = number.digits.map((digit) => ({ ...digit, number: at, label: labels.get(keyOf(digit.box)) ?? "" }));
    return { ...number, digits, text: textOf(digits), standing: weakest(digits), corrected: digits.some(({ label }) => label) };
  });
  const digits = all.flatMap((number) => number.digits);
  const cells = grid ? cellsOf(grid, digits) : null;
  const inside = new Set(cells?.flat().flatMap((cell) => cell.digits.map((digit) => digit.number)));
  // What has no digit that could be read, letters for example, is boxed on the picture and left out of the text.
  const texts = all.filter(({ text }, at) => /\d/.test(text) && !inside.has(at));
  const open = { review: 0, reject: 0, accept: 0 };
  for (const digit of digits) open[standing(digit)]++;
  return { digits, numbers: texts, rows: rowsOf(texts, rotated), cells, open };
}

/** Rows of numbers: a number continues the row of the one before it if they are side by side, as in `shared/numbers.py`. */
function rowsOf(numbers, rotated) {
  const axis = rotated % 180 ? 0 : 1, rows = [];
  for (const number of numbers) {
    const one = rows.at(-1)?.at(-1)?.box, other = number.box;
    const shared = one ? Math.min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - Math.max(one[axis], other[axis]) : -1;
    if (one && 2 * shared >= Math.min(one[axis + 2], other[axis + 2])) rows.at(-1).push(number);
    else rows.push([number]);
  }
  return rows;
}

/** The cells of a table, row by row: the digits whose middle is in a cell's box, and their text. */
function cellsOf({ cells, boxes }, digits) {
  const empty = (text) => (text === "." ? "" : text);
  return cells.map((row, r) => [...row].map((text, c) => {
    const [left, top, width, height] = boxes[r][c];
    const own = digits.filter(({ box: [x, y, w, h] }) => x + w / 2 >= left && x + w / 2 < left + width && y + h / 2 >= top && y + h / 2 < top + height);
    return { digits: own, text: own.length ? textOf(own) : empty(text), standing: weakest(own), corrected: own.some(({ label }) => label) };
  }));
}
