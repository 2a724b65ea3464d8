// The dialog that enlarges a picture with its boxes: buttons, keys, the wheel with Ctrl, and two fingers.

import { Boxes } from "./boxes.js";

/** Largest scale, the step of the buttons, and the height in CSS pixels at which a finger hits a digit. */
const MOST = 16, STEP = 1.5, FINGER = 40;
const dialog = document.getElementById("zoom");
const [view, minus, plus] = ["view", "minus", "plus"].map((name) => document.getElementById(`zoom-${name}`));
let zoom = 1, span = 0, page = null, boxes = null;

/** Scales the picture; the point of the view at `x`, `y` stays where it is. */
function scale(to, x = view.clientWidth / 2, y = view.clientHeight / 2) {
  const across = (view.scrollLeft + x) / view.scrollWidth, down = (view.scrollTop + y) / view.scrollHeight;
  zoom = Math.max(1, Math.min(MOST, to));
  boxes.stage.style.setProperty("--zoom", zoom);
  // Not `disabled`: a button that is loses the focus, and with it the dialog its keys.
  minus.setAttribute("aria-disabled", zoom === 1);
  plus.setAttribute("aria-disabled", zoom === MOST);
  view.scrollTo(across * view.scrollWidth - x, down * view.scrollHeight - y);
}

minus.addEventListener("click", () => scale(zoom / STEP));
plus.addEventListener("click", () => scale(zoom * STEP));
dialog.addEventListener("keydown", ({ key }) => ({ "+": plus, "-": minus })[key]?.click());
dialog.addEventListener("close", () => {
  view.replaceChildren();
  page = boxes = null;
});
view.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  const { left, top } = view.getBoundingClientRect();
  scale(zoom * Math.exp(-event.deltaY / 200), event.clientX - left, event.clientY - top);
}, { passive: false });

const spanOf = ([one, other]) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
view.addEventListener("touchstart", ({ touches }) => (span = touches.length === 2 ? spanOf(touches) : 0));
view.addEventListener("touchmove", (event) => {
  const { touches: [one, other], touches } = event;
  if (!span || touches.length !== 2) return;
  event.preventDefault();
  const { left, top } = view.getBoundingClientRect(), now = spanOf(touches);
  scale((zoom * now) / span, (one.clientX + other.clientX) / 2 - left, (one.clientY + other.clientY) / 2 - top);
  span = now;
}, { passive: false });

/**
 * Opens the picture of a page at a scale at which a finger hits a digit. `across` and `down`, from 0 to 1, are the point
 * that is shown in the middle.
 */
export function enlarge(shown, across = 0, down = 0) {
  page = shown;
  boxes = new Boxes(page.source, (digit) => page.press(digit, boxes.image), (digit, label) => page.correct(digit, label));
  boxes.show(page.reading);
  boxes.image.addEventListener("load", () => {
    const heights = page.reading.digits.map(({ box }) => box[3]).sort((a, b) => a - b);
    const middle = (heights[heights.length >> 1] ?? Infinity) * (boxes.stage.clientWidth / boxes.image.naturalWidth);
    if (zoom > 1) return;
    scale(FINGER / middle);
    view.scrollTo(across * view.scrollWidth - view.clientWidth / 2, down * view.scrollHeight - view.clientHeight / 2);
  }, { once: true });
  view.replaceChildren(boxes.stage);
  dialog.showModal();
  scale(1);
}

/** Shows the corrections of the page that is enlarged. */
export const refreshZoom = (changed) => changed === page && boxes.show(page.reading);
