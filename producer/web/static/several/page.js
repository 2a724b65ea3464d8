// What a card shows of a picture with several digits: boxes, numbers to copy, the table, and files to save.

import { Boxes } from "./boxes.js";
import { csv, save } from "../later/csv.js";
import { digitFixesOf, fixDigit } from "../fixes.js";
import { pick } from "./picker.js";
import { readingOf } from "../reading.js";
import { say } from "../say.js";
import { digitWords, doubtWords, pageWords, percent } from "../words.js";
import { jsonOfPage, rowsForCsv, textOfPage } from "./written.js";
import { enlarge, refreshZoom } from "./zoom.js";

const template = document.getElementById("page");
/** Height in CSS pixels below which a finger cannot hit a box: the picture is enlarged first. WCAG 2.2, 2.5.8. */
const TOO_SMALL = 24, COPIED_FOR = 1500;

export class Page {
  #prediction;
  #boxes;
  #part = {};
  #drawn = "";

  constructor(prediction, source) {
    this.element = template.content.cloneNode(true).firstElementChild;
    for (const part of this.element.querySelectorAll("[data-part]")) this.#part[part.dataset.part] = part;
    this.#prediction = prediction;
    this.source = source;
    this.#boxes = new Boxes(source, (digit, event) => this.#pressed(digit, event), (digit, label) => this.correct(digit, label));
    const { paper, zoom, all, csv: table, json, scroll } = this.#part;
    paper.prepend(this.#boxes.stage);
    this.#boxes.image.addEventListener("click", ({ offsetX, offsetY, target }) => enlarge(this, offsetX / target.clientWidth, offsetY / target.clientHeight));
    zoom.addEventListener("click", () => enlarge(this));
    all.addEventListener("click", () => copy(textOfPage(this.reading), all));
    table.addEventListener("click", () => this.#save(csv(rowsForCsv(this.reading)), "csv", "text/csv"));
    json.addEventListener("click", () => this.#save(`${JSON.stringify(jsonOfPage(prediction, this.reading), null, 2)}\n`, "json", "application/json"));
    // A table that is wider than the card can be scrolled with the keyboard.
    new ResizeObserver(() => scroll.scrollWidth > scroll.clientWidth ? scroll.setAttribute("tabindex", 0) : scroll.removeAttribute("tabindex")).observe(scroll);
    this.refresh();
  }

  /** Shows the corrections as they are now. */
  refresh() {
    this.reading = readingOf(this.#prediction, digitFixesOf(this.#prediction.id));
    this.#boxes.show(this.reading);
    refreshZoom(this);
    const { sum, numbers, table, scroll, all, csv: file, json } = this.#part, { rows, cells } = this.reading;
    sum.textContent = pageWords(this.reading);
    // What did not change stays, so that the focus does.
    const drawn = JSON.stringify([rows, cells]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    numbers.replaceChildren(...rows.map(rowItem));
    scroll.hidden = !cells;
    numbers.hidden = !rows.length;
    all.hidden = rows.flat().length < 2 && !cells;
    file.hidden = json.hidden = !rows.length && !cells;
    table.tBodies[0].replaceChildren(...(cells ?? []).map(tableRow));
    table.style.setProperty("--columns", cells?.[0].length);
  }

  /** Asks what a digit is; `image` is the picture that it was pressed on. */
  press(digit, image) {
    pick(digit, image, (label) => this.correct(digit, label));
  }

  correct(digit, label) {
    fixDigit(this.#prediction, digit, label);
    say(`${digitWords({ ...digit, label })}.`);
  }

  #pressed(digit, { target, pointerType, detail }) {
    // A key's click has no detail; older Safari does not tell what pressed.
    const finger = detail > 0 && (pointerType ? pointerType === "touch" : matchMedia("(pointer: coarse)").matches);
    if (!finger || target.offsetHeight >= TOO_SMALL) return this.press(digit, this.#boxes.image);
    const { stage } = this.#boxes;
    enlarge(this, target.offsetLeft / stage.clientWidth, target.offsetTop / stage.clientHeight);
  }

  #save(text, extension, type) {
    const name = (this.#prediction.filename || "picture").replace(/\.\w+$/, "");
    save(new Blob([text], { type }), `${name}-read.${extension}`);
  }
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https there is no clipboard but this one.
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "sr" });
    button.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  say(`Copied ${text.length < 40 ? text : "all numbers"}.`);
  button.classList.add("copied");
  setTimeout(() => button.classList.remove("copied"), COPIED_FOR);
}

function element(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** A row of numbers: each with how sure it is, what to do about it, and a button that copies it. */
function rowItem(numbers) {
  const row = element("li", "");
  row.append(...numbers.map((number) => {
    const { text, confidence, standing, corrected } = number, item = element("span", "number");
    const button = element("button", "copy", "Copy");
    button.type = "button";
    button.setAttribute("aria-label", `Copy ${text}`);
    button.addEventListener("click", () => copy(text, button));
    item.dataset.decision = standing;
    const doubt = [corrected ? "corrected" : percent(confidence), doubtWords(standing)].filter(Boolean).join(", ");
    const end = element("span", "end");
    end.append(element("span", "sureness", doubt), button);
    item.append(element("span", "text", text), end);
    return item;
  }));
  return row;
}

function tableRow(cells) {
  const row = document.createElement("tr");
  row.append(...cells.map(({ text, standing, corrected }) => {
    const cell = element("td", "", text);
    cell.dataset.decision = corrected ? "corrected" : standing;
    if (text && standing !== "accept") cell.append(element("span", "sr", `, ${doubtWords(standing)}`));
    return cell;
  }));
  return row;
}
