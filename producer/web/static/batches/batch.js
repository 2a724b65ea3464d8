// One batch: how far it is, and the digits of its pictures.

import { call } from "../api.js";
import { save } from "../later/csv.js";
import { passing } from "../say.js";
import { isPage } from "../reading.js";
import { decisionWords, plural, stateWords, timeWords, verdict } from "../words.js";

const template = document.getElementById("batch");
/** Rows that are shown at once. */
const ROWS = 100;

export class Batch {
  #part = {};
  #abort = new AbortController();
  #batch = null;
  #results = [];
  #drawn = "";

  /** Calls `deleted(batch)` when it is to be deleted or cancelled. */
  constructor(deleted) {
    this.element = template.content.cloneNode(true).firstElementChild;
    for (const part of this.element.querySelectorAll("[data-part]")) this.#part[part.dataset.part] = part;
    const { remove, more, csv, json } = this.#part;
    remove.addEventListener("click", () => deleted(this));
    more.addEventListener("click", () => this.#moreRows());
    csv.addEventListener("click", () => this.#save("csv", "text/csv", "?bom=1"));
    json.addEventListener("click", () => this.#save("ndjson", "application/x-ndjson"));
    this.#details.addEventListener("toggle", () => this.#read());
  }

  get #details() {
    return this.element.querySelector("details");
  }

  get id() {
    return this.#batch?.id;
  }

  get open() {
    return ["queued", "running"].includes(this.#batch?.state);
  }

  get name() {
    return this.#batch?.filename || (this.#batch ? plural(this.#batch.total, "picture") : this.#part.name.textContent);
  }

  get signal() {
    return this.#abort.signal;
  }

  get words() {
    const { total, succeeded, failed, cancelled, skipped } = this.#batch, done = succeeded + failed + cancelled;
    const more = [failed && `${failed.toLocaleString("en")} failed`, cancelled && `${cancelled.toLocaleString("en")} cancelled`, skipped && `${plural(skipped, "file")} skipped`];
    const read = done < total ? `${succeeded.toLocaleString("en")} of ${plural(total, "picture")} read` : `${plural(succeeded, "picture")} read`;
    return `${[read, ...more].filter(Boolean).join(", ")}.`;
  }

  sends(name, why = "Uploading…") {
    this.#part.name.textContent = name;
    this.#part.state.textContent = why;
    this.#part.remove.setAttribute("aria-label", `Cancel the upload of ${name}`);
  }

  refused(problem) {
    this.element.dataset.state = "failed";
    this.#part.state.textContent = problem.message;
    this.#part.remove.setAttribute("aria-label", `Remove ${this.name}`);
  }

  show(batch) {
    this.#batch = batch;
    this.element.dataset.state = batch.state;
    const { name, when, state, bar, remove } = this.#part, { total, succeeded, failed, cancelled } = batch;
    name.textContent = this.name;
    when.textContent = timeWords(batch.submitted_at);
    state.textContent = this.words;
    [bar.max, bar.value, bar.hidden] = [total || 1, succeeded + failed + cancelled, !this.open];
    remove.setAttribute("aria-label", `${this.open ? "Cancel" : "Delete"} batch ${this.name}`);
    remove.title = this.open ? "Cancel" : "Delete";
    if (this.#details.open) this.#read();
  }

  discard() {
    this.#abort.abort();
    this.element.remove();
  }

  // ---------------------------------------------------------------- results

  #answer(kind, query = "") {
    return call(`/v1/batches/${this.id}/results${query}`, { headers: { Accept: kind } });
  }

  /** Reads the results if they have changed. */
  async #read() {
    const { state, succeeded, failed, cancelled } = this.#batch ?? {}, drawn = [state, succeeded, failed, cancelled].join();
    if (!this.#details.open || !this.id || drawn === this.#drawn) return;
    this.#drawn = drawn;
    try {
      const text = await (await this.#answer("application/x-ndjson")).text(), shown = Math.max(ROWS, this.#part.rows.childElementCount);
      this.#results = text.trim().split("\n").map((line) => JSON.parse(line));
      this.#part.rows.replaceChildren(...this.#results.slice(0, shown).map(rowOf));
      this.#tellMore();
    } catch (problem) {
      this.#drawn = "";
      passing("results", `The results cannot be shown. ${problem.message}`);
    }
  }

  #moreRows() {
    const from = this.#part.rows.childElementCount;
    this.#part.rows.append(...this.#results.slice(from, from + ROWS).map(rowOf));
    this.#tellMore();
  }

  #tellMore() {
    const left = this.#results.length - this.#part.rows.childElementCount;
    this.#part.more.hidden = left <= 0;
    this.#part.more.textContent = `Show ${Math.min(ROWS, left)} more of ${left.toLocaleString("en")}`;
  }

  async #save(extension, kind, query) {
    try {
      save(await (await this.#answer(kind, query)).blob(), `${(this.#batch.filename || this.id).replace(/\.\w+$/, "")}-read.${extension}`);
    } catch (problem) {
      passing("results", problem.message);
    }
  }
}

function rowOf(result) {
  const row = document.createElement("tr"), { index, filename, state, grid } = result;
  const read = state === "succeeded", text = !read ? "–" : grid ? tableText(grid) : isPage(result) ? pageText(result) : verdict(result)[0];
  const waits = { queued: "Waiting", running: "Reading…" }[state];
  const cells = [filename || `Picture ${index + 1}`, text, read ? decisionWords(result) : waits ?? stateWords(result)];
  if (result.model) row.title = `Read by model ${result.model}`;
  row.dataset.decision = read ? result.decision : waits ? "" : "failed";
  row.append(...cells.map((text, at) => Object.assign(document.createElement(at ? "td" : "th"), { textContent: text, ...(!at && { scope: "row" }) })));
  return row;
}

const pageText = ({ numbers }) => numbers.map(({ text }) => text).filter(Boolean).join(" ") || "?";
const tableText = ({ cells }) => `table of ${cells.length} × ${cells[0].length} cells`;
