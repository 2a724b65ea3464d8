// The page of one prediction: its correction, which is kept in this browser, and its deletion.

import { ROOT, getJson, remove } from "../api.js";
import { fix, fixOf, unfix } from "../fixes.js";

const [label, button, trouble] = ["label", "delete", "trouble"].map((id) => document.getElementById(id));
const { prediction: id } = button.dataset;

button.addEventListener("click", async () => {
  if (!confirm(`${button.textContent} this picture? There is no undo here.`)) return;
  try {
    await remove(`/v1/predictions/${id}`);
    unfix({ id });
    location.assign(`${ROOT}/`);
  } catch (problem) {
    trouble.textContent = problem.message;
  }
});
button.disabled = false; // a click before this script has loaded would be lost

// Disabled until its prediction is known: a choice is then kept at once, however soon the page is left.
if (label) {
  try {
    const prediction = await getJson(`/v1/predictions/${id}`);
    label.value = fixOf(id);
    label.addEventListener("change", () => fix(prediction, label.value));
    label.disabled = false;
  } catch (problem) {
    trouble.textContent = problem.message;
  }
}
