// The overall progress of many uploads.

import { say } from "./say.js";
import { plural } from "./words.js";

/** Fewer pictures than these are told by their cards alone. */
const MANY = 6, SHOWN_FOR = 8000, DRAW_EVERY = 300;
const [box, text, bar] = ["progress", "progress-text", "progress-bar"].map((id) => document.getElementById(id));
let all = 0, read = 0, failed = 0, hiding = 0, drawing = 0;

/** Counts pictures that are uploaded from now on. */
export function begin(count) {
  clearTimeout(hiding);
  if (read + failed === all) all = read = failed = 0;
  all += count;
  show();
}

/** Counts one of them as read, or as failed. */
export function ended(well) {
  if (well) read++;
  else failed++;
  show();
}

/** Counts one of them no more: it was deleted before its end. */
export function left() {
  all--;
  show();
}

/** Draws the last of many changes at once, the others together. */
function show() {
  if (read + failed === all) draw();
  else drawing ||= setTimeout(draw, DRAW_EVERY);
}

function draw() {
  clearTimeout(drawing);
  drawing = 0;
  const done = read + failed, problems = failed ? `, ${failed} could not be read` : "";
  box.hidden = all < MANY;
  bar.max = all;
  bar.value = done;
  bar.hidden = done === all;
  text.textContent = done < all ? `${done.toLocaleString("en")} of ${plural(all, "picture")} read${problems}` : `${plural(read, "picture")} read${problems}.`;
  if (done < all || box.hidden) return;
  say(text.textContent);
  hiding = setTimeout(() => (box.hidden = true), SHOWN_FOR);
}
