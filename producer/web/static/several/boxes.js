// A box over each digit of a picture: buttons that scale with it. One is in the tab order, arrow keys go to the others.

import { digitWords, plural } from "../words.js";

/** Largest scale of a small picture in a card, and the part of the picture below which boxes have thin borders. */
const LARGEST = 4, FINE = 0.04;
const template = document.getElementById("stage");

export class Boxes {
  #group;
  #digits = [];
  #current = 0;
  #size = null;

  /** Makes the `stage`. `press(digit, event)` is told which box is clicked, `type(digit, label)` what is typed on it. */
  constructor(source, press, type) {
    this.stage = template.content.cloneNode(true).firstElementChild;
    [this.image, this.#group] = this.stage.children;
    this.image.addEventListener("load", () => this.#sized(this.image.naturalWidth, this.image.naturalHeight));
    // A format that this browser does not show, HEIC for example: boxes on plain paper.
    this.image.addEventListener("error", () => this.#unseen());
    this.image.src = source;
    this.#group.addEventListener("click", (event) => press(this.#digits[this.#at(event.target)], event));
    this.#group.addEventListener("focusin", ({ target }) => this.#rove(this.#at(target)));
    this.#group.addEventListener("keydown", (event) => this.#key(event, type));
  }

  #at(button) {
    return [...this.#group.children].indexOf(button);
  }

  /** Shows the digits of a reading; the buttons stay, so that the focus does. */
  show({ digits }) {
    this.#digits = digits;
    const buttons = this.#group.children;
    while (buttons.length < digits.length) this.#group.append(Object.assign(document.createElement("button"), { type: "button", className: "box", tabIndex: -1 }));
    digits.forEach((digit, at) => {
      const button = buttons[at], { label, decision } = digit;
      button.dataset.decision = label ? "corrected" : decision;
      button.dataset.tag = label === "none" ? "×" : label || (decision === "accept" ? digit.digit : `${digit.digit}?`);
      button.setAttribute("aria-label", digitWords(digit));
    });
    this.#group.setAttribute("aria-label", `${plural(digits.length, "box", "boxes")} on the picture: arrow keys move between them, Enter corrects`);
    this.#rove(this.#current);
    if (this.#size) this.#place();
    else if (this.stage.classList.contains("unseen")) this.#unseen();
  }

  #unseen() {
    this.stage.classList.add("unseen");
    const far = (axis) => Math.max(1, ...this.#digits.map(({ box }) => box[axis] + 1.25 * box[axis + 2]));
    this.#sized(far(0), far(1));
  }

  #sized(width, height) {
    this.#size = [width, height];
    this.stage.style.setProperty("--ratio", width / height);
    this.stage.style.setProperty("--most", `${LARGEST * width}px`);
    const heights = this.#digits.map(({ box }) => box[3]).sort((a, b) => a - b);
    this.stage.classList.toggle("fine", heights[heights.length >> 1] < FINE * Math.max(width, height));
    this.#place();
  }

  #place() {
    const [width, height] = this.#size, part = (value, whole) => `${(100 * value) / whole}%`;
    this.#digits.forEach(({ box: [x, y, w, h] }, at) => {
      const left = part(x, width), top = part(y, height);
      Object.assign(this.#group.children[at].style, { left, top, width: part(w, width), height: part(h, height) });
    });
  }

  #rove(at) {
    const buttons = this.#group.children;
    if (!buttons.length) return;
    for (const button of buttons) button.tabIndex = -1;
    this.#current = Math.max(0, Math.min(at, buttons.length - 1));
    buttons[this.#current].tabIndex = 0;
  }

  #key(event, type) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const label = /^\d$/.test(event.key) ? event.key : ["Delete", "Backspace"].includes(event.key) ? "none" : "";
    const next = this.#next(event.key);
    if (!label && next == null) return;
    event.preventDefault();
    if (label) type(this.#digits[this.#current], label);
    else this.#group.children[next]?.focus();
  }

  #next(key) {
    const last = this.#digits.length - 1, at = this.#current;
    const ways = { ArrowRight: () => Math.min(at + 1, last), ArrowLeft: () => Math.max(at - 1, 0), Home: () => 0, End: () => last };
    if (key === "ArrowDown" || key === "ArrowUp") return this.#across(key === "ArrowDown" ? 1 : -1);
    return ways[key]?.();
  }

  /** The nearest box below (1) or above (-1); sideways distance counts double. */
  #across(way) {
    const middle = ({ box: [x, y, w, h] }) => [x + w / 2, y + h / 2];
    const here = this.#digits[this.#current], [x, y] = middle(here);
    const far = (digit) => {
      const [dx, dy] = [middle(digit)[0] - x, (middle(digit)[1] - y) * way];
      return dy > here.box[3] / 2 ? 2 * Math.abs(dx) + dy : Infinity;
    };
    const found = this.#digits.reduce((best, digit) => (far(digit) < far(best) ? digit : best), here);
    return this.#digits.indexOf(found);
  }
}
