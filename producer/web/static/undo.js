// Deletions that can be taken back for some seconds; only then are they carried out.

import { say } from "./say.js";

const SECONDS = 10;
const [box, text, button] = ["undo", "undo-text", "undo-button"].map((id) => document.getElementById(id));
let pending = [], timer = 0;

/**
 * Offers to take a deletion back: `what` is gone, `count` of them, until `undo()` or `commit(keepalive)` is called.
 * With `keepalive` the page is being closed.
 */
export function offer(deletion) {
  pending.push(deletion);
  const count = pending.reduce((sum, one) => sum + one.count, 0);
  text.textContent = `${count === 1 ? deletion.what : `${count.toLocaleString("en")} pictures`} deleted.`;
  box.hidden = false;
  say(`${text.textContent} Press Control Z to undo.`);
  wait();
}

function wait() {
  clearTimeout(timer);
  timer = setTimeout(commit, SECONDS * 1000);
}

function take() {
  clearTimeout(timer);
  const taken = pending;
  pending = [];
  box.hidden = true;
  return taken;
}

const commit = (keepalive = false) => take().forEach((deletion) => deletion.commit(keepalive === true));

function undo() {
  const taken = take().reverse();
  taken.forEach((deletion) => deletion.undo());
  say("Undone.");
}

button.addEventListener("click", undo);
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=range]), textarea, canvas, dialog");
  if (!pending.length || typing || event.key !== "z" || event.shiftKey || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  undo();
});
// While the button has the focus, or the pointer moves towards it, there is time.
box.addEventListener("focusin", () => clearTimeout(timer));
for (const move of ["focusout", "pointermove"]) box.addEventListener(move, () => pending.length && wait());
addEventListener("pagehide", () => commit(true));
