// The card of one picture, from its upload to its deletion.

import { Problem, ROOT, insist, newKey, submission } from "./api.js";
import { setBars } from "./bars.js";
import { drawSoon, unwatch, watch } from "./drawing.js";
import { digitFixesOf, fix, fixOf, isFixed, unfix } from "./fixes.js";
import { isPage, readingOf } from "./reading.js";
import { showReceipt } from "./receipt.js";
import { say } from "./say.js";
import { againWords, decisionWords, likelyWords, ms, pageWords, reasonWords, sentence, stateWords, verdict, warningWords } from "./words.js";

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
  #told = false;

  /** Calls `deleted(card)` when it is to be deleted, `changed(card)` when its state changes. */
  constructor({ deleted, changed }) {
    this.element = template.content.cloneNode(true).firstElementChild;
    for (const part of this.element.querySelectorAll("[data-part]")) this.#part[part.dataset.part] = part;
    this.changed = changed;
    const { remove, again, label, picture } = this.#part;
    remove.addEventListener("click", () => deleted(this));
    again.addEventListener("click", () => (this.#state("sending", "Waiting to be sent"), this.#send()));
    label.addEventListener("change", () => fix(this.prediction, label.value));
    picture.addEventListener("error", () => picture.classList.add("unseen"));
    this.element.card = this;
    watch(this);
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

  /** Whether it was refused, or has ended without being read. */
  get failed() {
    return this.element.dataset.state === "failed" || (this.ended && this.prediction.state !== "succeeded");
  }

  /** The reading of a picture with several digits, else null. */
  get #reading() {
    return this.prediction && isPage(this.prediction) ? readingOf(this.prediction, digitFixesOf(this.id)) : null;
  }

  // ---------------------------------------------------------------- upload

  /** Uploads a picture when the upload queue allows. Resolves once it was accepted or refused. */
  upload(blob, name, uploads) {
    this.#upload = { blob, name, uploads, key: newKey() };
    several().catch(() => {});
    this.#state("sending", "Waiting to be sent");
    drawSoon(this);
    return this.#send();
  }

  async #send() {
    const { blob, name, uploads, key } = this.#upload;
    const [path, options] = submission(blob, name, key, { signal: this.#abort.signal });
    const pause = (seconds, problem) => this.#state("retrying", againWords(problem, seconds));
    try {
      const response = await uploads.run(() => {
        this.#abort.signal.throwIfAborted();
        // Not before what the browser asks for meanwhile: many uploads may wait in it for a connection.
        return insist(path, { ...options, priority: "low" }, pause);
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
    this.prediction = prediction;
    drawSoon(this);
    if (this.ended && !quiet && !this.#told) say(`${this.name}: ${this.#spoken(prediction)}`);
    this.#told ||= quiet || this.ended;
    this.changed(this);
  }

  /** Draws what has changed since the last time. */
  draw() {
    const { prediction } = this, { picture } = this.#part, news = this.element.dataset.state !== prediction?.state;
    this.#title();
    if (this.#upload) this.#url ||= URL.createObjectURL(this.#upload.blob);
    if (!picture.getAttribute("src")) picture.src = this.#url || prediction.links.image;
    if (!prediction) return;
    this.#part.name.href = `${ROOT}/predictions/${prediction.id}`;
    if (prediction.state !== "succeeded") this.#state(prediction.state, stateWords(prediction));
    else if (news) this.#succeeded(prediction);
    this.showFix();
  }

  #succeeded(prediction) {
    const { receipt, total } = this.#part;
    this.element.dataset.decision = prediction.decision;
    if (isPage(prediction)) this.#several(prediction);
    else this.#single(prediction);
    this.explain();
    if (prediction.timings_ms) {
      total.textContent = ms(prediction.timings_ms.total);
      showReceipt(receipt, prediction);
    }
    this.#state("succeeded", "");
  }

  /** Says why a digit is not accepted, and shows the warnings. */
  explain() {
    const { prediction } = this;
    if (prediction?.state !== "succeeded") return;
    const noticed = prediction.warnings.filter((w) => w !== prediction.reason && w !== "inverted");
    this.#part.why.textContent = [isPage(prediction) ? "" : reasonWords(prediction), sentence(noticed.map(warningWords))].filter(Boolean).join(" ");
  }

  #single(prediction) {
    const { digit, sure, chip, seen, bars, row } = this.#part;
    [digit.textContent, sure.textContent] = verdict(prediction);
    chip.textContent = decisionWords(prediction);
    const none = prediction.digit == null;
    this.element.classList.toggle("none", none);
    if (!seen.src && !none) seen.src = `${prediction.links.image}?stage=input`;
    if (prediction.probabilities) setBars(bars, prediction.probabilities, prediction.digit);
    row.setAttribute("aria-label", this.#sentence(prediction));
  }

  /** All that a single digit's card shows, for screen readers. */
  #sentence(prediction) {
    const { digit, decision, probabilities } = prediction, likely = probabilities ? `: ${likelyWords(probabilities)}` : "";
    if (digit == null) return `${decisionWords(prediction)}.`;
    return decision === "reject" ? `${decisionWords(prediction)}${likely}.` : `${digit}, ${decisionWords(prediction).toLowerCase()}${likely}.`;
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

  /** Ends what the card still does, once it is deleted. */
  discard() {
    this.#abort.abort();
    unwatch(this);
    if (this.id) unfix(this.prediction);
    if (this.#url) URL.revokeObjectURL(this.#url);
  }
}
