// The dialog that corrects one digit of several.

import { shown } from "../reading.js";
import { digitWords } from "../words.js";

const dialog = document.getElementById("picker");
const [title, crop, keys, undo] = ["title", "crop", "keys", "undo"].map((name) => document.getElementById(`picker-${name}`));
/** Parts of a digit's size that the crop shows around it. */
const AROUND = 0.5;
let answer = () => {};

const close = (label) => {
  answer(label);
  dialog.close();
};
keys.addEventListener("click", ({ target }) => target.value && close(target.value));
undo.addEventListener("click", () => close(""));
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^\d$/.test(event.key)) close(event.key);
  else if (["Delete", "Backspace"].includes(event.key)) close("none");
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

/** Asks what a digit is, and calls `picked(label)` unless the dialog is dismissed: "0" to "9", "none", "" for as read. */
export function pick(digit, image, picked) {
  answer = picked;
  title.textContent = digitWords(digit);
  undo.hidden = !digit.label;
  for (const key of keys.children) key.setAttribute("aria-pressed", key.value === (digit.label === "none" ? "none" : shown(digit)));
  paint(digit.box, image);
  dialog.showModal();
  (keys.querySelector("[aria-pressed=true]") ?? keys.firstElementChild).focus();
}

function paint([x, y, width, height], image) {
  crop.hidden = !image.naturalWidth;
  if (crop.hidden) return;
  const side = Math.max(width, height) * (1 + 2 * AROUND), left = x + width / 2 - side / 2, top = y + height / 2 - side / 2;
  const context = crop.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, crop.width, crop.height);
  context.drawImage(image, left, top, side, side, 0, 0, crop.width, crop.height);
}
