// The list of batches: zips that are uploaded here, and what others or other programs have sent.

import { batchSubmission, getJson, insist, newKey, remove } from "../api.js";
import { passing, say } from "../say.js";
import { offer } from "../undo.js";
import { Batch } from "./batch.js";

const PAGE = 5, LOOK_EVERY = 1000;

export class Batches {
  #ui;
  #section;
  #shown = new Map();
  /** Ids that are about to be deleted. */
  #going = new Set();
  #cursor = null;
  #older = false;

  constructor(ui, section) {
    this.#ui = ui;
    this.#section = section;
    ui.more.addEventListener("click", () => this.#more());
    setInterval(() => [...this.#shown.values()].some((batch) => batch.open) && this.look(), LOOK_EVERY);
    this.look();
  }

  #make() {
    return new Batch((batch) => this.#delete(batch));
  }

  /** Reads the newest batches again. */
  async look() {
    if (document.hidden) return;
    try {
      const page = await getJson(`/v1/batches?limit=${Math.max(PAGE, Math.min(100, this.#shown.size))}`);
      if (!this.#older) this.#cursor = page.next_cursor;
      this.#show(page.batches, true);
      this.#ui.trouble.textContent = "";
    } catch (problem) {
      this.#ui.trouble.textContent = this.#shown.size ? `The batches may be out of date. ${problem.message}` : `The batches cannot be shown. ${problem.message}`;
    }
    this.#tell();
  }

  #show(found, newest) {
    const fresh = found.filter(({ id }) => !this.#shown.has(id) && !this.#going.has(id)).map(({ id }) => {
      const batch = this.#make();
      this.#shown.set(id, batch);
      return batch;
    });
    for (const one of found) this.#shown.get(one.id)?.show(one);
    this.#ui.list[newest && this.#ui.list.childElementCount ? "prepend" : "append"](...fresh.map(({ element }) => element));
  }

  async #more() {
    const page = await getJson(`/v1/batches?limit=${PAGE}&cursor=${this.#cursor}`).catch((problem) => passing("batches", problem.message));
    if (!page) return;
    [this.#older, this.#cursor] = [true, page.next_cursor];
    this.#show(page.batches, false);
    this.#tell();
  }

  #tell() {
    this.#section.hidden = !this.#ui.list.childElementCount && !this.#ui.trouble.textContent;
    this.#ui.more.hidden = !this.#cursor;
  }

  /** Uploads a zip or an IDX file, however often that takes. */
  async upload(file) {
    const batch = this.#make(), path = batchSubmission(file, newKey(), batch.signal);
    this.#ui.list.prepend(batch.element);
    batch.sends(file.name);
    this.#tell();
    try {
      const found = await (await insist(...path, (seconds, problem) => batch.sends(file.name, `${problem.message} Trying again in ${seconds} s…`))).json();
      this.#shown.get(found.id)?.element.remove();  // another look was quicker
      this.#shown.set(found.id, batch);
      batch.show(found);
      say(`${file.name}: ${batch.words}`);
    } catch (problem) {
      if (problem.name !== "AbortError") batch.refused(problem);
    }
  }

  async #delete(batch) {
    const { id, name, open } = batch;
    if (!id) return batch.discard(), this.#tell();
    // An open batch is cancelled at once: its pictures would be read meanwhile.
    if (open) return remove(`/v1/batches/${id}`).then(() => this.look(), (problem) => passing("batches", problem.message));
    const next = batch.element.nextElementSibling, focused = batch.element.contains(document.activeElement);
    batch.element.remove();
    this.#shown.delete(id);
    this.#going.add(id);
    if (focused) (next?.querySelector("[data-part=remove]") ?? document.getElementById("file")).focus();
    this.#tell();
    const back = () => {
      this.#going.delete(id);
      this.#shown.set(id, batch);
      this.#ui.list.insertBefore(batch.element, next?.parentNode === this.#ui.list ? next : null);
      this.#tell();
      batch.element.querySelector("[data-part=remove]").focus();
    };
    const commit = (closing) => remove(`/v1/batches/${id}`, closing).catch((problem) => (back(), passing("batches", problem.message)));
    offer({ what: `Batch ${name}`, count: 1, undo: back, commit });
  }
}
