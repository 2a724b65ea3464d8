// Ten probabilities as small columns. Screen readers get them in words: see `likelyWords`.

import { percent } from "./words.js";

function makeBars(box) {
  for (let digit = 0; digit < 10; digit++) {
    const item = document.createElement("span"), column = document.createElement("span");
    column.className = "column";
    item.append(column, String(digit));
    box.append(item);
  }
}

export function setBars(box, probabilities, best) {
  if (!box.childElementCount) makeBars(box);
  [...box.children].forEach((item, digit) => {
    const share = probabilities?.[digit];
    item.classList.toggle("best", share != null && digit === best);
    // The square root, so that what is unlikely but not impossible can be seen.
    item.style.setProperty("--share", share == null ? 0 : Math.sqrt(share));
    item.title = share == null ? "" : `${digit}: ${percent(share)}`;
  });
}
