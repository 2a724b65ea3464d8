// The card of one picture, from its upload to its deletion.

import { Problem, ROOT, call, insist, newKey, submission } from "./api.js";
import { makeBars, setBars } from "./bars.js";
import { digitFixesOf, fix, fixOf, isFixed, unfix } from "./fixes.js";
import { isPage, readingOf, shown } from "./reading.js";
import { showReceipt } from "./receipt.js";
import { say } from "./say.js";
import { decisionWords, ms, pageWords, reasonWords, sentence, stateWords, verdict, warningWords } from "./words.js";

const template = document.getElementById("card");
/** The code for pictures with several digits, loaded with the first upload or the first of them. */
const several = () => import("./several/page.js");
const ENDED = new Set(["succeeded", "failed", "cancelled", "expired"]);

export class Card {
  prediction = null;
  #part = {};
  #abort = new AbortController();
  #url = "";
  #upload = null;
  #page = null;

  /** Calls `removed(card)` when the card is removed, `changed(card)` when its state changes. */
  constructor({ removed, changed }) {
    this.element = template.content.cloneNode(true).firstElementChild;
    for (const part of this.element.querySelectorAll("[data-part]")) this.#part[part.dataset.part] = part;
    Object.assign(this, { removed, changed });
    const { bars, remove, again, label, picture } = this.#part;
    makeBars(bars);
    remove.addEventListener("click", () => this.delete());
    again.addEventListener("click", () => this.#send());
    label.addEventListener("change", () => fix(this.prediction, label.value));
    picture.addEventListener("error", () => picture.classList.add("unseen"));
    this.element.card = this;
  }

  get id() {
    return this.prediction?.id;
  }

  get ended() {
    return ENDED.has(this.prediction?.state);
  }

  get name() {
    return this.prediction?.filename || this.#upload?.name || "Picture";
  }

  get corrected() {
    return Boolean(this.id) && isFixed(this.id);
  }

  /** The digits that it shows, as strings. */
  get digits() {
    return this.#reading?.digits.map(shown) ?? [fixOf(this.id) || String(this.prediction?.digit ?? "")];
  }

  /** What was read from a picture with several digits, else null. */
  get #reading() {
    return this.prediction && isPage(this.prediction) ? readingOf(this.prediction, digitFixesOf(this.id)) : null;
  }

  // ---------------------------------------------------------------- upload

  /** Shows the picture at once and uploads it when the upload queue allows. Resolves once it was accepted or refused. */
  upload(blob, name, uploads) {
    this.#upload = { blob, name, uploads, key: newKey() };
    this.#url = URL.createObjectURL(blob);
    this.#part.picture.src = this.#url;
    several().catch(() => {});
    this.#title();
    return this.#send();
  }

  async #send() {
    const { blob, name, uploads, key } = this.#upload;
    this.#state("sending", "Waiting to be sent");
    const path = submission(blob, name, key, { signal: this.#abort.signal });
    const pause = (seconds, problem) => this.#state("retrying", `${problem.message} Trying again in ${seconds} s…`);
    try {
      const response = await uploads.run(() => {
        this.#abort.signal.throwIfAborted();
        this.#state("sending", "Sending…");
        return insist(...path, pause);
      });
      this.show(await response.json());
    } catch (error) {
      if (error.name !== "AbortError") this.#refused(error);
    }
  }

  #refused(problem) {
    this.#state("failed", problem.message);
    this.#part.again.hidden = !(problem instanceof Problem) || !problem.worthRetrying;
    say(`${this.name}: ${problem.message}`);
    this.changed(this);
  }

  // ---------------------------------------------------------------- state

  #title() {
    this.#part.name.textContent = this.#part.name.title = this.name;
    this.#part.remove.setAttribute("aria-label", `Delete ${this.name}`);
    this.#part.label.setAttribute("aria-label", `Correct answer for ${this.name}`);
  }

  #state(state, text) {
    this.element.dataset.state = state;
    this.#part.again.hidden = true;
    if (this.#part.state.textContent !== text) this.#part.state.textContent = text;
  }

  /** Shows a prediction of the API. A finished card never becomes unfinished again. */
  show(prediction, { quiet = false } = {}) {
    if (this.ended && !ENDED.has(prediction.state)) return;
    const news = !this.ended;
    this.prediction = prediction;
    this.element.dataset.id = prediction.id;
    this.#title();
    if (!this.#part.picture.getAttribute("src")) this.#part.picture.src = prediction.links.image;
    this.#part.name.href = `${ROOT}/predictions/${prediction.id}`;
    if (prediction.state === "succeeded") this.#succeeded(prediction);
    else this.#state(prediction.state, stateWords(prediction));
    this.showFix();
    if (this.ended && news && !quiet) say(`${this.name}: ${this.#spoken(prediction)}`);
    this.changed(this);
  }

  #succeeded(prediction) {
    const { why, receipt, total } = this.#part;
    this.element.dataset.decision = prediction.decision;
    if (isPage(prediction)) this.#several(prediction);
    else this.#single(prediction);
    const noticed = prediction.warnings.filter((w) => w !== prediction.reason && w !== "inverted");
    why.textContent = [isPage(prediction) ? "" : reasonWords(prediction), sentence(noticed.map(warningWords))].filter(Boolean).join(" ");
    if (prediction.timings_ms) {
      total.textContent = ms(prediction.timings_ms.total);
      showReceipt(receipt, prediction);
    }
    this.#state("succeeded", "");
  }

  #single(prediction) {
    const { digit, sure, chip, seen, bars } = this.#part;
    [digit.textContent, sure.textContent] = verdict(prediction);
    chip.textContent = decisionWords(prediction);
    const none = prediction.digit == null;
    this.element.classList.toggle("none", none);
    if (!seen.src && !none) seen.src = `${prediction.links.image}?stage=input`;
    setBars(bars, prediction.probabilities, prediction.digit);
  }

  async #several(prediction) {
    this.element.classList.add("several", this.#reading.rows.length > 1 || prediction.grid ? "broad" : "line");
    try {
      const { Page } = await several();
      if (this.#page) return;
      this.#page = new Page(prediction, this.#url || prediction.links.image);
      this.#part.row.after(this.#page.element);
    } catch {
      this.#part.why.textContent = "The boxes could not be loaded: reload the page.";
    }
  }

  #spoken(prediction) {
    if (prediction.state !== "succeeded") return stateWords(prediction);
    if (this.#reading) return pageWords(this.#reading, true);
    return `${verdict(prediction).filter(Boolean).join(", ")}. ${reasonWords(prediction)}`;
  }

  showFix() {
    const label = this.id ? fixOf(this.id) : "";
    this.#part.label.value = label;
    this.element.dataset.fixed = label;
    this.#page?.refresh();
  }

  // ---------------------------------------------------------------- deletion

  async delete() {
    try {
      if (this.id) await call(`/v1/predictions/${this.id}`, { method: "DELETE" });
    } catch (problem) {
      if (![404, 410].includes(problem.status)) {
        this.#part.why.textContent = problem.message;
        return say(problem.message);
      }
    }
    say(`${this.name} deleted.`);
    this.remove();
  }

  remove() {
    this.#abort.abort();
    if (this.id) unfix(this.prediction);
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.removed(this);
  }
}
