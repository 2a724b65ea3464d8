// The canvas: the drawing is classified after every stroke; results of older drawings are ignored.

import { Problem, call, insist, newKey, submission } from "./api.js";
import { setBars } from "./bars.js";
import { Sheet } from "./draw.js";
import { say } from "./say.js";
import { againWords, decisionWords, ms, reasonWords, verdict } from "./words.js";

/** File name of unfinished drawings. They are deleted as soon as they are read, and the history leaves them out. */
export const DRAFT = "digitq-draft.png";
const SETTLE = 5, WAIT = 5, AT_ONCE = 2, LONG = 400;
const HINT = "Draw a digit or a number; it is read after every stroke.";

export class Pad {
  #ui;
  #sheet;
  #timer;
  #version = 0;
  #started = 0;
  #began = 0;
  #busy = 0;

  /** Calls `keep(blob)` with a drawing that is saved. */
  constructor(ui, keep) {
    this.#ui = ui;
    this.#sheet = new Sheet(ui.canvas, () => this.#changed());
    setBars(ui.bars);
    ui.undo.addEventListener("click", () => this.#sheet.undo());
    ui.clear.addEventListener("click", () => this.#sheet.clear());
    ui.keep.addEventListener("click", () => this.#keep(keep));
    ui.width.addEventListener("input", () => (this.#sheet.width = Number(ui.width.value) / 100));
    ui.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#sheet.width = Number(ui.width.value) / 100;
    this.#changed();
  }

  #key(event) {
    const { undo, clear, keep } = this.#ui;
    const button = { Escape: clear, Enter: keep, Backspace: undo, z: event.ctrlKey || event.metaKey ? undo : null }[event.key];
    if (!button || button.disabled) return;
    event.preventDefault();
    button.click();
  }

  #changed() {
    this.#version++;
    const { undo, clear, keep } = this.#ui;
    undo.disabled = clear.disabled = keep.disabled = this.#sheet.empty;
    clearTimeout(this.#timer);
    if (this.#sheet.empty) return this.#blank();
    this.#began = performance.now();
    this.#timer = setTimeout(() => this.#next(), SETTLE);
  }

  /** Classifies the newest drawing, unless it is being classified already. Does not wait for older ones. */
  #next() {
    if (this.#sheet.empty || this.#started === this.#version || this.#busy >= AT_ONCE) return;
    this.#started = this.#version;
    this.#read(this.#version, this.#began);
  }

  #blank() {
    this.#show("", HINT, "");
  }

  async #read(version, began) {
    this.#busy++;
    const slow = setTimeout(() => version === this.#version && this.#show("", "Reading…", ""), LONG);
    try {
      const blob = this.#sheet.toBlob();
      const pause = (seconds, problem) => version === this.#version && this.#show("", againWords(problem, seconds), "");
      const options = { wait: WAIT, priority: "high" };
      let response = await insist(...submission(blob, DRAFT, newKey(), options), pause);
      let prediction = await response.json();
      clearTimeout(slow);
      while (["queued", "running"].includes(prediction.state) && version === this.#version) {
        this.#show("", prediction.queue_position ? `In the queue, ${prediction.queue_position} ahead` : "In the queue…", "");
        response = await insist(`/v1/predictions/${prediction.id}?wait=${WAIT}`, {}, pause);
        prediction = await response.json();
      }
      this.#answered(prediction, version, began);
    } catch (error) {
      if (version === this.#version) this.#show("", error instanceof Problem ? error.message : String(error), "");
    } finally {
      clearTimeout(slow);
      this.#busy--;
      this.#next();
    }
  }

  #answered(prediction, version, began) {
    call(`/v1/predictions/${prediction.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
    if (version !== this.#version) return;
    const took = performance.now() - began;
    performance.measure("draw-to-answer", { start: began, end: performance.now() });
    if (prediction.state !== "succeeded") return this.#show("", prediction.error?.message ?? prediction.state, "failed");
    const [digit, sure] = verdict(prediction), why = reasonWords(prediction);
    this.#show(digit, [sure, ms(took)].filter(Boolean).join(" · "), prediction.decision, why || decisionWords(prediction));
    setBars(this.#ui.bars, prediction.probabilities, prediction.digit);
    say(`Drawing: ${digit}, ${sure}. ${why}`);
  }

  #show(digit, text, decision, why = "") {
    const { answer, digit: big, text: line, why: reason } = this.#ui;
    answer.dataset.decision = decision;
    if (!digit) setBars(this.#ui.bars);
    big.textContent = digit;
    big.style.setProperty("--letters", digit.length || 1);
    line.textContent = text;
    reason.textContent = why;
  }

  #keep(keep) {
    const blob = this.#sheet.toBlob();
    this.#sheet.clear();
    this.#ui.canvas.focus();
    keep(blob);
  }
}
