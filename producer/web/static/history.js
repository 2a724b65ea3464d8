// What the server has: pages of its history under the filter that is chosen, and how many predictions there are.

import { getJson, insist } from "./api.js";
import { fixedIds } from "./fixes.js";

export const PAGE = 24;
/** The states that a choice of the filter stands for. */
const STATES = { failed: ["failed", "expired", "cancelled"], open: ["queued", "running"] };
const DECISIONS = ["accept", "review", "reject"];

export class History {
  #digit;
  #result;

  /** The two selects of the filter; `changed()` after a choice. */
  constructor(digit, result, changed) {
    [this.#digit, this.#result] = [digit, result];
    for (const select of [digit, result]) select.addEventListener("change", changed);
  }

  get filtered() {
    return Boolean(this.#digit.value || this.#result.value);
  }

  reset() {
    this.#digit.value = this.#result.value = "";
  }

  /** The parameters of a page under the filter. */
  query(cursor, limit = PAGE) {
    const query = new URLSearchParams({ limit }), result = this.#result.value;
    if (this.#digit.value) query.set("digit", this.#digit.value);
    if (DECISIONS.includes(result)) query.set("decision", result);
    if (result in STATES) query.set("state", STATES[result].join());
    if (cursor) query.set("cursor", cursor);
    return query;
  }

  /** `predictions`, `next_cursor`, `total` and `matching`. `onPause(seconds, problem)` while the server does not answer. */
  async page(cursor, { signal, onPause } = {}) {
    const page = await (await insist(`/v1/predictions?${this.query(cursor)}`, { signal }, onPause)).json();
    return this.#result.value === "corrected" ? this.#corrected(page.total, signal) : page;
  }

  async count() {
    return getJson(`/v1/predictions?${this.query(null, 1)}`);
  }

  get countable() {
    return this.#result.value !== "corrected";
  }

  /** The pictures that were corrected in this browser: the server does not know of that. */
  async #corrected(total, signal) {
    const get = (id) => getJson(`/v1/predictions/${id}`, { signal }).catch((problem) => {
      if (![404, 410].includes(problem.status)) throw problem;
    });
    const found = (await Promise.all(fixedIds().map(get))).filter((one) => one && this.#hasDigit(one));
    found.sort((one, other) => (one.submitted_at < other.submitted_at ? 1 : -1));
    return { predictions: found, next_cursor: null, total, matching: found.length };
  }

  #hasDigit({ digit, numbers }) {
    const wanted = this.#digit.value;
    return !wanted || String(digit) === wanted || numbers?.some((number) => number.digits.some((one) => one.decision !== "reject" && String(one.digit) === wanted));
  }

  /** Whether a card is to be seen under the filter. */
  wants({ prediction, corrected, failed }) {
    const result = this.#result.value, { state, decision } = prediction ?? { state: failed ? "failed" : "queued" };
    if (this.#digit.value && !(prediction && this.#hasDigit(prediction))) return false;
    if (result === "corrected") return corrected;
    return !result || (STATES[result]?.includes(state) ?? result === decision);
  }
}
