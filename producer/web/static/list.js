// The list of pictures: own uploads on top, then the server's history under the filter.

import { ROOT, UploadQueue, getJson } from "./api.js";
import { Card } from "./card.js";
import { Deleting } from "./deleting.js";
import { onFix } from "./fixes.js";
import { History, PAGE } from "./history.js";
import { Shown } from "./shown.js";
import { DRAFT } from "./pad.js";
import * as progress from "./progress.js";
import { passing } from "./say.js";
import { plural, setNeeded } from "./words.js";

/** Uploads that the browser has at once, and of these those that it sends: the next ones are there when a connection is free. */
const UPLOADS = 32, SENT_AT_ONCE = 5;
const LOOK_EVERY = 1000, LOOK_AT = 6, KEEP_EARLY = 500, TELL_AFTER = 200, FEW = 3;

export class List {
  #cards = new Map();
  #uploads = new UploadQueue(UPLOADS);
  /** Own uploads that have not ended, and those that the server does not know: on their way, or refused. */
  #open = new Set();
  #local = new Set();
  #sending = 0;
  #added = [];
  /** Predictions that have ended and that have no card: of others, or of own uploads whose id is not known yet. */
  #early = new Map();
  #cursor = null;
  #tabs = new BroadcastChannel(`digitq${ROOT}`);
  #ui;
  #history;
  #shown;
  #deleting;
  #loading = null;

