// Ten probabilities as small columns, each readable on its own.

import { percent } from "./words.js";

export function makeBars(list) {
  for (let digit = 0; digit < 10; digit++) {
    const item = document.createElement("li");
    const column = document.createElement("span"), name = document.createElement("span");
    column.className = "column";
    name.textContent = digit;
    const value = document.createElement("span");
    value.className = "sr";
    item.append(column, name, value);
    list.append(item);
  }
}

export function setBars(list, probabilities, best) {
  [...list.children].forEach((item, digit) => {
    const share = probabilities?.[digit];
    item.classList.toggle("best", share != null && digit === best);
    // The square root, so that what is unlikely but not impossible can be seen.
    item.style.setProperty("--share", share == null ? 0 : Math.sqrt(share));
    item.lastChild.textContent = share == null ? "" : `: ${percent(share)}`;
    item.title = share == null ? "" : `${digit}: ${percent(share)}`;
  });
}
