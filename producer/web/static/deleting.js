// Deletes one picture, or all of a filter, once that can no longer be undone.

import { remove } from "./api.js";
import { passing } from "./say.js";
import { offer } from "./undo.js";

export class Deleting {
  #shown;
  #gone;
  #reload;

  /** `gone(card)` after the server has deleted a card's picture; `reload()` shows the history anew. */
  constructor(shown, { gone, reload }) {
    [this.#shown, this.#gone, this.#reload] = [shown, gone, reload];
  }

  one(card) {
    const counted = Number(Boolean(card.id)), undo = this.#shown.take([card], counted);
    offer({ what: card.name, count: 1, undo, commit: (closing) => this.#commit(card, counted, undo, closing) });
  }

  async #commit(card, counted, undo, closing) {
    try {
      if (card.id) await remove(`/v1/predictions/${card.id}`, closing);
      this.#gone(card);
      this.#shown.taken(counted);
    } catch (problem) {
      undo();
      passing("delete", `${card.name} was not deleted. ${problem.message}`);
    }
  }

  /** Deletes what `wipe` was asked for, of which these cards are shown. */
  all(cards, wipe) {
    const undo = this.#shown.take(cards, wipe.count);
    const commit = async (closing) => {
      if (closing) return;  // there is no time for it, and it would stop half-way
      const ids = await wipe.run((done) => this.#shown.deletes(done, wipe.count));
      for (const card of cards) if (!card.id || ids.has(card.id)) this.#gone(card);
      this.#reload();
    };
    offer({ what: "1 picture", count: wipe.count, undo, commit });
  }
}
