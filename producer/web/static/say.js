// Announcements for screen readers, and the notices at the bottom of the page.

const voice = document.getElementById("say");
let pending = [], timer;

/** Announces a text; texts within 300 ms are announced together. */
export function say(text) {
  pending.push(text);
  clearTimeout(timer);
  timer = setTimeout(() => {
    voice.textContent = pending.length > 3 ? `${pending.length} pictures have been read.` : pending.join(" ");
    pending = [];
  }, 300);
}

const banner = document.getElementById("banner");
let reasons = new Map();

/** Shows a notice under a name; an empty text removes it. */
export function notice(name, text) {
  if (text) reasons.set(name, text);
  else reasons.delete(name);
  const shown = reasons.values().next().value ?? "";
  if (banner.textContent !== shown) banner.textContent = shown;
}

/** Shows a notice for `seconds`, before all others. */
export function passing(name, text, seconds = 8) {
  reasons = new Map([[name, text], ...reasons]);
  notice(name, text);
  setTimeout(() => notice(name, ""), seconds * 1000);
}
