// Deletes all pictures that a filter shows, page by page.

import { getJson, remove } from "../api.js";
import { passing } from "../say.js";
import { plural } from "../words.js";

const AT_ONCE = 5, PAGE = 100;
const [dialog, title, text, button] = ["wipe", "wipe-title", "wipe-text", "wipe-all"].map((id) => document.getElementById(id));

export class Wipe {
  /** Asks for a confirmation. Returns what is to be deleted, or nothing. */
  static async ask(history) {
    const { matching, predictions: [newest] } = await history.count();
    if (!newest) return null;
    title.textContent = history.filtered ? `Delete the ${plural(matching, "picture")} of this filter?` : `Delete all ${plural(matching, "picture")}?`;
    text.textContent = "Also those that are not loaded on this page, with their corrections. Everybody who shares them loses them too.";
    button.textContent = `Delete ${plural(matching, "picture")}`;
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
    return dialog.returnValue === "all" ? new Wipe(history.query(null, PAGE), matching, newest.submitted_at) : null;
  }

  constructor(query, count, until) {
    Object.assign(this, { query, count, until });
  }

  /** Deletes what had been submitted when it was asked for; `told(n)` that n are gone. Returns the ids. */
  async run(told) {
    const gone = new Set();
    let kept = 0;
    told(0);
    try {
      for (let cursor = ""; cursor != null; ) {
        if (cursor) this.query.set("cursor", cursor);
        const page = await getJson(`/v1/predictions?${this.query}`);
        cursor = page.next_cursor;
        const waiting = page.predictions.filter(({ submitted_at: at }) => at <= this.until);
        const work = async () => {
          for (let one; (one = waiting.pop()); ) await remove(`/v1/predictions/${one.id}`).then(() => gone.add(one.id), () => kept++);
        };
        await Promise.all(Array.from({ length: AT_ONCE }, work));
        told(gone.size);
      }
      if (kept) passing("wipe", `${plural(kept, "picture")} could not be deleted: a worker is reading ${kept === 1 ? "it" : "them"}.`);
    } catch (problem) {
      passing("wipe", `Only ${plural(gone.size, "picture")} could be deleted. ${problem.message}`);
    }
    return gone;
  }
}
