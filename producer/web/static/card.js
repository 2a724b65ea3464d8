// The card of one picture, from its upload to its deletion.

import { Problem, ROOT, call, insist, newKey, submission } from "./api.js";
import { makeBars, setBars } from "./bars.js";
import { fix, fixOf } from "./fixes.js";
import { say } from "./say.js";
import { WARNINGS, decisionWords, ms, plural, problemWords, reasonWords, sentence, verdict } from "./words.js";

const template = document.getElementById("card");
const ENDED = new Set(["succeeded", "failed", "cancelled", "expired"]);
const STAGES = { queue: "in the queue", preprocess: "preparing", inference: "reading", store: "storing", total: "in all" };

export class Card {
  prediction = null;
  #part = {};
  #abort = new AbortController();
  #url = "";
  #upload = null;

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

  // ---------------------------------------------------------------- upload

  /** Shows the picture at once and uploads it when the upload queue allows. Resolves once it was accepted or refused. */
  upload(blob, name, uploads) {
    this.#upload = { blob, name, uploads, key: newKey() };
    this.#url = URL.createObjectURL(blob);
    this.#part.picture.src = this.#url;
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
    else this.#state(prediction.state, this.#standing(prediction));
    this.showFix();
    if (this.ended && news && !quiet) say(`${this.name}: ${this.#spoken(prediction)}`);
    this.changed(this);
  }

  #standing({ state, queue_position: ahead, error }) {
    if (state === "queued") return ahead ? `In the queue, ${plural(ahead, "picture")} ahead` : "In the queue, next in line";
    if (state === "running") return "A worker is reading it…";
    if (state === "failed") return problemWords({ ...error, detail: error?.message });
    return state === "cancelled" ? "Cancelled." : "Expired before a worker could read it.";
  }

  #succeeded(prediction) {
    const { digit, sure, chip, why, seen, bars, receipt } = this.#part;
    this.element.dataset.decision = prediction.decision;
    [digit.textContent, sure.textContent] = verdict(prediction);
    chip.textContent = decisionWords(prediction);
    const noticed = prediction.warnings.filter((w) => w !== prediction.reason && w !== "inverted");
    why.textContent = [reasonWords(prediction), sentence(noticed.map(warningWords))].filter(Boolean).join(" ");
    if (!seen.src) seen.src = `${prediction.links.image}?stage=input`;
    setBars(bars, prediction.probabilities, prediction.digit);
    if (prediction.timings_ms) this.#receipt(receipt, prediction);
    this.#state("succeeded", "");
  }

  #receipt(list, { timings_ms: timings, model, batch, warnings }) {
    this.#part.total.textContent = ms(timings.total);
    const rows = Object.entries(STAGES).map(([stage, name]) => [name, ms(timings[stage])]);
    if (batch) rows.push(["batch", batch.size > 1 ? plural(batch.size, "picture") : "alone"]);
    rows.push(["model", model]);
    if (warnings.includes("inverted")) rows.push(["noticed", warningWords("inverted")]);
    list.replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  }

  #spoken(prediction) {
    if (prediction.state !== "succeeded") return this.#standing(prediction);
    return `${verdict(prediction).join(", ")}. ${reasonWords(prediction)}`;
  }

  showFix() {
    const label = this.id ? fixOf(this.id) : "";
    this.#part.label.value = label;
    this.element.dataset.fixed = label;
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
    if (this.id && fixOf(this.id)) fix(this.prediction, "");
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.removed(this);
  }
}

const warningWords = (name) => WARNINGS[name] ?? name.replaceAll("_", " ");

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
