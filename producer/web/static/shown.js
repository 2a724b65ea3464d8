// What the list shows: the cards, their number, and in words why there are none.

import { againWords } from "./words.js";

const COUNT_AFTER = 400;

export class Shown {
  #ui;
  #history;
  #counts = null;
  /** Pictures that are about to be deleted: the server still has them. */
  #going = 0;
  #state = "loading";
  #counting = 0;

  constructor(ui, history) {
    this.#ui = ui;
    this.#history = history;
  }

  get broken() {
    return this.#state === "failed";
  }

  // ---------------------------------------------------------------- cards

  /** Empties the list but for these cards, until the first page comes. */
  begin(cards) {
    this.#state = "loading";
    this.#ui.trouble.textContent = "";
    this.#ui.older.hidden = true;
    this.#ui.cards.setAttribute("aria-busy", true);
    this.#ui.cards.replaceChildren(...cards.map(({ element }) => element));
    cards.forEach((card) => this.apply(card));
    this.tell();
  }

  onTop(cards) {
    this.#ui.cards.prepend(...cards.map(({ element }) => element));
    this.tell();
  }

  append(cards, { total, matching }) {
    this.#state = "loaded";
    this.#ui.cards.removeAttribute("aria-busy");
    this.#ui.trouble.textContent = "";
    for (const { element } of cards) element.hidden = false;
    this.#ui.cards.append(...cards.filter(({ element }) => !element.isConnected).map(({ element }) => element));
    this.#counts = { total, matching };
    this.tell();
  }

  /** Hides a card that the filter does not want; one with the focus stays. */
  apply(card) {
    const { element } = card, hidden = this.#history.filtered && !this.#history.wants(card);
    if (element.hidden !== hidden && !(hidden && element.contains(document.activeElement))) element.hidden = hidden;
  }

  /** Takes cards out of the list, `count` pictures in all. Returns what puts them back. */
  take(cards, count) {
    const places = cards.map(({ element }) => [element, element.nextElementSibling]);
    const focused = cards.some(({ element }) => element.contains(document.activeElement));
    const next = cards.at(-1)?.element.nextElementSibling ?? cards[0]?.element.previousElementSibling;
    for (const { element } of cards) element.remove();
    if (focused) (next?.querySelector("[data-part=remove]") ?? this.#ui.file).focus();
    this.#going += count;
    this.tell();
    return () => {
      this.#going -= count;
      for (const [element, before] of places.reverse()) this.#ui.cards.insertBefore(element, before?.parentNode === this.#ui.cards ? before : null);
      places.at(-1)?.[0].focus();
      this.tell();
    };
  }

  /** The server deletes all that was taken, one after the other. */
  deletes(done, all) {
    if (!done) this.#going -= all;
    this.#state = "deleting";
    this.tell(`${done.toLocaleString("en")} of ${all.toLocaleString("en")} are gone.`);
    this.countSoon();
  }

  /** The server has deleted `count` predictions. */
  taken(count) {
    this.#going -= count;
    if (this.#counts) for (const name of ["total", "matching"]) this.#counts[name] = Math.max(0, this.#counts[name] - count);
    this.tell();
    this.countSoon();
  }

  // ---------------------------------------------------------------- words

  /** Asks the server how many there are, soon, and once for many changes. */
  countSoon() {
    this.#counting ||= setTimeout(async () => {
      this.#counting = 0;
      if (!this.#history.countable) return this.tell();
      const filter = String(this.#history.query()), counts = await this.#history.count().catch(() => null);
      if (counts && filter === String(this.#history.query())) this.#counts = counts;
      this.tell();
    }, COUNT_AFTER);
  }

  /** The server is asked again in `seconds`. */
  waits(seconds, problem) {
    this.failed({ message: againWords(problem, seconds) });
  }

  failed({ message }) {
    const { cards, trouble } = this.#ui, first = this.#state !== "loaded";
    if (first) this.#state = "failed";
    cards.removeAttribute("aria-busy");
    trouble.textContent = first && !cards.childElementCount ? "" : `Earlier pictures cannot be shown. ${message}`;
    this.tell(message);
  }

  tell(why = this.#ui.text.textContent) {
    const { count, state, title, text, reset, wipe, cards } = this.#ui;
    const { total, matching } = this.#counts ?? {}, { filtered } = this.#history, left = (number) => Math.max(0, number - this.#going).toLocaleString("en");
    count.textContent = total == null ? "" : filtered ? `(${left(matching)} of ${left(total)})` : `(${left(total)})`;
    wipe.disabled = !(matching - this.#going > 0) || !this.#history.countable;
    state.hidden = Array.prototype.some.call(cards.children, (element) => !element.hidden);
    if (state.hidden) return;
    const [heading, words] = {
      loading: ["Loading…", ""],
      deleting: ["Deleting…", why],
      failed: ["The pictures cannot be shown.", why],
      loaded: filtered ? ["No picture matches the filter.", ""] : ["Nothing here yet.", "Draw digits or upload pictures: each becomes a card with its digits and how sure they are."],
    }[this.#state];
    title.textContent = heading;
    text.textContent = words;
    reset.hidden = !(filtered && this.#state === "loaded");
  }
}