  constructor(ui) {
    this.#ui = ui;
    this.#history = new History(ui.digit, ui.decision, () => this.load());
    this.#shown = new Shown(ui, this.#history);
    const gone = (card) => (card.id && this.#tabs.postMessage({ removed: card.id }), this.#forget(card));
    this.#deleting = new Deleting(this.#shown, { gone, reload: () => this.load() });
    ui.older.addEventListener("click", () => this.#more());
    ui.newer.addEventListener("click", () => this.#newer());
    ui.reset.addEventListener("click", () => (this.#history.reset(), this.load(), ui.digit.focus()));
    ui.wipe.addEventListener("click", () => this.#wipe());
    onFix((id) => (id ? this.#cards.get(id)?.showFix() : this.#cards.forEach((card) => card.showFix())));
    this.#tabs.addEventListener("message", ({ data }) => this.#told(data));
    setInterval(() => (this.#look(), this.#countNewer()), LOOK_EVERY);
  }

  #make() {
    return new Card({ deleted: (card) => this.#deleting.one(card), changed: (card) => this.#changed(card) });
  }

  // ---------------------------------------------------------------- own uploads

  /** Uploads [blob, name] pairs; returns the card of the first, which ends up on top. */
  add(pictures) {
    if (this.#history.filtered) {
      this.#history.reset();
      this.load();
    }
    progress.begin(pictures.length);
    const cards = pictures.map(() => this.#make());
    this.#shown.onTop(cards);
    for (const [at, card] of [...cards.entries()].reverse()) this.#upload(card, ...pictures[at]);
    return cards[0].element;
  }

  async #upload(card, blob, name) {
    this.#open.add(card);
    this.#local.add(card);
    this.#sending++;
    await card.upload(blob, name, this.#uploads);
    this.#sending--;
    if (card.id) this.#tellTabs(card.id);
  }

  /** Tells the other tabs of own uploads, of many together. */
  #tellTabs(id) {
    this.#added.push(id);
    if (this.#added.length > 1) return;
    setTimeout(() => this.#tabs.postMessage({ added: this.#added.splice(0) }), TELL_AFTER);
  }

  #changed(card) {
    if (card.id && !this.#cards.has(card.id)) {
      this.#cards.set(card.id, card);
      this.#local.delete(card);
      const early = this.#early.get(card.id);
      this.#early.delete(card.id);
      if (early) return card.show(early);
    }
    if ((card.ended || card.failed) && this.#open.delete(card)) progress.ended(!card.failed);
    this.#shown.apply(card);
    if (this.#sending <= SENT_AT_ONCE) this.#shown.countSoon();
  }

  // ---------------------------------------------------------------- news from the server and other tabs

  ended(prediction) {
    const card = this.#cards.get(prediction.id);
    if (card) return card.show(prediction);
    if (prediction.filename === DRAFT) return;
    this.#early.set(prediction.id, prediction);
    if (this.#early.size > KEEP_EARLY) this.#early.delete(this.#early.keys().next().value);
  }

  async #told({ added = [], removed }) {
    const gone = this.#cards.get(removed);
    gone?.element.remove();
    if (gone) this.#forget(gone);
    this.#shown.countSoon();
    const fresh = added.filter((id) => !this.#cards.has(id));
    if (!fresh.length || this.#history.filtered) return;
    if (fresh.length > FEW) return this.load();
    this.#shown.onTop(this.#cardsOf(await Promise.all(fresh.map((id) => getJson(`/v1/predictions/${id}`)))).reverse());
  }

  /** Polls the unfinished pictures: their queue positions, and results whose events were missed. */
  async #look(most = LOOK_AT) {
    if (document.hidden || !navigator.onLine || this.#sending > SENT_AT_ONCE) return;
    const open = [...this.#cards.values()].filter((card) => !card.ended && card.element.isConnected).slice(0, most);
    await Promise.all(open.map(async (card) => {
      try {
        card.show(await getJson(`/v1/predictions/${card.id}`));
      } catch (problem) {
        if ([404, 410].includes(problem.status)) card.show({ ...card.prediction, state: "failed", error: { code: problem.code } });
      }
    }));
  }

  /** After a time without the server: what may have been missed. */
  async lookAgain() {
    if (this.#shown.broken) return this.load();
    this.#shown.countSoon();
    return this.#look(PAGE);
  }

  /** Says how many pictures of others there are. Own uploads may have ended before their ids are known. */
  #countNewer() {
    const n = this.#early.size;
    if (this.#sending) return;
    this.#ui.newer.hidden = !n;
    this.#ui.newer.textContent = `Show ${n >= KEEP_EARLY ? "many new pictures" : plural(n, "new picture")}`;
  }

  /** Shows the pictures of other clients. Only on request, so that no card moves unasked. */
  async #newer() {
    const many = this.#early.size > PAGE, fresh = [...this.#early.values()].reverse();
    this.#early.clear();
    this.#countNewer();
    if (many) await this.load();
    else this.#shown.onTop(this.#cardsOf(fresh).filter((card) => this.#history.wants(card)));
    this.#shown.countSoon();
    this.#ui.cards.firstElementChild?.focus();
  }

  // ---------------------------------------------------------------- history

  /** Says on all cards, also those that are there, which confidence the model needs. */
  explain(needed) {
    setNeeded(needed);
    this.#cards.forEach((card) => card.explain());
  }

  /** Shows the history from its beginning, under the filter. */
  async load() {
    this.#loading?.abort();
    this.#loading = new AbortController();
    this.#shown.begin([...this.#local].reverse());
    this.#cursor = null;
    this.#early.clear();
    await this.#older();
  }

  async #older() {
    const { signal } = this.#loading;
    this.#ui.older.disabled = true;
    try {
      const page = await this.#history.page(this.#cursor, { signal, onPause: (...why) => signal.aborted || this.#shown.waits(...why) });
      this.#cursor = page.next_cursor;
      this.#shown.append(this.#cardsOf(page.predictions), page);
    } catch (problem) {
      if (signal.aborted) return;
      this.#shown.failed(problem);
    }
    this.#ui.older.disabled = false;
    this.#ui.older.hidden = !this.#cursor;
  }

  /** Shows more of the history, and moves the focus to the first new card. */
  async #more() {
    const last = this.#ui.cards.lastElementChild;
    await this.#older();
    (last ? last.nextElementSibling : this.#ui.cards.firstElementChild)?.focus();
  }

  #cardsOf(predictions) {
    return predictions.filter(({ filename }) => filename !== DRAFT).map((prediction) => {
      const card = this.#cards.get(prediction.id) ?? this.#make();
      this.#cards.set(prediction.id, card);
      this.#early.delete(prediction.id);
      card.show(prediction, { quiet: true });
      return card;
    });
  }

  // ---------------------------------------------------------------- deletion

  #forget(card) {
    if (this.#open.delete(card)) progress.left();
    this.#local.delete(card);
    if (card.id) this.#cards.delete(card.id);
    card.discard();
  }

  /** Deletes everything that the filter shows, also what has not been loaded. */
  async #wipe() {
    const { Wipe } = await import("./later/wipe.js");
    const wipe = await Wipe.ask(this.#history).catch((problem) => passing("wipe", problem.message));
    if (wipe) this.#deleting.all([...this.#ui.cards.children].map(({ card }) => card), wipe);
  }
}
