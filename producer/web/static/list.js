// The list of pictures: uploads, history and filter.

import { ROOT, UploadQueue, getJson } from "./api.js";
import { Card } from "./card.js";
import { onFix } from "./fixes.js";
import { DRAFT } from "./pad.js";
import { plural } from "./words.js";

const PAGE = 24, UPLOADS = 4, FILL = 12, MOST_PAGES = 6, LOOK_EVERY = 1000, LOOK_AT = 6, KEEP_EARLY = 500;

export class List {
  #cards = new Map();
  #uploads = new UploadQueue(UPLOADS);
  #early = new Map();
  #cursor = null;
  #loading = false;
  #elsewhere = new Set();
  #tabs = new BroadcastChannel(`digitq${ROOT}`);
  #ui;

  constructor(ui) {
    this.#ui = ui;
    for (const select of [ui.digit, ui.decision]) select.addEventListener("change", () => this.#filter());
    ui.older.addEventListener("click", () => this.#more());
    ui.newer.addEventListener("click", () => this.#newer());
    onFix((id) => (id ? this.#cards.get(id)?.showFix() : this.#cards.forEach((card) => card.showFix())));
    this.#tabs.addEventListener("message", ({ data }) => this.#told(data));
    setInterval(() => (this.#look(), this.#countNewer()), LOOK_EVERY);
  }

  // ---------------------------------------------------------------- cards

  #make() {
    return new Card({ removed: (card) => this.#remove(card), changed: (card) => this.#changed(card) });
  }

  add(blob, name) {
    const card = this.#make();
    this.#ui.cards.prepend(card.element);
    card.upload(blob, name, this.#uploads).then(() => card.id && this.#tabs.postMessage({ added: card.id }));
    this.#count();
    return card;
  }

  #place(prediction, first) {
    let card = this.#cards.get(prediction.id);
    if (!card) {
      card = this.#make();
      this.#cards.set(prediction.id, card);
      this.#elsewhere.delete(prediction.id);
      this.#ui.cards[first ? "prepend" : "append"](card.element);
    }
    card.show(prediction, { quiet: true });
  }

  #changed(card) {
    if (card.id && !this.#cards.has(card.id)) {
      this.#cards.set(card.id, card);
      this.#elsewhere.delete(card.id);
      const early = this.#early.get(card.id);
      if (early) return card.show(early);
    }
    this.#apply(card);
    this.#count();
  }

  #remove(card) {
    const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
    const focused = card.element.contains(document.activeElement);
    card.element.remove();
    if (card.id) {
      this.#cards.delete(card.id);
      this.#tabs.postMessage({ removed: card.id });
    }
    if (focused) (next?.querySelector("[data-part=remove]") ?? this.#ui.file).focus();
    this.#count();
  }

  // ---------------------------------------------------------------- news from the server and other tabs

  ended(prediction) {
    const card = this.#cards.get(prediction.id);
    if (card) return card.show(prediction);
    this.#early.set(prediction.id, prediction);
    if (prediction.filename !== DRAFT) this.#elsewhere.add(prediction.id);
    if (this.#early.size > KEEP_EARLY) this.#early.delete(this.#early.keys().next().value);
  }

  async #told({ added, removed }) {
    if (removed && this.#cards.has(removed)) {
      const card = this.#cards.get(removed);
      this.#cards.delete(removed);
      card.element.remove();
    }
    if (added && !this.#cards.has(added)) this.#place(await getJson(`/v1/predictions/${added}`), true);
    this.#count();
  }

  /** Polls the unfinished pictures: their queue positions, and results whose events were missed. */
  async #look(most = LOOK_AT) {
    if (document.hidden || !navigator.onLine) return;
    const open = [...this.#cards.values()].filter((card) => !card.ended).slice(0, most);
    await Promise.all(open.map(async (card) => {
      try {
        card.show(await getJson(`/v1/predictions/${card.id}`));
      } catch (problem) {
        if ([404, 410].includes(problem.status)) card.show({ ...card.prediction, state: "failed", error: { code: problem.code } });
      }
    }));
  }

  lookAgain() {
    return this.#look(PAGE);
  }

  // ---------------------------------------------------------------- history

  async start() {
    if (await this.#older(true)) await this.#fill();
  }

  /** Loads further pages while too few cards are visible: predictions may have been deleted or filtered out. */
  async #fill(least = FILL) {
    for (let pages = 0; this.#cursor && pages < MOST_PAGES && this.#shown() < least; pages++) if (!(await this.#older())) return;
  }

  /** Shows more of the history, and moves the focus to the first new card. */
  async #more() {
    const last = this.#ui.cards.lastElementChild;
    await this.#fill(this.#shown() + FILL);
    const cards = [...this.#ui.cards.children];
    cards.slice(cards.indexOf(last) + 1).find((card) => !card.hidden)?.focus();
  }

  #countNewer() {
    const n = this.#elsewhere.size;
    this.#ui.newer.hidden = !n;
    this.#ui.newer.textContent = `Show ${n > PAGE ? `the newest ${PAGE} of ` : ""}${plural(n, "new picture")}`;
  }

  /** Shows the pictures of other clients. Only on request, so that no card moves unasked. */
  async #newer() {
    const page = await getJson(`/v1/predictions?limit=${PAGE}`).catch(() => ({ predictions: [] }));
    for (const prediction of page.predictions.reverse()) if (prediction.filename !== DRAFT) this.#place(prediction, true);
    this.#elsewhere.clear();
    this.#countNewer();
    this.#ui.cards.firstElementChild?.focus();
  }

  async #older(first = false) {
    if (this.#loading) return;
    this.#loading = this.#ui.older.disabled = true;
    try {
      const page = await getJson(`/v1/predictions?limit=${PAGE}${first ? "" : `&cursor=${this.#cursor}`}`);
      for (const prediction of page.predictions) if (prediction.filename !== DRAFT) this.#place(prediction, false);
      this.#cursor = page.next_cursor;
      this.#ui.trouble.textContent = "";
      return true;
    } catch (problem) {
      this.#ui.trouble.textContent = `The earlier pictures cannot be shown. ${problem.message}`;
    } finally {
      this.#loading = this.#ui.older.disabled = false;
      this.#ui.cards.removeAttribute("aria-busy");
      this.#count();
    }
  }

  // ---------------------------------------------------------------- filter

  #matches(card) {
    const { digit, decision } = this.#ui, { prediction, element } = card;
    const how = card.corrected ? "corrected" : prediction?.decision ?? (element.dataset.state === "failed" ? "failed" : "open");
    return (!digit.value || card.digits.includes(digit.value)) && (!decision.value || decision.value === how || (decision.value === prediction?.decision));
  }

  #apply(card) {
    const hidden = !this.#matches(card);
    // A card with the focus stays visible until the filter changes.
    if (hidden && card.element.contains(document.activeElement)) return;
    card.element.hidden = hidden;
  }

  async #filter() {
    for (const element of this.#ui.cards.children) element.hidden = !this.#matches(element.card);
    await this.#fill();
    this.#count();
  }

  #shown() {
    return [...this.#ui.cards.children].filter((element) => !element.hidden).length;
  }

  #count() {
    const all = this.#ui.cards.childElementCount, shown = this.#shown(), filtered = this.#ui.digit.value || this.#ui.decision.value;
    this.#ui.older.hidden = !this.#cursor;
    this.#ui.empty.hidden = all > 0 || this.#loading;
    this.#ui.count.textContent = filtered ? `${shown} of ${plural(all, "picture")}` : all ? plural(all, "picture") : "";
  }
}
